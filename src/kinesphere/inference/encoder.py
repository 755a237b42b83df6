"""The papers' amortised inference: an encoder that reads a conformation off the image (cryoSPHERE
section 3.5).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinesphere.imaging.band import FourierBand
from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import LatentModel, Posterior, Proposal
from kinesphere.inference.likelihood import PreparedBatch, Scorer

_LARGEST_LOG_STD = 2.0


class VariationalLatents(LatentModel):
    """Gaussian posterior N(μ(image), σ²(image)) from a fully connected network; one sample a
    training step.

    The network sees a centred, phase-flipped, whitened image: what it cannot use (the shift, the
    sign of the CTF) is taken out beforehand. It sees it as Fourier coefficients: a fully connected
    layer can do with them what it can do with pixels, the transform being a rotation, and there are
    a third fewer of them within the shells used.

    Parameters
    ----------
    latent_dim
        Number of latent dimensions.
    band
        The finest Fourier band of the run.
    n_shells
        Resolution shells the encoder sees.
    hidden
        Width of its two hidden layers.
    """

    def __init__(
        self, latent_dim: int, band: FourierBand, n_shells: int = 15, hidden: int = 256
    ) -> None:
        super().__init__(latent_dim)
        self.n_coefficients = len(band.coarser(min(n_shells, band.n_shells)))
        self.network = nn.Sequential(
            nn.Linear(2 * self.n_coefficients, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 2 * latent_dim),
        )

    def propose(self, scorer: Scorer, draws: Draws) -> Proposal:
        """Sample each image's latent from its approximate posterior (reparametrised)."""
        mean, log_std = self._infer(scorer.prepared)
        noise = draws.normal(self.latent_dim).to(mean)
        divergence = 0.5 * ((2.0 * log_std).exp() + mean**2 - 1.0 - 2.0 * log_std).sum(1)
        row = torch.arange(len(mean), device=mean.device)
        decoded = scorer.decode(mean + noise * log_std.exp())
        return Proposal(decoded, row, row, torch.ones_like(mean[:, 0]), divergence)

    @torch.no_grad()
    def posterior(self, scorer: Scorer) -> Posterior:
        """Return the encoder's mean and variances, of independent dimensions."""
        mean, log_std = self._infer(scorer.prepared)
        return Posterior(mean, torch.diag_embed((2.0 * log_std).exp()))

    def _infer(self, prepared: PreparedBatch) -> tuple[Tensor, Tensor]:
        mean, log_std = self.network(self._features(prepared)).chunk(2, dim=1)
        return mean, _LARGEST_LOG_STD * torch.tanh(log_std / _LARGEST_LOG_STD)

    def _features(self, prepared: PreparedBatch) -> Float[Tensor, "b m"]:
        """Phase-flipped coefficients, real and imaginary parts, of unit mean square; zero where a
        stage has fewer.
        """
        seen = slice(self.n_coefficients)
        flipped = torch.view_as_real(
            prepared.data[:, seen] * torch.sign(prepared.transfer[:, seen])
        ).flatten(1)
        missing = 2 * self.n_coefficients - flipped.shape[1]
        features = nn.functional.pad(flipped, (0, missing)) if missing else flipped
        return features / features.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
