"""What is not known in advance: the scale of the signal and the power of the noise in every
resolution shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.kernels.shell_sums import sum_products


@dataclass
class ShellStatistics:
    """Sums over images from which signal scale and noise power follow, per optics group and shell.

    For data X, model M (CTF included) and posterior weights w over conformations: Σ|X|², Σ w Re(X*
    M), Σ w |M|², and the number of coefficients. All (n_groups, n_shells + 1), double precision.
    """

    band: FourierBand
    n_groups: int
    data: Tensor = field(init=False)
    cross: Tensor = field(init=False)
    model: Tensor = field(init=False)
    count: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Start from empty sums."""
        zeros = torch.zeros(self.n_groups, self.band.n_shells + 1, dtype=torch.float64)
        self.data, self.cross, self.model, self.count = (zeros.clone() for _ in range(4))

    @property
    def sums(self) -> list[Tensor]:
        """Return the four sums themselves: what several processes add up."""
        return [self.data, self.cross, self.model, self.count]

    def clear(self) -> None:
        """Go back to empty sums."""
        for total in self.sums:
            total.zero_()

    def add_data(self, group: Int[Tensor, " b"], data: Complex[Tensor, "b m"]) -> None:
        """Add the power of images, each counted once."""
        once = self._weights(group, torch.ones_like(data[:, 0].real))
        self._add(self.data, once, data.real**2 + data.imag**2)
        self._add(self.count, once.sum(1, keepdim=True), torch.ones_like(data[:1].real))

    def add_model(
        self,
        group: Int[Tensor, " b"],
        data: Complex[Tensor, "b m"],
        model: Complex[Tensor, "b m"],
        weight: Float[Tensor, " b"],
    ) -> None:
        """Add pairs of an image and a conformation's projection, weighted by the posterior of that
        conformation.
        """
        weights = self._weights(group, weight)
        self._add(self.cross, weights, data.real * model.real + data.imag * model.imag)
        self._add(self.model, weights, model.real**2 + model.imag**2)

    def add_batch(
        self,
        group: Int[Tensor, " b"],
        data: Complex[Tensor, "b m"],
        transfer: Float[Tensor, "b m"],
        factor: Complex[Tensor, "q m"],
        image: Int[Tensor, " q"],
        weight: Float[Tensor, " q"],
    ) -> None:
        """Add images, and their pairs with conformations: `add_data` and `add_model` in one go.

        Parameters
        ----------
        group, data, transfer
            Optics group, coefficients and CTF of each image.
        factor, image, weight
            Structure factor (without CTF), image and posterior weight of each pair.
        """
        sums = sum_products(
            group, data, transfer, factor.detach(), image, weight.detach(), self.n_groups
        )
        count = torch.bincount(group, minlength=self.n_groups).to(sums)
        self._add(self.count, count[:, None], torch.ones_like(transfer[:1]))
        for total, by_coefficient in zip((self.data, self.cross, self.model), sums, strict=True):
            self._add_sums(total, by_coefficient)

    def _weights(self, group: Tensor, weight: Tensor) -> Tensor:
        """(n_groups, b) weight of each image in the row of its group."""
        return weight.new_zeros(self.n_groups, len(group)).scatter_(0, group[None], weight[None])

    def _add(self, total: Tensor, weights: Tensor, values: Tensor) -> None:
        # images first: what is then summed over shells is one row a group
        self._add_sums(total, weights @ values)

    def _add_sums(self, total: Tensor, by_coefficient: Tensor) -> None:
        band = self.band.coarser_to(by_coefficient.shape[-1])
        by_shell = band.sum_by_shell(by_coefficient).to("cpu", torch.float64)
        total[:, : by_shell.shape[1]] += by_shell


@dataclass(frozen=True)
class SignalAndNoise:
    """Least-squares scale of the model and residual power of the data, the likelihood's nuisance
    parameters.

    Parameters
    ----------
    scale
        (n_groups, n_shells + 1) factor between the model and the data; falls where the model stops
        explaining the images, which weights resolution shells by what the model knows about them.
    variance
        (n_groups, n_shells + 1) noise power of one Fourier coefficient.
    """

    scale: Tensor
    variance: Tensor

    @classmethod
    def estimate(cls, statistics: ShellStatistics) -> SignalAndNoise:
        """Maximise the expected Gaussian log-likelihood over scale and variance (the M step of an
        EM iteration).

        scale = Σ Re(X* M) / Σ|M|², not below zero; variance = (Σ|X|² − 2 scale ΣRe(X* M) + scale²
        Σ|M|²) / count.
        """
        tiny = torch.finfo(
            torch.float32
        ).tiny  # a shell that a filter emptied has no power, and the result is single
        scale = (statistics.cross / statistics.model.clamp_min(tiny)).clamp_min(0.0)
        residual = statistics.data - 2.0 * scale * statistics.cross + scale**2 * statistics.model
        count = statistics.count.clamp_min(1.0)
        variance = torch.maximum(residual / count, 1e-6 * statistics.data / count).clamp_min(tiny)
        variance[:, 0] = 1.0
        scale[:, 0] = 0.0
        return cls(scale.float(), variance.float())

    def updated(self, statistics: ShellStatistics, n_shells: int) -> SignalAndNoise:
        """Return new estimates for shells 1 … n_shells from fresh statistics, and these for the
        rest.
        """
        fresh = SignalAndNoise.estimate(statistics).to(self.scale.device)
        inside = torch.arange(self.scale.shape[1], device=self.scale.device) <= n_shells
        is_new = inside & (statistics.count > 0).to(self.scale.device)
        return SignalAndNoise(
            torch.where(is_new, fresh.scale, self.scale),
            torch.where(is_new, fresh.variance, self.variance),
        )

    def to(self, device: torch.device | str) -> SignalAndNoise:
        """Return a copy on another device."""
        return SignalAndNoise(self.scale.to(device), self.variance.to(device))
