"""The table of latents outlives a file, also one that holds standard deviations only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.runs.finished_run import LatentTable


@pytest.fixture
def table() -> LatentTable:
    """Four particles in two dimensions."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 2, 2))
    return LatentTable(
        np.arange(4), rng.standard_normal((4, 2)), root @ root.transpose(0, 2, 1), np.zeros(4, int)
    )


def test_a_table_is_read_as_it_was_written(table: LatentTable, tmp_path: Path) -> None:
    table.save(tmp_path / "latents.npz")
    read = LatentTable.load(tmp_path / "latents.npz")
    for name, values in vars(table).items():
        np.testing.assert_array_equal(getattr(read, name), values)


def test_standard_deviations_alone_mean_independent_dimensions(
    table: LatentTable, tmp_path: Path
) -> None:
    path = tmp_path / "latents.npz"
    np.savez(path, index=table.index, mean=table.mean, std=table.std, half=table.half)
    read = LatentTable.load(path)
    np.testing.assert_allclose(read.std, table.std)
    assert (read.covariance[:, 0, 1] == 0).all()


def test_some_particles_keep_their_rows(table: LatentTable) -> None:
    some = table.of(np.array([2, 0]))
    np.testing.assert_array_equal(some.index, [2, 0])
    np.testing.assert_array_equal(some.covariance, table.covariance[[2, 0]])


def test_a_folder_without_latents_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not finished"):
        LatentTable.load(tmp_path / "latents.npz")
