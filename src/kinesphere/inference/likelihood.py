"""Compare images with projections of decoded structures: scores for inference, a differentiable
loss for training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.inference.decoder import Decoded, Decoder
from kinesphere.inference.objective import Objective
from kinesphere.observations.observations import ParticleBatch

_POINTS_AT_ONCE = 1 << 19  # projected at once: 4 MB


@dataclass(frozen=True)
class PreparedBatch:
    """A batch in units of its noise.

    Parameters
    ----------
    batch
        The images.
    data
        (b, m) coefficients over the noise's standard deviation, times √multiplicity.
    transfer
        (b, m) CTF.
    gain
        (b, m) what turns a structure factor into a model of `data`.
    norm
        (b,) ⟨data, data⟩.
    log_constant
        (b,) the part of the Gaussian log-likelihood that depends on the noise power only.
    """

    batch: ParticleBatch
    data: Complex[Tensor, "b m"]
    transfer: Float[Tensor, "b m"]
    gain: Float[Tensor, "b m"]
    norm: Float[Tensor, " b"]
    log_constant: Float[Tensor, " b"]

    def subset(self, rows: Int[Tensor, " k"]) -> PreparedBatch:
        """Return some of its images."""
        values = (self.data, self.transfer, self.gain, self.norm, self.log_constant)
        return PreparedBatch(self.batch.subset(rows), *(value[rows] for value in values))


class Likelihood:
    """p(images | structures) under a forward model, a data term, and the current estimate of signal
    scale and noise.

    Parameters
    ----------
    forward
        Forward model at the resolution of the current stage.
    objective
        The data term.
    signal
        Scale and noise power per optics group and shell (of the whole band; a coarser forward model
        uses its part).
    """

    def __init__(self, forward: ForwardModel, objective: Objective, signal: SignalAndNoise) -> None:
        self.forward = forward
        self.objective = objective
        self.signal = signal
        multiplicity = forward.band.multiplicity
        self._root_multiplicity = multiplicity.sqrt()
        self.n_values = float(multiplicity.sum())

    def weighted(self, weight: Float[Tensor, " p"] | None) -> Likelihood:
        """Return the same likelihood with the amplitude of each point times a factor; none: 1."""
        if weight is None:
            return self
        other = copy.copy(self)
        other.forward = self.forward.weighted(weight)
        return other

    def prepare(self, batch: ParticleBatch) -> PreparedBatch:
        """Whiten a batch (where the objective asks for it) and work out its gain."""
        band = self.forward.band
        transfer = self.forward.transfer(batch.ctf)
        if self.objective.whitened:
            # once a group: what is left to do for every image is one product
            variance = self.signal.variance.index_select(1, band.shell)
            root = self._root_multiplicity * variance.rsqrt()
            scale = root * self.signal.scale.index_select(1, band.shell)
            constant = (-0.5 * (band.multiplicity * variance.log()).sum(1))[batch.group]
            root = root.index_select(0, batch.group)
            scale = scale.index_select(0, batch.group)
        else:
            root = scale = self._root_multiplicity
            constant = transfer.new_zeros(len(batch))
        data = batch.data * root
        norm = torch.view_as_real(data).square().sum((1, 2))
        return PreparedBatch(batch, data, transfer, transfer * scale, norm, constant)

    def pairs(
        self,
        prepared: PreparedBatch,
        positions: Float[Tensor, "k p 3"],
        image: Int[Tensor, " q"],
        state: Int[Tensor, " q"],
    ) -> tuple[Float[Tensor, " q"], Complex[Tensor, "q m"]]:
        """Log-likelihood of chosen (image, structure) pairs, differentiable; and the pairs'
        structure factors.

        Parameters
        ----------
        prepared
            The batch.
        positions
            (k, n_beads, 3) structures.
        image, state
            (q,) rows of the batch and of `positions`.

        Returns
        -------
        tuple
            (q,) log-likelihoods, (q, m) structure factors without CTF.
        """
        images = (prepared.batch.rotation, prepared.gain, prepared.data)
        cross, power, factor = self.forward.compare(positions, *images, image, state)
        return self.objective.log_likelihood(
            cross, power, prepared.norm[image], self.n_values
        ), factor

    @torch.no_grad()
    def all_states(
        self, prepared: PreparedBatch, positions: Float[Tensor, "k p 3"]
    ) -> Float[Tensor, "b k"]:
        """Log-likelihood of every image under every one of k shared structures, (b, k)."""
        n_states = positions.shape[0]
        per_block = max(1, _POINTS_AT_ONCE // (n_states * positions.shape[1]))
        rows = torch.arange(len(prepared.batch), device=positions.device).split(per_block)
        return torch.cat([self._block(prepared, positions, block) for block in rows])

    def _block(self, prepared: PreparedBatch, positions: Tensor, block: Tensor) -> Tensor:
        rotation = prepared.batch.rotation[block]
        cross, power = self.forward.inner_products(
            positions, rotation, prepared.gain[block], prepared.data[block]
        )
        return self.objective.log_likelihood(
            cross, power, prepared.norm[block, None], self.n_values
        )


class Scorer:
    """The log-likelihood of one batch as a function of latent positions: all that inference over
    latents needs to know.

    Parameters
    ----------
    likelihood
        The likelihood, for Gaussians of the amplitudes that the reference gives.
    prepared
        The batch.
    decoder
        What turns latent positions into Gaussians, and weighs them.
    """

    def __init__(self, likelihood: Likelihood, prepared: PreparedBatch, decoder: Decoder) -> None:
        self.likelihood = likelihood.weighted(decoder.weight)
        self.prepared = prepared
        self.decoder = decoder

    @property
    def batch(self) -> ParticleBatch:
        """The images that are scored."""
        return self.prepared.batch

    def subset(self, rows: Int[Tensor, " k"]) -> Scorer:
        """Return the scorer of some of the images."""
        if len(rows) == len(self.batch):
            return self
        part = copy.copy(self)
        part.prepared = self.prepared.subset(rows)
        return part

    def decode(self, z: Float[Tensor, "k d"]) -> Decoded:
        """Decode latent positions, differentiably."""
        return self.decoder(z)

    def shared(self, decoded: Decoded) -> Float[Tensor, "b k"]:
        """Log-likelihood of every image at latent positions that all images share; no gradient."""
        return self.likelihood.all_states(self.prepared, decoded.positions.detach())

    def pairs(
        self, decoded: Decoded, image: Int[Tensor, " q"], state: Int[Tensor, " q"]
    ) -> tuple[Float[Tensor, " q"], Complex[Tensor, "q m"]]:
        """Log-likelihood of chosen pairs of an image and a latent position: see
        `Likelihood.pairs`.
        """
        return self.likelihood.pairs(self.prepared, decoded.positions, image, state)

    @torch.no_grad()
    def own(self, z: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Log-likelihood of every image at latent positions of its own."""
        return torch.cat([found[0] for found in self._own_pairs(z)]).reshape(z.shape[:2])

    @torch.no_grad()
    def models(self, z: Float[Tensor, "b s d"]) -> Complex[Tensor, "b s m"]:
        """Model of every image, in units of its noise, at latent positions of its own."""
        factor = torch.cat([found[1] for found in self._own_pairs(z)])
        return factor.reshape(*z.shape[:2], -1) * self.prepared.gain[:, None]

    def _own_pairs(
        self, z: Float[Tensor, "b s d"]
    ) -> Iterator[tuple[Float[Tensor, " q"], Complex[Tensor, "q m"]]]:
        """Compare every image with latent positions of its own, some at a time."""
        n_images, n_samples, _ = z.shape
        image = torch.arange(n_images, device=z.device).repeat_interleave(n_samples)
        per_block = max(1, _POINTS_AT_ONCE // len(self.decoder.owner))
        for rows in torch.arange(n_images * n_samples, device=z.device).split(per_block):
            positions = self.decoder.decode(z.flatten(0, 1)[rows])
            state = torch.arange(len(rows), device=z.device)
            yield self.likelihood.pairs(self.prepared, positions, image[rows], state)
