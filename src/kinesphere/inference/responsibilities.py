"""What a look at all nodes told of each image, kept from pass to pass so that most passes need not
look again.

In the words of mixture models, the posterior of an image over the nodes is their responsibility for
it. From one pass over the images to the next it changes little once a model has taken shape, so
that the nodes drawn in a gradient step may come from an older one, and weights make up for what has
changed since: an expectation-maximisation whose E-steps are partial (Neal & Hinton 1998).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinesphere.ranks import Ranks

_ROWS_AT_ONCE = 1 << 18


class Responsibilities:
    """Posterior of each image over the nodes, as it was when the image was last compared with all
    of them.

    Parameters
    ----------
    n_images, n_nodes
        Size of the table, two bytes an entry.
    device
        Where it is kept.
    """

    def __init__(self, n_images: int, n_nodes: int, device: torch.device) -> None:
        self.table = torch.full((n_images, n_nodes), torch.nan, dtype=torch.float16, device=device)
        self._is_own = torch.zeros(n_images, dtype=torch.bool, device=device)

    def forget(self) -> None:
        """Count all images as never looked at."""
        self.table.fill_(torch.nan)
        self._is_own.fill_(False)

    def of(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """Return the posteriors of some images; not a number where there is none."""
        return self.table[index].float()

    def keep(self, index: Int[Tensor, " b"], posterior: Float[Tensor, "b k"]) -> None:
        """Keep the posteriors of some images."""
        self.table[index] = posterior.to(self.table.dtype)
        self._is_own[index] = True

    def exchange(self, ranks: Ranks) -> None:
        """Give all ranks what each has found since the last exchange; no image may be kept by two
        in between.
        """
        if ranks.size == 1:
            return
        for table, own in zip(
            self.table.split(_ROWS_AT_ONCE), self._is_own.split(_ROWS_AT_ONCE), strict=True
        ):
            found, is_new = _own_rows(table, own), own.float()
            ranks.sum_([found, is_new])
            table.copy_(torch.where(is_new[:, None] > 0, found.to(table.dtype), table))
        self._is_own.fill_(False)


def _own_rows(table: Float[Tensor, "n k"], own: Bool[Tensor, " n"]) -> Float[Tensor, "n k"]:
    return torch.where(own[:, None], table.float(), 0.0)
