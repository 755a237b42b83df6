"""Small particle sets of adenylate kinase, made by the command itself."""

from __future__ import annotations

from pathlib import Path

from kinesphere.cli.main import main

BOX, PIXEL_ANGSTROM = 32, 3.0


def simulate_set(folder: Path, n_images: int, *, seed: int = 0, n_states: int = 5) -> None:
    """Simulate images with as much signal as noise, of so many states between closed and open."""
    images = ["--n", str(n_images), "--box", str(BOX), "--pixel-size", str(PIXEL_ANGSTROM)]
    shown = ["--snr", "1", "--n-states", str(n_states), "--seed", str(seed)]
    assert main(["simulate", "--out", str(folder), *images, *shown]) == 0
