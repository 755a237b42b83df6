"""The papers' amortised inference: an encoder that reads a conformation off the image (cryoSPHERE section 3.5)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinesphere.imaging.band import FourierBand
from kinesphere.inference.latents import LatentModel, Posterior, Proposal
from kinesphere.inference.likelihood import PreparedBatch, Scorer

_LARGEST_LOG_STD = 2.0


class VariationalLatents(LatentModel):
    """Gaussian posterior N(μ(image), σ²(image)) from a fully connected network; one sample a training step.

    The network sees a small, centred, phase-flipped, whitened image: what it cannot use (the shift, the sign of the
    CTF) is taken out beforehand.

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

    def __init__(self, latent_dim: int, band: FourierBand, n_shells: int = 15, hidden: int = 512) -> None:
        super().__init__(latent_dim)
        self.band = band.coarser(min(n_shells, band.n_shells))
        self.box = self.band.smallest_grid().box
        self.network = nn.Sequential(
            nn.Linear(self.box**2, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 2 * latent_dim),
        )

    def propose(self, scorer: Scorer, generator: torch.Generator) -> Proposal:
        """Sample each image's latent from its approximate posterior (reparametrised)."""
        mean, log_std = self._infer(scorer.prepared)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        divergence = 0.5 * ((2.0 * log_std).exp() + mean**2 - 1.0 - 2.0 * log_std).sum(1)
        row = torch.arange(len(mean), device=mean.device)
        return Proposal(mean + noise * log_std.exp(), row, row, torch.ones_like(mean[:, 0]), divergence)

    @torch.no_grad()
    def posterior(self, scorer: Scorer) -> Posterior:
        """Return the encoder's mean and variances, of independent dimensions."""
        mean, log_std = self._infer(scorer.prepared)
        return Posterior(mean, torch.diag_embed((2.0 * log_std).exp()))

    def _infer(self, prepared: PreparedBatch) -> tuple[Tensor, Tensor]:
        output = self.network(self._image(prepared).flatten(1))
        mean, log_std = output.chunk(2, dim=1)
        return mean, _LARGEST_LOG_STD * torch.tanh(log_std / _LARGEST_LOG_STD)

    def _image(self, prepared: PreparedBatch) -> Float[Tensor, "b n n"]:
        """Phase-flipped image of the encoder's band, unit variance, centred."""
        # a coarse training stage may have fewer shells than the encoder sees later
        band = self.band.coarser_to(min(len(self.band), prepared.data.shape[1]))
        flipped = prepared.data[:, : len(band)] * torch.sign(prepared.transfer[:, : len(band)])
        # the likelihood's √multiplicity is no part of the image
        flipped = flipped / band.multiplicity.to(flipped.device).sqrt()
        half_plane = flipped.new_zeros(len(flipped), self.box * (self.box // 2 + 1))
        half_plane[:, band.flat_index(self.box).to(flipped.device)] = flipped
        image = torch.fft.irfft2(half_plane.reshape(-1, self.box, self.box // 2 + 1), s=(self.box, self.box))
        image = torch.fft.fftshift(image, dim=(-2, -1))
        return image / image.std(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
