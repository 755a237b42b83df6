"""Batches made ahead of their use, where the images are in a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.observations.coefficients import Pages
from kinesphere.observations.observations import Observations, ParticleBatch
from kinesphere.observations.order import images_a_window

_BATCHES_AHEAD = 2


def serve(
    observations: Observations,
    batches: Sequence[Int[Tensor, " _"]],
    band: FourierBand | None = None,
    device: torch.device | str = "cpu",
    *,
    first: int = 0,
    window: int | None = None,
) -> Iterator[ParticleBatch]:
    """Serve the batches of a pass over the images.

    Images that are in a file are read ahead in a thread, a window (see `order`) before they are
    used, and their memory is given back after it. What is served is the same as without.

    Parameters
    ----------
    observations
        The images.
    batches
        Rows of the images of each batch of the whole pass.
    band, device
        As in `Observations.batch`.
    first
        The batch to begin with.
    window
        Images in memory at once; none: as `order` has it.

    Yields
    ------
    ParticleBatch
        One for each of `batches` from `first` on.
    """
    if observations.pages is None:
        yield from (observations.batch(rows, band, device) for rows in batches[first:])
        return
    plan = _Plan(
        observations, observations.pages, batches, window or images_a_window(len(observations.band))
    )

    def make(number: int) -> ParticleBatch:
        plan.before(number)
        return observations.batch(batches[number], band, device)

    pending: deque[Future[ParticleBatch]] = deque()
    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
    try:
        for number in range(first, len(batches)):
            pending.append(reader.submit(make, number))
            if len(pending) > _BATCHES_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        observations.pages.let_go()


class _Plan:
    """What to read and what to let go before each batch: with every batch, an equal part of the
    next window.
    """

    def __init__(
        self,
        observations: Observations,
        pages: Pages,
        batches: Sequence[Int[Tensor, " _"]],
        window: int,
    ) -> None:
        self._observations = observations
        self._pages = pages
        self._batches = batches
        begins = accumulate((len(rows) for rows in batches), initial=0)
        self._window_of = (
            torch.tensor(list(begins)[:-1]) // window
        )  # of each batch: where its first image belongs
        self._window: int | None = None
        self._next: tuple[Tensor, ...] = ()

    def before(self, number: int) -> None:
        """Do what is due before a batch is made."""
        window = int(self._window_of[number])
        first, last = self._batches_of(window)
        if window != self._window:
            self._pages.let_go()
            if self._window is None:
                self._pages.read_ahead(self._rows(window))
            self._window = window
            self._next = self._rows(window + 1).tensor_split(last - first)
        self._pages.read_ahead(self._next[number - first])

    def _batches_of(self, window: int) -> tuple[int, int]:
        first, last = torch.searchsorted(
            self._window_of, torch.tensor([window, window + 1])
        ).tolist()
        return first, last

    def _rows(self, window: int) -> Tensor:
        """Rows of the file that a window needs, ascending."""
        first, last = self._batches_of(window)
        if first == last:
            return torch.zeros(0, dtype=torch.int64)
        return (
            self._observations.stored_rows(torch.cat(list(self._batches[first:last]))).sort().values
        )
