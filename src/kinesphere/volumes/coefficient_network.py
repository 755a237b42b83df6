"""The part of a volume decoder that is not linear: from places of the latent space to coefficients
of volumes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_RARE = 1e-3
_ALIKE = 1e-5
_LEAST_VARIANCE = 1e-4


class CoefficientNetwork(nn.Module):
    """Coefficients of the latents: polynomials mixed linearly, plus a small multilayer perceptron
    that starts at zero.

    Inputs are clamped to the range of the latents it was made for: beyond it, nothing is known.

    Parameters
    ----------
    latents
        (n, d) of the images to come, for scale and range.
    n_coefficients
        J.
    width
        Hidden units.
    seed
        Of the initial weights.
    """

    mean: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor
    whitening: Tensor

    def __init__(
        self, latents: Float[np.ndarray, "n d"], n_coefficients: int, width: int, seed: int
    ) -> None:
        super().__init__()
        z = torch.from_numpy(np.asarray(latents, dtype=np.float32))
        spread, size = z.double().std(0, correction=0), z.double().abs().amax(0)
        self.register_buffer("mean", z.double().mean(0).float())
        # a dimension in which all are alike, to rounding, counts for nothing
        self.register_buffer(
            "spread", torch.where(spread > _ALIKE * size, spread, torch.inf).float()
        )
        scaled = ((z - self.mean) / self.spread).double().numpy()
        for name, quantile in (("low", _RARE), ("high", 1 - _RARE)):
            self.register_buffer(
                name, torch.from_numpy(np.quantile(scaled, quantile, axis=0)).float()
            )
        self.register_buffer("centre", torch.zeros(n_coefficients))
        self.register_buffer("whitening", torch.eye(n_coefficients))
        d = z.shape[1]
        self._powers = _first_powers(d, n_coefficients)
        self.first, self.second = nn.Linear(d, width), nn.Linear(width, width)
        self.last = nn.Linear(width, n_coefficients)
        self.mixing = nn.Parameter(torch.eye(n_coefficients))
        self._initialise(torch.Generator().manual_seed(seed))
        self.whiten(z)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for layer in (self.first, self.second):
            n_out, n_in = layer.weight.shape
            layer.weight.copy_(torch.randn(n_out, n_in, generator=generator) / n_in**0.5)
            layer.bias.copy_(torch.randn(n_out, generator=generator))
        self.last.weight.zero_()
        self.last.bias.zero_()

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n j"]:
        """Give the coefficients at some places of the latent space."""
        return (self._raw(z) - self.centre) @ self.whitening

    def _raw(self, z: Tensor) -> Tensor:
        x = torch.clamp((z - self.mean) / self.spread, self.low, self.high)
        polynomials = torch.stack([torch.prod(x**power, dim=1) for power in self._powers], dim=1)
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        raw: Tensor = polynomials @ self.mixing + self.last(hidden)
        return raw

    @torch.no_grad()
    def whiten(self, z: Float[Tensor, "n d"]) -> None:
        """Give the coefficients of some latents mean zero and unit covariance; directions of no
        variance go.
        """
        raw = self._raw(z)
        mean = raw.mean(0)
        values, vectors = torch.linalg.eigh(
            torch.cov((raw - mean).T.double(), correction=0).reshape(2 * (raw.shape[1],))
        )
        kept = values > _LEAST_VARIANCE * values[-1].clamp_min(torch.finfo(torch.float32).tiny)
        scale = torch.where(kept, values.clamp_min(torch.finfo(torch.float32).tiny).rsqrt(), 0.0)
        self.centre.copy_(mean)
        self.whitening.copy_((vectors * scale).flip(1).float())


def _first_powers(d: int, n: int) -> Tensor:
    """(n, d) exponents of the first polynomials in order of degree: z1, z2, z1², z1 z2, z2², …"""
    found: list[tuple[int, ...]] = []
    degree = 1
    while len(found) < n:
        found += sorted(_of_degree(d, degree), reverse=True)
        degree += 1
    return torch.tensor(found[:n])


def _of_degree(d: int, degree: int) -> list[tuple[int, ...]]:
    if d == 1:
        return [(degree,)]
    return [
        (first, *rest) for first in range(degree + 1) for rest in _of_degree(d - 1, degree - first)
    ]
