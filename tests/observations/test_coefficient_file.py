"""Files of prepared images: what is written is read, what is damaged or stale is refused in one
line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from kinesphere.errors import InputError
from kinesphere.observations.coefficient_cache import CACHE_FILE
from kinesphere.observations.coefficient_file import (
    coefficient_writer,
    open_coefficients,
    scratch_writer,
)
from kinesphere.observations.coefficients import from_half, to_half

ORIGIN = {"format": "1", "particles": "a", "images": "b", "normalise": "True", "shells": "13"}
COEFFICIENTS = torch.randn(
    23, 301, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A complete file."""
    file = tmp_path / CACHE_FILE
    with coefficient_writer(file, 23, 301, ORIGIN) as writer:
        for part in COEFFICIENTS.split(5):
            writer.write(part)
    return file


def test_what_is_written_is_read(path: Path) -> None:
    rows = torch.tensor([22, 0, 7])
    expected = from_half(*to_half(COEFFICIENTS))
    found, origin = open_coefficients(path)
    assert origin == ORIGIN
    assert len(found) == 23
    for n in (301, 50):
        torch.testing.assert_close(found.take(rows, n), expected[rows, :n], atol=0, rtol=0)
    assert found.loaded("cpu").pages is None
    torch.testing.assert_close(found.loaded("cpu").take(rows, 301), expected[rows], atol=0, rtol=0)


def test_safetensors_reads_it_too(path: Path) -> None:
    values, scale = to_half(COEFFICIENTS)
    stored = load_file(path)
    np.testing.assert_array_equal(stored["values"], values.numpy())
    np.testing.assert_array_equal(stored["scale"], scale.numpy())


def test_a_scratch_file_has_no_name(tmp_path: Path) -> None:
    with scratch_writer(tmp_path, 23, 301) as writer:
        writer.write(COEFFICIENTS)
        found = writer.finish()
    assert list(tmp_path.iterdir()) == []
    torch.testing.assert_close(
        found.take(torch.arange(23), 301), from_half(*to_half(COEFFICIENTS)), atol=0, rtol=0
    )


def test_an_unfinished_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        coefficient_writer(tmp_path / "x", 23, 301, ORIGIN) as writer,
    ):
        writer.write(COEFFICIENTS[:5])
        raise ZeroDivisionError
    with (
        pytest.raises(RuntimeError, match="5 of 23"),
        coefficient_writer(tmp_path / "x", 23, 301, ORIGIN) as writer,
    ):
        writer.write(COEFFICIENTS[:5])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lost", [1, 23 * 4, 23 * 4 + 1, 23 * 301 * 4])
def test_a_torn_file_is_refused(path: Path, lost: int) -> None:
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(InputError, match="is cut short or damaged: .* Make it again"):
        open_coefficients(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"data_particles\n" * 9, (8).to_bytes(8, "little") + b"[1, 2, 3]"]
)
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a file of prepared images"):
        open_coefficients(path)


def test_a_file_of_other_tensors_is_refused(path: Path) -> None:
    text = json.dumps({"values": {"shape": [2]}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InputError, match="is not a file of prepared images"):
        open_coefficients(path)


def test_a_disk_without_room_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        InputError, match="has 1e-06 GB free, and the prepared images take 2.78e-05 GB"
    ):
        scratch_writer(tmp_path, 23, 301).__enter__()


def test_reading_ahead_joins_what_lies_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    record: Callable[..., Any] = lambda _file, offset, length, _advice: asked.append(  # noqa: E731
        (offset, length)
    )
    monkeypatch.setattr("os.posix_fadvise", record, raising=False)
    monkeypatch.setattr("kinesphere.observations.coefficient_file._GAP_BYTES", 301 * 4)
    found, _ = open_coefficients(path)
    assert found.pages is not None
    found.pages.read_ahead(torch.tensor([2, 3, 5, 9, 10, 20]))
    assert asked == [
        (4096 + first * 301 * 4, n * 301 * 4) for first, n in ((2, 4), (9, 2), (20, 1))
    ]
    found.pages.read_ahead(torch.zeros(0, dtype=torch.int64))
    assert len(asked) == 3
