"""The order in which images are visited: random, and yet nearly sequential on a disk where there
are many.

The images are cut into chunks that lie together in the file, and the chunks are shuffled. A window
of 128 chunks at a time is brought into memory, and its images are shuffled. A batch thus holds
images of 128 places of the file. Where the images begin to be cut is drawn too, so that neighbours
in the file do not stay together from epoch to epoch.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from kinesphere.observations.coefficients import BYTES_HALF

WINDOW_BYTES = 1 << 29
_CHUNKS_A_WINDOW = 128
_SEEDS_APART = 1_000_003
_SAMPLE = 65_536
_LEAST_OF_A_GROUP = 4096
_TOGETHER = 256


def images_a_window(n_coefficients: int) -> int:
    """Return how many images of some number of coefficients are in memory at once; the same
    wherever they are kept.
    """
    return max(WINDOW_BYTES // (n_coefficients * BYTES_HALF), _CHUNKS_A_WINDOW)


def order_of_epoch(n_images: int, window: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """Draw the order of one epoch; it follows from the arguments alone.

    Parameters
    ----------
    n_images
        Number of images.
    window
        Images in memory at once; if it holds all of them, the order is a permutation like any
        other.
    seed, epoch
        What the order is drawn from.

    Returns
    -------
    Tensor
        (n_images,) a permutation. The images of any one window, counted from the beginning, are
        those of 128 chunks (two of them cut by its ends).
    """
    draw = torch.Generator().manual_seed(seed * _SEEDS_APART + epoch)
    if n_images <= window:
        return torch.randperm(n_images, generator=draw)
    first = int(torch.randint(n_images, (), generator=draw))
    chunks = torch.arange(n_images).roll(first).split(max(window // _CHUNKS_A_WINDOW, 1))
    shuffled = torch.cat([chunks[k] for k in torch.randperm(len(chunks), generator=draw).tolist()])
    return torch.cat(
        [rows[torch.randperm(len(rows), generator=draw)] for rows in shuffled.split(window)]
    )


def sample_of_groups(group: Int[Tensor, " n"]) -> Int[Tensor, " k"]:
    """Choose images that stand for all where power in shells is estimated: 65,536 say as much as
    two million do.

    Parameters
    ----------
    group
        (n,) optics group of each image.

    Returns
    -------
    Tensor
        (k,) rows, ascending: of each group its share of 65,536, at least 4,096, as far as it has
        them; in runs that lie together, evenly spread.
    """
    members = [torch.nonzero(group == number).flatten() for number in group.unique()]
    share = max(_SAMPLE // len(members), _LEAST_OF_A_GROUP)
    return torch.cat([_spread(rows, share) for rows in members]).sort().values


def _spread(rows: Tensor, n_most: int) -> Tensor:
    if len(rows) <= n_most:
        return rows
    runs = rows.split(_TOGETHER)
    return torch.cat(
        [runs[k] for k in torch.linspace(0, len(runs) - 1, n_most // _TOGETHER).long().tolist()]
    )
