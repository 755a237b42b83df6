"""A truth is matched to the model residue by residue, and refused where it cannot be the truth of
the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.evaluation.truth import Truth, read_truth
from kinesphere.io.structure import read_model
from kinesphere.simulate.ensembles import Ensemble


def arrays(**changes: object) -> dict[str, object]:
    """Three images of two states of two residues."""
    good = {
        "coordinate": np.array([[0.0], [1.0], [1.0]], np.float32),
        "state": np.array([0, 1, 1], np.int32),
        "ca_states": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "chain": np.array(["A", "A"]),
        "resid": np.array([7, 8], np.int32),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "truth.npz"
    np.savez(path, **arrays(**changes))
    return path


def test_reads_what_the_contract_names(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path))
    assert truth.n_states == 2
    assert truth.populations == pytest.approx([1 / 3, 2 / 3])
    assert truth.state_coordinate.ravel().tolist() == [
        0.0,
        1.0,
    ]  # from the images that show each state
    assert truth.insertion_code is None


def test_a_state_that_no_image_shows_has_no_coordinate(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, state=np.array([1, 1, 1]), coordinate=np.full(3, 0.25)))
    assert np.isnan(truth.state_coordinate[0, 0])
    assert truth.state_coordinate[1, 0] == 0.25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_states": None, "chain": None}, "has no ca_states and no chain"),
        ({"ca_states": np.zeros((2, 3))}, "ca_states of shape (2, 3)"),
        ({"ca_states": np.full((2, 2, 3), np.nan)}, "finite"),
        ({"state": np.array([0, 1, 2])}, "states 0 to 2 do not fit 2 ca_states"),
        ({"state": np.array([0.0, 1.0, 1.0])}, "whole number"),
        ({"coordinate": np.zeros((4, 1))}, "coordinate of shape (4, 1)"),
        ({"resid": np.array([7, 8, 9])}, "resid of shape (3,)"),
        ({"resid": np.array(["7", "8A"])}, "not whole numbers"),
        ({"icode": np.array([""])}, "icode of shape (1,)"),
        ({"state_coordinate": np.zeros((3, 1))}, "state_coordinate of shape (3, 1)"),
        ({"chain": np.array(["A", None], dtype=object)}, "no NumPy archive of plain arrays"),
    ],
)
def test_says_which_array_is_wrong(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_truth(write(tmp_path, **changes))
    assert words in str(caught.value)
    assert caught.value.source.endswith("truth.npz")


def test_refuses_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "truth.npz").write_text("state 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no NumPy archive"):
        read_truth(tmp_path / "truth.npz")
    np.save(tmp_path / "truth.npy", np.zeros(3))
    with pytest.raises(InputError, match="no NumPy archive"):
        read_truth(tmp_path / "truth.npy")
    with pytest.raises(InputError, match="is not there"):
        read_truth(tmp_path / "absent.npz")


def test_residues_are_matched_by_name_not_by_order(ensemble: Ensemble, truth: Truth) -> None:
    order = np.random.default_rng(1).permutation(len(truth.chain))[:50]
    shuffled = replace(
        truth,
        ca_states=truth.ca_states[:, order],
        chain=truth.chain[order],
        residue_number=truth.residue_number[order],
        insertion_code=None,
    )
    matched, rows = shuffled.match(ensemble.model)
    assert matched.ca_states[0] == pytest.approx(
        ensemble.positions[0, ensemble.model.centre_atom[rows]]
    )
    assert ensemble.model.residue_number[rows].tolist() == truth.residue_number[order].tolist()


def test_residues_the_model_lacks_are_left_out(ensemble: Ensemble, truth: Truth) -> None:
    number = truth.residue_number.copy()
    number[:10] += 1000
    matched, rows = replace(truth, residue_number=number).match(ensemble.model)
    assert len(rows) == len(number) - 10
    assert matched.ca_states.shape[1] == len(rows)


def test_insertion_codes_tell_residues_apart(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("igg")
    model, truth = read_model(folder / "model.pdb"), read_truth(folder / "truth.npz")
    at = model.centres_angstrom
    _, rows = truth.match(model)
    _, rows_by_order = replace(truth, insertion_code=None).match(model)
    assert len(set(rows.tolist())) == len(truth.chain)
    assert rows_by_order.tolist() == rows.tolist()
    # the resting half of the antibody is where the model has it: a residue off by one would be 3.8
    # Å away
    fixed = np.isin(truth.chain, ["C", "D"])
    assert np.linalg.norm(truth.ca_states[0] - at[rows], axis=1)[fixed].max() < 2.0


def test_refuses_another_molecule_and_other_images(ensemble: Ensemble, truth: Truth) -> None:
    with pytest.raises(
        InputError, match=r"no residue of the run's model: it begins with X:1, the model with A:1"
    ):
        replace(truth, chain=np.full(len(truth.chain), "X")).match(ensemble.model)
    with pytest.raises(InputError, match="names residue A:1 twice"):
        replace(truth, residue_number=np.ones(len(truth.chain), int)).match(ensemble.model)
    with pytest.raises(InputError, match="tells of 240 images, the run has 239"):
        truth.require_images(239)
