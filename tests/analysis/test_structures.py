"""Structures of single images, in arrays and in models, are those the run decodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.structures import choose_images, write_structures
from kinesphere.errors import InputError
from kinesphere.io.structure import read_models


def test_npz_holds_every_image(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinesphere.analysis.ensemble.CHUNK_BYTES", 300_000)
    write_structures(tmp_path / "all.npz", run, choose_images(run, 10, None))
    with np.load(tmp_path / "all.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["index"], np.arange(0, 2000, 10))
        assert stored["positions"] == pytest.approx(
            run.structures(np.arange(0, 2000, 10)), abs=1e-4
        )
        first = stored["atom_name"][1], stored["residue"][1], stored["chain"][1]
        assert first == ("CA", 1, "A")
        assert len(stored["chain"]) == run.model.n_atoms


def test_equal_results_are_equal_files(run: Any, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_structures(tmp_path / name, run, np.array([5, 6]))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("name", ["some.pdb", "some.cif", "some.cif.gz"])
def test_models_hold_the_chosen_images(run: Any, tmp_path: Path, name: str) -> None:
    write_structures(tmp_path / name, run, choose_images(run, None, "7,3"))
    _, positions = read_models(tmp_path / name)
    assert positions == pytest.approx(run.structures(np.array([7, 3])), abs=6e-4)


def test_images_are_rows_of_the_particle_file(run: Any) -> None:
    selected = replace(run, latents=replace(run.latents, index=run.latents.index[::-1] + 100))
    assert choose_images(selected, None, "100").tolist() == [1999]


@pytest.mark.parametrize(
    ("every", "images", "message"),
    [
        (2, "1", "both choose"),
        (0, None, "not a step"),
        (None, "1,x", "'x' is not a particle number"),
        (None, "5,2000", "particle 2000 is not in"),
        (None, "", "'' is not a particle number"),
    ],
)
def test_bad_choices_are_refused(
    run: Any, every: int | None, images: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        choose_images(run, every, images)


def test_unknown_formats_and_oversized_text_are_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a format"):
        write_structures(tmp_path / "a.xyz", run, np.array([0]))
    with pytest.raises(InputError, match="too many for a text file"):
        write_structures(tmp_path / "a.pdb", run, np.zeros(40_000, int))
    assert not list(tmp_path.iterdir())
