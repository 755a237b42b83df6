"""What `analyze` writes says what the run is known to do."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.statement import short_ranges, state
from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse
from kinesphere.analysis.tables import write_analysis
from kinesphere.errors import InputError
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


def test_the_statement_names_the_swinging_residues(analysis: Analysis) -> None:
    statement = state(analysis)
    assert statement.headline.startswith("Residues A:73-108 turn by 41° and travel")
    assert "can be told apart" in statement.certainty
    assert json.dumps(statement.details).count("A:73-108") == 1


def test_a_still_molecule_is_called_still(run: Any) -> None:
    still = replace(run, hinges=())
    statement = state(analyse(still, AnalysisSettings(frames=3)))
    assert statement.headline.startswith("Nothing moves noticeably")


def test_large_errors_are_admitted(run: Any) -> None:
    unsure = replace(run, latents=replace(run.latents, covariance=400.0 * run.latents.covariance))
    assert "hardly be told apart" in state(analyse(unsure, AnalysisSettings(frames=3))).certainty


def test_long_lists_of_ranges_are_cut() -> None:
    assert short_ranges("A:1-5,7-9 B:3", 3) == "A:1-5,7-9 B:3"
    assert short_ranges("A:1-5,7-9 B:3,5-6,9", 3) == "A:1-5,7-9 B:3 and 2 more"


def test_the_component_with_the_largest_motion_comes_first(run: Any) -> None:
    swapped = replace(run.hinges[0], latent=1), replace(run.hinges[1], latent=0)
    components = analyse(replace(run, hinges=swapped), AnalysisSettings(frames=3)).components
    assert components.motion_angstrom[0] > components.motion_angstrom[1]
    assert components.latent.variance_fraction[0] < components.latent.variance_fraction[1]


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


def test_bad_settings_and_latents_are_refused(run: Any) -> None:
    with pytest.raises(InputError, match="--frames"):
        analyse(run, AnalysisSettings(frames=1))
    broken = replace(
        run.latents,
        mean=np.where(np.arange(len(run.latents.mean))[:, None] == 3, np.nan, run.latents.mean),
    )
    with pytest.raises(InputError, match="not finite"):
        analyse(replace(run, latents=broken), AnalysisSettings())
