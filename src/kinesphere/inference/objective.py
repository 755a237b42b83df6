"""How well a model image explains a particle image: the data terms, as functions of three inner
products.

With data x and model m in units of the noise (sums over the full Fourier plane): cross = Re⟨x, m⟩,
power = ⟨m, m⟩, norm = ⟨x, x⟩.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from kinesphere.inference.options import ObjectiveName

_LARGEST_SQUARED_CORRELATION = 1.0 - 1e-6


class Objective(ABC):
    """A data term. `log_likelihood` is in nats; its negative is what training minimises."""

    whitened = True

    @abstractmethod
    def log_likelihood(self, cross: Tensor, power: Tensor, norm: Tensor, n_values: float) -> Tensor:
        """Log-likelihood of images, up to a constant of the image.

        Parameters
        ----------
        cross, power, norm
            Inner products, broadcastable to a common shape.
        n_values
            Number of independent real values in an image's band.

        Returns
        -------
        Tensor
            Of the common shape.
        """


class GaussianLikelihood(Objective):
    """White noise of known power after whitening, signal of known scale: log p = Re⟨x, m⟩ − ½⟨m, m⟩
    + constant.

    Scale and power are estimated per resolution shell from all images together (`imaging.noise`),
    so that no image's own noise enters them and posteriors need no weight to balance them against
    the prior.
    """

    def log_likelihood(
        self,
        cross: Tensor,
        power: Tensor,
        norm: Tensor,  # noqa: ARG002 - data terms share a signature
        n_values: float,  # noqa: ARG002
    ) -> Tensor:
        """See `Objective.log_likelihood`; ⟨x, x⟩ is a constant of the image and left out."""
        return cross - 0.5 * power


class ProfiledLikelihood(Objective):
    """Gaussian noise with each image's own amplitude and noise level profiled out: −(n/2) · log(1 −
    ρ²), for ρ > 0.

    ρ is the centred correlation of eq. 7: images of unknown preprocessing fit, at the price of two
    parameters an image.
    """

    def log_likelihood(self, cross: Tensor, power: Tensor, norm: Tensor, n_values: float) -> Tensor:
        """See `Objective.log_likelihood`."""
        correlation = (cross / torch.sqrt(power * norm + 1e-12)).clamp_min(0.0)
        squared = (correlation**2).clamp_max(_LARGEST_SQUARED_CORRELATION)
        return -0.5 * n_values * torch.log1p(-squared)


class Correlation(Objective):
    """The paper's data term: the normalised correlation itself (eq. 7), on images that are centred
    but not whitened.

    It is no log-likelihood: its scale against the KL term (eq. 8) is arbitrary, one unit for a
    perfect match whatever the noise. Kept as the paper's option.
    """

    whitened = False

    def log_likelihood(
        self,
        cross: Tensor,
        power: Tensor,
        norm: Tensor,
        n_values: float,  # noqa: ARG002
    ) -> Tensor:
        """See `Objective.log_likelihood`."""
        return cross / torch.sqrt(power * norm + 1e-12)


def make_objective(name: ObjectiveName) -> Objective:
    """Return the data term of that name."""
    objectives: dict[str, type[Objective]] = {
        "gaussian": GaussianLikelihood,
        "profiled": ProfiledLikelihood,
        "correlation": Correlation,
    }
    return objectives[name]()
