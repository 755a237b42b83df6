"""A field run of the smallest size, for tests of the commands."""

from __future__ import annotations

from pathlib import Path

# 65 a half: with 64 a batch, the last batch of a half without validation images is a single one.
N_IMAGES = 130
SIMULATED = ("--box", "32", "--pixel-size", "3", "--snr", "1", "--n-states", "5", "--seed", "4")
SHORT = ("--latent-dim", "1", "--n-nodes", "4", "--threads", "1")
BRIEF = ("--epochs", "2", "--n-gaussians", "60", *SHORT)


def inputs(data: Path) -> list[str]:
    """Particles and map, as a method takes them."""
    return [str(data / "particles.star"), "--map", str(data / "consensus.mrc")]
