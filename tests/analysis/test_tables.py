"""What `analyze` writes says what the run is known to do."""

import csv
from pathlib import Path
from typing import Any

import pytest

from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse
from kinesphere.analysis.tables import write_analysis
from kinesphere.io.structure import read_model, read_models


@pytest.fixture(scope="module")
def analysis(run: Any) -> Analysis:
    return analyse(run, AnalysisSettings(frames=7))


@pytest.fixture(scope="module")
def folder(run: Any, analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "analysis"
    write_analysis(run, analysis, path)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_temporary_file_is_left(folder: Path) -> None:
    assert not list(folder.glob(".*"))


def test_tables(run: Any, folder: Path, analysis: Analysis) -> None:
    bodies = rows(folder / "bodies.csv")
    assert [row["residues"] for row in bodies] == ["A:1-72 B:1-36", "A:73-108"]
    assert float(bodies[1]["rotation_range_to_core_degrees"]) == pytest.approx(40.8, abs=0.3)
    assert len(rows(folder / "segments.csv")) == 4
    assert len(rows(folder / "particles.csv")) == len(run.latents.index)
    assert sum(int(row["size"]) for row in rows(folder / "clusters.csv")) == len(run.latents.index)
    nearest = rows(folder / "pc1_nearest_particles.csv")
    score = analysis.components.latent.scores[[int(row["particle"]) for row in nearest], 0]
    assert score == pytest.approx([float(row["pc1"]) for row in nearest], abs=0.2)


def test_the_trajectory_holds_the_decoded_structures(
    run: Any, folder: Path, analysis: Analysis
) -> None:
    _, positions = read_models(folder / "pc1_trajectory.pdb")
    assert positions == pytest.approx(
        run.decode_atoms(analysis.components.traversals[0].latents), abs=6e-4
    )


def test_the_motion_coloured_model_carries_the_fluctuation(
    folder: Path, analysis: Analysis
) -> None:
    model = read_model(folder / "motion_coloured.cif")
    assert model.b_factor[model.centre_atom] == pytest.approx(
        analysis.ensemble.fluctuation_angstrom, abs=0.01
    )


def test_the_chimerax_script_opens_files_that_exist(folder: Path) -> None:
    script = (folder / "open_in_chimerax.cxc").read_text(encoding="utf-8")
    opened = [line.split()[1] for line in script.splitlines() if line.startswith("open ")]
    assert opened == ["motion_coloured.cif", "pc1_trajectory.pdb", "pc2_trajectory.pdb"]
    assert all((folder / name).is_file() for name in opened)
    assert "coordset #2 1,7 loop" in script
