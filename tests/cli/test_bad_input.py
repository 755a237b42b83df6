"""What a user can get wrong: one line that names the file or option and the way out, exit code 2,
no debris."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers.small_set import simulate_set
from kinesphere.cli.main import main
from kinesphere.io.mrc import read_map, write_map
from kinesphere.io.structure import read_model, write_model

Refused = Callable[..., str]
BRIEF = ("--epochs", "1", "--latent-dim", "1", "--n-nodes", "4", "--threads", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A particle set with a model and a map that belong to it, and a run that has hardly begun to
    learn."""
    folder = tmp_path_factory.mktemp("made")
    simulate_set(folder / "set", 120, seed=4)
    assert main(["segments", *_inputs(folder / "set"), "--out", str(folder / "run"), *BRIEF]) == 0
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be spoilt."""
    return Path(shutil.copytree(made / "set", tmp_path / "set"))


def _inputs(data: Path) -> list[str]:
    return [
        str(data / "particles.star"),
        "--model",
        str(data / "model.cif"),
        "--map",
        str(data / "consensus.mrc"),
    ]


def _segments(data: Path) -> list[str]:
    return ["segments", *_inputs(data), "--out", str(data.parent / "run"), *BRIEF]


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def _without_column(text: str, name: str) -> str:
    """Leave one column out of the particle table of a star file, its numbers included."""
    head, table = text.split("data_particles")
    lines = table.splitlines()
    labels = [line.split()[0] for line in lines if line.startswith("_rln")]
    position = labels.index(f"_{name}")
    kept = []
    for line in lines:
        fields = line.split()
        if line.startswith(f"_{name} "):
            continue
        kept.append(
            " ".join(fields[:position] + fields[position + 1 :])
            if len(fields) == len(labels)
            else line
        )
    return f"{head}data_particles{chr(10).join(kept)}\n"


def _change_stack(data: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with mrcfile.open(data / "particles.mrcs") as file:
        images, voxel = file.data.copy(), file.voxel_size.copy()
    with mrcfile.new(data / "particles.mrcs", overwrite=True) as file:
        file.set_data(change(images).astype(np.float32))
        file.set_image_stack()
        file.voxel_size = voxel


def _with_nan(images: np.ndarray) -> np.ndarray:
    images[17, 3, 4] = np.nan
    return images


def _place_model(data: Path, place: Callable[[np.ndarray], np.ndarray]) -> None:
    model = read_model(data / "model.cif")
    write_model(data / "model.cif", model.with_positions(place(model.positions_angstrom)))


def _turned(positions: np.ndarray) -> np.ndarray:
    middle = positions.mean(0)
    return Rotation.from_euler("y", 90, degrees=True).apply(positions - middle) + middle


# ---- particle files
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["segments", "inspect", "preprocess"])
def test_particle_file_that_is_not_there(data: Path, refused: Refused, command: str) -> None:
    (data / "particles.star").unlink()
    assert "particles.star" in refused(*_particle_command(command, data))


@pytest.mark.parametrize("command", ["segments", "preprocess"])
def test_stack_that_is_not_there(data: Path, refused: Refused, command: str) -> None:
    (data / "particles.mrcs").unlink()
    line = refused(*_particle_command(command, data))
    assert "particles.mrcs" in line


@pytest.mark.parametrize("command", ["segments", "preprocess"])
def test_stack_shorter_than_the_star_file(data: Path, refused: Refused, command: str) -> None:
    _change_stack(data, lambda images: images[:90])
    line = refused(*_particle_command(command, data))
    assert "particles.mrcs" in line
    assert "90" in line


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
@pytest.mark.parametrize("command", ["segments", "preprocess"])
def test_pixels_that_are_not_numbers(data: Path, refused: Refused, command: str) -> None:
    _change_stack(data, _with_nan)
    line = refused(
        *_particle_command(command, data), *(["--normalise"] if command == "preprocess" else [])
    )
    assert "image 18" in line
    assert "particles.mrcs" in line


@pytest.mark.parametrize("column", ["rlnAngleRot", "rlnDefocusU", "rlnImageName"])
def test_missing_column(data: Path, refused: Refused, column: str) -> None:
    _rewrite(data / "particles.star", lambda text: _without_column(text, column))
    line = refused(*_segments(data))
    assert "particles.star" in line
    assert column in line


def test_empty_particle_table(data: Path, refused: Refused) -> None:
    _rewrite(
        data / "particles.star",
        lambda text: "\n".join(x for x in text.splitlines() if "@" not in x) + "\n",
    )
    assert "no particles" in refused(*_segments(data))


@pytest.mark.parametrize(
    "content", ["", "nothing that a star file would say\n", "version https://git-lfs.github.com"]
)
@pytest.mark.parametrize("command", ["segments", "inspect", "preprocess"])
def test_file_of_another_kind(data: Path, refused: Refused, command: str, content: str) -> None:
    (data / "particles.star").write_text(content)
    assert "particles.star" in refused(*_particle_command(command, data))


def test_number_that_is_none(data: Path, refused: Refused) -> None:
    _rewrite(
        data / "particles.star",
        lambda text: text.replace("000007@particles.mrcs", "000007@particles.mrcs x", 1),
    )
    assert "particles.star" in refused(*_segments(data))


def test_inverted_stack(data: Path, refused: Refused) -> None:
    _change_stack(data, np.negative)
    line = refused(*_segments(data))
    assert "--invert-contrast" in line
    assert main([*_segments(data), "--invert-contrast"]) == 0


def test_images_of_nothing(data: Path, refused: Refused) -> None:
    rng = np.random.default_rng(0)
    _change_stack(data, lambda images: rng.normal(size=images.shape))
    assert "do not show the model" in refused(*_segments(data))


def _particle_command(command: str, data: Path) -> list[str]:
    if command == "segments":
        return _segments(data)
    out = ["--out", str(data.parent / "processed")] if command == "preprocess" else []
    return [command, str(data / "particles.star"), *out]


# ---- map and model
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.cif", "consensus.mrc"])
def test_model_or_map_that_is_not_there(data: Path, refused: Refused, file: str) -> None:
    (data / file).unlink()
    assert file in refused(*_segments(data))


@pytest.mark.parametrize("file", ["model.cif", "consensus.mrc"])
def test_empty_model_or_map(data: Path, refused: Refused, file: str) -> None:
    (data / file).write_bytes(b"")
    assert file in refused(*_segments(data))


def test_map_of_another_pixel_size(data: Path, refused: Refused) -> None:
    density = read_map(data / "consensus.mrc")
    write_map(data / "consensus.mrc", density.data, 2.5)
    line = refused(*_segments(data))
    assert "consensus.mrc" in line
    assert "80.0 Å" in line
    assert "96.0 Å" in line


def test_map_of_another_box(data: Path, refused: Refused) -> None:
    density = read_map(data / "consensus.mrc")
    write_map(data / "consensus.mrc", density.data[4:-4, 4:-4, 4:-4], density.pixel_size_angstrom)
    assert "72.0 Å" in refused(*_segments(data))


@pytest.mark.parametrize("with_map", [True, False])
def test_model_beside_the_molecule(data: Path, refused: Refused, *, with_map: bool) -> None:
    _place_model(data, lambda positions: positions + np.array([0.0, 0.0, 30.0]))
    arguments = _segments(data)
    if not with_map:
        del arguments[4:6]
    line = refused(*arguments)
    assert "model.cif" in line
    assert any(f"(+0 +0 {shift})" in line for shift in range(-33, -26)) or "outside" in line


def test_model_far_outside(data: Path, refused: Refused) -> None:
    _place_model(data, lambda positions: positions + 500.0)
    assert "outside the particles' box" in refused(*_segments(data))


def test_model_turned(data: Path, refused: Refused) -> None:
    _place_model(data, _turned)
    line = refused(*_segments(data))
    assert "model.cif" in line
    assert "turned by about 90°" in line
    assert "--ignore-misfit" in line
    assert main([*_segments(data), "--ignore-misfit"]) == 0


def test_model_without_polymer(data: Path, refused: Refused) -> None:
    zinc = "HETATM    1 ZN    ZN A   1      48.000  48.000  48.000  1.00  0.00          ZN\nEND\n"
    (data / "model.cif").unlink()
    (data / "ions.pdb").write_text(zinc)
    arguments = [argument.replace("model.cif", "ions.pdb") for argument in _segments(data)]
    line = refused(*arguments)
    assert "ions.pdb" in line
    assert "no protein or nucleic residue" in line


# options


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--ranges", "A:1"), ["--ranges", "'A:1'", "A:1-120"]),
        (("--ranges", "Q:1-20"), ["--ranges", "'Q:1-20'"]),
        (("--seed", "-1"), ["--seed", "-1"]),
        (("--device", "gpu"), ["--device", "gpu"]),
        (("--threads", "0"), ["--threads"]),
        (("--epochs", "0"), ["--epochs"]),
        (("--batch-size", "0"), ["--batch-size"]),
        (("--latent-dim", "0"), ["--latent-dim"]),
        (("--n-segments", "-3"), ["--n-segments"]),
        (("--resolution-angstrom", "nan"), ["--resolution-angstrom"]),
        (("--epochs", "many"), ["--epochs", "many"]),
        (("--objective", "guess"), ["--objective"]),
        (("--epoch", "3"), ["--epoch", "--epochs"]),
        (("surplus.star",), ["surplus.star"]),
    ],
)
def test_option_that_cannot_be_meant(
    data: Path, refused: Refused, option: tuple[str, ...], words: list[str]
) -> None:
    arguments = _segments(data)
    if option[0] in arguments:
        position = arguments.index(option[0])
        del arguments[position : position + 2]
    line = refused(*arguments, *option)
    for word in words:
        assert word in line


def test_gpu_where_there_is_none(
    data: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--device cpu" in refused(*_segments(data), "--device", "cuda")


def test_required_option_left_out(data: Path, refused: Refused) -> None:
    assert "--model" in refused("segments", data / "particles.star", "--out", data.parent / "run")
    assert "--out" in refused("preprocess", data / "particles.star")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "31"], "--box"),
        (["--snr", "0"], "--snr"),
        (["--box", "16"], "--box"),
        (["--n", "-5"], "--n"),
        (["--seed", "-5"], "--seed"),
        (["--hinge", "A:1-20/A:21/0/30"], "--hinge"),
        (["absent.pdb"], "absent.pdb"),
    ],
)
def test_simulation_that_cannot_be_meant(
    tmp_path: Path, refused: Refused, options: list[str], words: str
) -> None:
    quick = [] if "--n" in options else ["--n", "4"]
    assert words in refused("simulate", *options, *quick, "--out", tmp_path / "simulated")


# folders


@pytest.mark.parametrize("command", ["segments", "preprocess", "simulate", "demo"])
def test_output_folder_that_cannot_be(data: Path, refused: Refused, command: str) -> None:
    blocked = data / "model.cif" / "inside"
    arguments = {
        "segments": _segments(data),
        "simulate": ["simulate", "--n", "4"],
        "demo": ["demo"],
    }
    chosen = [*arguments.get(command, _particle_command("preprocess", data)), "--out", str(blocked)]
    if chosen.count("--out") == 2:
        first = chosen.index("--out")
        del chosen[first : first + 2]
    assert "model.cif" in refused(*chosen)


def test_output_folder_that_holds_something_else(data: Path, refused: Refused) -> None:
    (data.parent / "run").mkdir()
    (data.parent / "run" / "thesis.tex").write_text("chapter one")
    assert "holds no run" in refused(*_segments(data))
    assert "not an empty folder" in refused("demo", "--out", data.parent / "run")


def test_folder_of_a_run_with_other_options(made: Path, refused: Refused) -> None:
    arguments = ["segments", *_inputs(made / "set"), "--out", str(made / "run"), *BRIEF]
    line = refused(*arguments, "--seed", "5")
    assert "run.yaml" in line
    assert "seed = 0, not 5" in line


def test_folder_of_a_run_on_other_particles(made: Path, data: Path, refused: Refused) -> None:
    _rewrite(data / "particles.star", lambda text: text.replace("\n", "\n# changed\n", 1))
    line = refused("segments", *_inputs(data), "--out", made / "run", *BRIEF)
    assert str(data / "particles.star") in line


def test_same_particles_by_another_path_continue_a_run(made: Path, data: Path) -> None:
    assert main(["segments", *_inputs(data), "--out", str(made / "run"), *BRIEF]) == 0


def test_paths_relative_to_another_folder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELION's image names are relative to the project folder, wherever the program is called
    from."""
    project = tmp_path / "project"
    (project / "Extract" / "job001").mkdir(parents=True)
    (project / "Refine3D" / "job002").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(made / "set" / "particles.mrcs", project / "Extract" / "job001")
    star = project / "Refine3D" / "job002" / "run_data.star"
    text = (made / "set" / "particles.star").read_text()
    star.write_text(text.replace("@particles.mrcs", "@Extract/job001/particles.mrcs"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    arguments = [
        "../project/Refine3D/job002/run_data.star",
        "--model",
        str(made / "set" / "model.cif"),
    ]
    assert main(["segments", *arguments, "--out", "run", *BRIEF]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "elsewhere/run", "--frames", "3"]) == 0
    assert main(["inspect", "elsewhere/run/particles.star"]) == 0


# runs

ON_RUNS = {
    "analyze": (),
    "report": (),
    "structures": ("--out", "structures.npz"),
    "evaluate": ("--truth", "truth.npz"),
}


def _on_run(command: str, run: Path, data: Path) -> list[str]:
    extra = [str(data / word) if word.endswith(".npz") else word for word in ON_RUNS[command]]
    return [command, str(run), *extra]


@pytest.mark.parametrize("command", ON_RUNS)
def test_run_that_is_none(data: Path, refused: Refused, command: str) -> None:
    assert "absent" in refused(*_on_run(command, data / "absent", data))
    assert "run.yaml" in refused(*_on_run(command, data, data))


@pytest.mark.parametrize("command", ON_RUNS)
def test_unfinished_run(made: Path, data: Path, refused: Refused, command: str) -> None:
    run = Path(shutil.copytree(made / "run", data.parent / "unfinished"))
    (run / "latents.npz").unlink()
    line = refused(*_on_run(command, run, data))
    assert "has not finished" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["structures", "RUN", "--out", "s.xyz"], ".xyz"),
        (["structures", "RUN", "--out", "s.npz", "--images", "500"], "500"),
        (["structures", "RUN", "--out", "s.npz", "--images", "one"], "--images"),
        (["structures", "RUN", "--out", "s.npz", "--every", "0"], "--every"),
        (["structures", "RUN", "--out", "s.npz", "--model", "absent.pdb"], "absent.pdb"),
        (["analyze", "RUN", "--components", "0"], "components"),
        (["analyze", "RUN", "--clusters", "0"], "clusters"),
        (["analyze", "RUN", "--frames", "1"], "frames"),
        (["report", "RUN", "--clusters", "-1"], "clusters"),
        (["evaluate", "RUN", "--truth", "absent.npz"], "absent.npz"),
        (["evaluate", "RUN", "--truth", "SET/model.cif"], "model.cif"),
        (["evaluate", "RUN", "--truth", "SET/truth.npz", "--hinge", "nowhere"], "nowhere"),
        (["evaluate", "RUN", "--truth", "SET/truth.npz", "--distance", "A:1-3"], "A:1-3"),
    ],
)
def test_what_is_asked_of_a_run(
    made: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [
        part.replace("RUN", str(made / "run")).replace("SET", str(made / "set"))
        for part in arguments
    ]
    assert words in refused(*filled)
