"""Two and four ranks find what one finds, write it once, and take over where others stopped.

Tolerances are those of float32 sums in another order: 5e-4 of a latent's prior standard deviation,
2e-6 of a map.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere import load
from kinesphere.io.checkpoint import load_checkpoint
from kinesphere.io.mrc import read_map

RUNS = ["segments-marginal", "segments-vae", "field-marginal", "field-vae"]
LATENT_TOLERANCE, MAP_TOLERANCE, DISPLACEMENT_TOLERANCE_ANGSTROM = 5e-4, 2e-6, 2e-3
several = pytest.mark.parametrize("size", [2, 4])


def latents(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "latents.npz") as stored:
        return dict(stored)


@several
@pytest.mark.parametrize("name", RUNS)
def test_latents_are_those_of_one_rank(folder: Path, size: int, name: str) -> None:
    alone, shared = latents(folder / "1-ranks" / name), latents(folder / f"{size}-ranks" / name)
    assert np.array_equal(
        shared["index"], np.arange(130)
    )  # every particle once, in the order of the file
    assert np.array_equal(shared["half"], alone["half"])
    assert (shared["std"] > 0).all()
    for key in ("mean", "covariance"):
        np.testing.assert_allclose(shared[key], alone[key], atol=LATENT_TOLERANCE, rtol=0)
    assert np.ptp(alone["mean"]) > 20 * LATENT_TOLERANCE


@several
@pytest.mark.parametrize("name", RUNS)
def test_what_is_decoded_moves_alike(folder: Path, size: int, name: str) -> None:
    z = np.array([[-1.0], [0.5], [1.5]])
    alone, shared = (load(folder / which / name) for which in ("1-ranks", f"{size}-ranks"))
    for half in alone.motions:
        difference = alone.decode_atoms(z, half) - shared.decode_atoms(z, half)
        assert np.abs(difference).max() < DISPLACEMENT_TOLERANCE_ANGSTROM


@several
@pytest.mark.parametrize("name", RUNS)
def test_every_epoch_is_reported_once_with_the_sums_of_all_images(
    folder: Path, size: int, name: str
) -> None:
    def rows(run: Path) -> list[dict[str, str]]:
        with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    alone, shared = rows(folder / "1-ranks" / name), rows(folder / f"{size}-ranks" / name)
    for ours, theirs in zip(shared, alone, strict=True):
        assert [ours[key] for key in ("half", "epoch", "step", "shells")] == [
            theirs[key] for key in ("half", "epoch", "step", "shells")
        ]
        for key in ("log_likelihood", "pairs_per_image"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-5)


@several
@pytest.mark.parametrize("name", RUNS)
def test_checkpoints_hold_the_same_and_not_how_many_wrote_them(
    folder: Path, size: int, name: str
) -> None:
    halves = ["half1", "half2"] if name.startswith("field") else [""]
    for half in halves:
        alone, shared = (
            load_checkpoint(folder / which / name / "checkpoints" / half)
            for which in ("1-ranks", f"{size}-ranks")
        )
        assert alone[0].keys() == shared[0].keys()
        assert torch.equal(alone[0]["generator"], shared[0]["generator"])
        assert alone[1]["progress"].keys() == shared[1]["progress"].keys()
        assert alone[1]["progress"]["step"] == shared[1]["progress"]["step"]
        for key in ("signal.scale", "signal.variance"):
            torch.testing.assert_close(shared[0][key], alone[0][key], rtol=1e-4, atol=1e-6)


@several
def test_errors_of_half_set_models_are_compared_across_teams(folder: Path, size: int) -> None:
    found = []
    for which in ("1-ranks", f"{size}-ranks"):
        with np.load(
            folder / which / "field-marginal" / "validation" / "displacement_errors.npz"
        ) as stored:
            found.append(dict(stored))
    alone, shared = found
    assert np.array_equal(alone["index"], shared["index"])
    assert (
        np.abs(alone["error_angstrom"] - shared["error_angstrom"]).max()
        < DISPLACEMENT_TOLERANCE_ANGSTROM
    )


@several
@pytest.mark.parametrize("name", ["backprojection", "least-squares"])
def test_maps_are_those_of_one_rank(folder: Path, size: int, name: str) -> None:
    alone, shared = folder / "1-ranks" / name, folder / f"{size}-ranks" / name
    for file in ("half1.mrc", "half2.mrc", "map.mrc", "mask.mrc"):
        expected, found = read_map(alone / file).data, read_map(shared / file).data
        assert np.linalg.norm(found - expected) < MAP_TOLERANCE * np.linalg.norm(expected)
    first, second = (json.loads((run / "summary.json").read_text()) for run in (alone, shared))
    assert first["n_particles"] == second["n_particles"]
    assert first["fingerprint"] == second["fingerprint"]
    assert not (shared / "checkpoints").exists()


@pytest.mark.parametrize(
    ("run", "step"),
    [("for-2-ranks", 7), ("4-ranks/stopped", 8)],
    ids=["from 1 to 2", "from 4 to 1"],
)
def test_a_run_stopped_within_an_epoch_goes_on_with_other_ranks(
    folder: Path, run: str, step: int
) -> None:
    whole, continued = latents(folder / "1-ranks" / "segments-marginal"), latents(folder / run)
    np.testing.assert_allclose(continued["mean"], whole["mean"], atol=LATENT_TOLERANCE, rtol=0)
    log = (folder / run / "log.txt").read_text(encoding="utf-8")
    assert f"Continuing at epoch 2, step {step}" in log
    assert log.count("epoch 3/3") == 1


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(folder: Path) -> None:
    """The signal arrives in step 7; every eight steps the ranks ask one another."""
    run = folder / "2-ranks" / "stopped"
    assert not (run / "latents.npz").exists()
    progress = load_checkpoint(run / "checkpoints")[1]["progress"]
    assert (progress["step"], progress["batch"]) == (8, 3)
    assert progress["totals"]["images"] == 96
