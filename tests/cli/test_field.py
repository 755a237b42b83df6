"""The field from the command line: a run folder, structures of a model that rides along, and what
is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml

from helpers.field_run import BRIEF, N_IMAGES, SHORT, inputs
from kinesphere import load
from kinesphere.cli.main import main
from kinesphere.errors import InputError
from kinesphere.io.mrc import read_map, write_map
from kinesphere.io.structure import read_model

Refused = Callable[..., str]


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be spoilt."""
    return Path(shutil.copytree(made / "set", tmp_path / "set"))


def _field(data: Path, *options: str) -> list[str]:
    return [
        "field",
        *inputs(data),
        "--out",
        str(data.parent / "run"),
        *BRIEF,
        *options,
    ]


def _change_map(
    data: Path, change: Callable[[np.ndarray], np.ndarray], pixel_size: float = 3.0
) -> None:
    density = change(read_map(data / "consensus.mrc").data)
    with mrcfile.new(data / "consensus.mrc", overwrite=True) as file:
        file.set_data(density.astype(np.float32))
        file.voxel_size = pixel_size


def test_run_folder_holds_what_the_design_names(made: Path) -> None:
    run = made / "run"
    document = yaml.safe_load((run / "run.yaml").read_text())
    assert document["method"] == "field"
    assert any("10 Å" in line for line in document["shared_by_half_sets"])
    with np.load(run / "latents.npz") as latents:
        assert sorted(np.unique(latents["half"])) == [1, 2]
        assert latents["mean"].shape == (N_IMAGES, 1)
    with np.load(run / "validation" / "displacement_errors.npz") as errors:
        assert errors["error_angstrom"].shape == (len(errors["index"]), 60)
        assert 10 <= len(errors["index"]) <= 16
    assert (run / "particles.star").exists()
    assert (run / "metrics.csv").exists()


def test_half_sets_of_the_file_are_kept_and_no_tensor_is_shared(made: Path) -> None:
    run = load(made / "run")
    first, second = run.motions[1].state_dict(), run.motions[2].state_dict()
    start = run.reference.points
    shared = {
        name
        for name, value in first.items()
        if value.dtype.is_floating_point and (value == second[name]).all()
    }
    # what depends on the shared start alone, and never learns
    assert shared <= {"anchor", "start", "spacing", "pivots", "radius"}
    assert not (first["reference"] == start).all()


def test_the_same_command_says_that_it_is_done(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["field", *inputs(made / "set"), "--out", str(made / "run"), *BRIEF]) == 0
    assert "finished" in capsys.readouterr().err


def test_structures_of_a_model_that_rides_along(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "some.npz", made / "set" / "model.cif"
    capsys.readouterr()
    assert (
        main(
            [
                "structures",
                str(made / "run"),
                "--model",
                str(model),
                "--images",
                "3,7",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert capsys.readouterr().err.count("density correlation") == 2
    with np.load(out) as stored:
        positions = stored["positions"]
    atoms = read_model(model)
    assert positions.shape == (2, atoms.n_atoms, 3)
    run = load(made / "run").with_model(atoms)
    for half, state in run.carried_model.states.items():
        there = run.decode_atoms(state.z[None], half)[0]
        assert (
            np.linalg.norm(there - atoms.positions_angstrom, axis=1).max()
            < 0.05 + state.residual_angstrom
        )
        assert 0.5 < state.correlation <= 1.0


def test_structures_come_with_errors(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images = made / "set" / "model.cif", [9, 2, 120]
    chosen = ["--model", str(model), "--images", ",".join(map(str, images)), "--errors"]
    for name in ("some.npz", "some.pdb"):
        assert main(["structures", str(made / "run"), *chosen, "--out", str(tmp_path / name)]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "in displacement_error" in printed
    assert "in the B-factor column" in printed
    assert "did not measure" not in printed
    errors = load(made / "run").with_model(read_model(model)).displacement_errors(images)
    with np.load(tmp_path / "some.npz") as stored:
        assert stored["displacement"] == pytest.approx(errors.displacement, abs=1e-4)
        assert stored["displacement_error"] == pytest.approx(errors.total, rel=1e-5)
        assert stored["training_error"].all()
    first = read_model(tmp_path / "some.pdb")
    assert first.b_factor == pytest.approx(errors.total[0][first.residue_index], abs=0.0051)


def test_errors_are_those_of_the_carried_model(made: Path) -> None:
    run = load(made / "run")
    assert run.displacement_errors([3]).total.shape == (1, 60)
    atoms = read_model(made / "set" / "model.cif")
    assert run.with_model(atoms).displacement_errors([3]).total.shape == (1, atoms.n_residues)
    with pytest.raises(InputError, match="no particle 500"):
        run.displacement_errors([500])


def test_errors_of_latents_that_have_none_are_refused(
    made: Path, tmp_path: Path, refused: Refused
) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    with np.load(run / "latents.npz") as stored:
        arrays = dict(stored)
    np.savez(run / "latents.npz", **{**arrays, "covariance": np.zeros_like(arrays["covariance"])})
    assert "is zero throughout" in refused(
        "structures", run, "--errors", "--out", tmp_path / "some.npz"
    )


def test_evaluate_scores_a_model_that_rides_along(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    data = made / "set"
    arguments = [
        "--truth",
        str(data / "truth.npz"),
        "--model",
        str(data / "model.cif"),
        "--no-ideal",
    ]
    assert main(["evaluate", str(made / "run"), *arguments]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["n"] == N_IMAGES
    assert 0.0 < scores["ca_rmsd_median"] < 2.0 * scores["still_rmsd_median"]


def test_reports_and_analysis_open_a_field_run(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made / "run", tmp_path / "run"))
    assert main(["analyze", str(copy), "--clusters", "2"]) == 0
    assert (copy / "analysis").is_dir()
    assert main(["report", str(copy), "--clusters", "2", "--beside", str(made / "run")]) == 0
    assert "A run of kinesphere field on the same particles" in (copy / "report.html").read_text()


def test_bonds_of_a_model_are_used_with_a_warning(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--model",
        str(made / "set" / "model.cif"),
        "--regularise-with-model",
        "--epochs",
        "1",
    ]
    capsys.readouterr()
    brief = SHORT
    assert (
        main(
            [
                "field",
                *inputs(made / "set"),
                "--out",
                str(tmp_path / "run"),
                *brief,
                *options,
            ]
        )
        == 0
    )
    assert "Model bias" in capsys.readouterr().err
    document = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert any("biased towards that model" in line for line in document["shared_by_half_sets"])


def test_map_of_another_box_or_pixel_size(data: Path, refused: Refused) -> None:
    _change_map(data, lambda density: density, pixel_size=2.0)
    line = refused(*_field(data))
    assert "consensus.mrc" in line
    assert "64.0 Å" in line


def test_map_of_the_wrong_sign(data: Path, refused: Refused) -> None:
    _change_map(data, lambda density: -density)
    assert "inverted" in refused(*_field(data))


def test_images_of_the_wrong_sign(data: Path, refused: Refused) -> None:
    with mrcfile.open(data / "particles.mrcs", mode="r+") as file:
        file.set_data(-file.data)
    assert "--invert-contrast" in refused(*_field(data))


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
def test_map_with_voxels_that_are_not_numbers(data: Path, refused: Refused) -> None:
    def spoil(density: np.ndarray) -> np.ndarray:
        density = density.copy()
        density[3, 4, 5] = np.nan
        return density

    _change_map(data, spoil)
    assert "not finite" in refused(*_field(data))


def test_empty_map(data: Path, refused: Refused) -> None:
    _change_map(data, np.zeros_like)
    assert "no molecule" in refused(*_field(data))


def test_moved_map(data: Path, refused: Refused) -> None:
    _change_map(data, lambda density: np.roll(density, 6, axis=0))
    line = refused(*_field(data))
    assert "consensus.mrc" in line
    assert "not where the images show it" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threshold", "1000"), "above the largest density"),
        (("--n-gaussians", "1000000"), "--n-gaussians"),
        (("--n-gaussians", "0"), "--n-gaussians"),
        (("--regularise-with-model",), "needs the bonds of a model"),
        (("--validation-fraction", "0.9"), "--validation-fraction"),
        (("--distance-weight", "-1"), "--distance-weight"),
        (("--map-resolution-angstrom", "0"), "--map-resolution-angstrom"),
    ],
)
def test_options_that_cannot_be_meant(
    data: Path, refused: Refused, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(*_field(data, *options))


def test_one_half_set_is_empty(data: Path, refused: Refused) -> None:
    star = data / "particles.star"
    head, table = star.read_text().split("data_particles")
    labels = [line.split()[0] for line in table.splitlines() if line.startswith("_rln")]
    column = labels.index("_rlnRandomSubset")
    rows = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) == len(labels):
            fields[column] = "1"
        rows.append(" ".join(fields))
    star.write_text(f"{head}data_particles{chr(10).join(rows)}\n")
    line = refused(*_field(data))
    assert "half set 2 has 0" in line


def test_resampled_map_of_the_same_field_of_view_is_taken(data: Path) -> None:
    density = read_map(data / "consensus.mrc")
    coarse = density.data.reshape(16, 2, 16, 2, 16, 2).mean((1, 3, 5))
    write_map(data / "consensus.mrc", np.roll(coarse, 0), 6.0)
    assert (
        main(
            [
                "field",
                *inputs(data),
                "--out",
                str(data.parent / "run"),
                *BRIEF,
                "--ignore-misfit",
            ]
        )
        == 0
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--inference", "vae"),
        ("--decoder", "network"),
        ("--n-classes", "2"),
        ("--validation-fraction", "0"),
    ],
    ids=lambda options: options[0],
)
def test_every_way_of_running_ends_with_finite_latents(
    made: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    assert (
        main(
            [
                "field",
                *inputs(made / "set"),
                "--out",
                str(run),
                *BRIEF,
                *options,
            ]
        )
        == 0
    )
    with np.load(run / "latents.npz") as latents:
        assert np.isfinite(latents["mean"]).all()
        assert (latents["std"] > 0).all()
    assert (run / "validation").exists() == ("--validation-fraction" not in options)


def test_stopped_in_the_second_half_set_and_continued_equals_uninterrupted(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        "field",
        *inputs(made / "set"),
        "--out",
        str(tmp_path / "run"),
        *BRIEF,
    ]
    lines = []

    def stop_at_third_epoch(metrics: dict[str, float], _: int) -> str:
        lines.append(metrics)
        if len(lines) == 3:  # two passes of half set 1, one of half set 2
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr("kinesphere.runs.job._epoch_line", stop_at_third_epoch)
        assert main(command) == 130
    assert not (tmp_path / "run" / "latents.npz").exists()
    assert main(command) == 0
    for name in ("latents.npz", "validation/displacement_errors.npz"):
        with np.load(made / "run" / name) as expected, np.load(tmp_path / "run" / name) as found:
            for key in expected:
                assert np.array_equal(expected[key], found[key]), f"{name}: {key}"
