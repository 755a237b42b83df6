"""Latent conformations: what every way of inferring them offers, and the exact marginal likelihood
over nodes.

The marginal likelihood of an image, log p(x) = log ∫ p(x | z) p(z) dz (cryoSPHERE eq. 3), is a
low-dimensional integral. With K equally probable nodes z_k of the prior it is log (1/K) Σ_k p(x |
z_k), and its gradient is that of the nodes' log-likelihoods weighted by their posterior: an
expectation-maximisation step in which nothing is amortised and no bound is loose.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kinesphere.inference.decoder import Decoded
from kinesphere.inference.draws import Draws
from kinesphere.inference.likelihood import Scorer
from kinesphere.ranks import Ranks

# Of the draws from an older posterior: nothing that it thought impossible is shut out.
_DEFENSIVE_SHARE = 0.1
_ROWS_AT_ONCE = 1 << 18
_SETTLED = 0.1  # of a posterior's standard deviation
_SMALLEST_STD = 1e-6
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True)
class Proposal:
    """Conformations a training step compares with its images.

    Parameters
    ----------
    decoded
        k latent positions, decoded.
    image, state, weight
        (q,) pairs of an image of the batch and one of those positions, with a weight that adds up
        to 1 for each image.
    divergence
        (b,) KL divergence of the latent posterior from the prior where it is a term of the loss;
        differentiable.
    log_preference
        (q,) log q(z) / p(z), how much more often than by the prior the position of a pair was
        drawn; nothing where pairs are not drawn from nodes, and weights and evidence are not to be
        found from their likelihoods.
    log_evidence
        (b,) what is known of log p(x | model) without the constant, once the pairs have been
        compared.
    is_shared
        Whether all images share the latent positions; else they are one an image.
    """

    decoded: Decoded
    image: Int[Tensor, " q"]
    state: Int[Tensor, " q"]
    weight: Float[Tensor, " q"]
    divergence: Float[Tensor, " b"]
    log_preference: Float[Tensor, " q"] | None = None
    log_evidence: Float[Tensor, " b"] | None = None
    is_shared: bool = False

    @property
    def z(self) -> Float[Tensor, "k d"]:
        """The latent positions."""
        return self.decoded.z

    def n_states(self, draws: Draws) -> int:
        """Latent positions that one rank alone would propose for the whole batch."""
        return len(self.z) if self.is_shared else draws.n_images

    def weighed(self, log_likelihood: Float[Tensor, " q"]) -> Proposal:
        """Return the proposal with weights by what its pairs turned out to explain, and with the
        evidence they are of.

        Importance sampling: a draw from q counts p(x | z) p(z) / q(z), and the mean of that
        estimates p(x). Where q is the posterior, all draws of an image count the same, and the
        evidence is exact.
        """
        if self.log_preference is None:
            return self
        found = self.weight.log() + log_likelihood.detach() - self.log_preference
        none = torch.zeros_like(self.divergence)
        largest = none.scatter_reduce(0, self.image, found, "amax", include_self=False)
        part = (found - largest[self.image]).exp()
        total = none.index_add(0, self.image, part)
        return replace(self, weight=part / total[self.image], log_evidence=largest + total.log())

    def own(self, states: Int[Tensor, " k"], draws: Draws) -> tuple[Int[Tensor, " own"], float]:
        """Divide the work on some of those positions: this rank's rows of z, and the weight of each
        in the mean.

        A rank that has none gets some row, without weight.
        """
        ranks = draws.ranks
        own = (
            ranks.share(states)
            if self.is_shared
            else states[states % ranks.size == ranks.rank] // ranks.size
        )
        weight = float(len(own) > 0) / len(states)
        rows = own if len(own) > 0 else states.new_zeros(1)
        return torch.as_tensor(rows, device=self.z.device), weight


@dataclass(frozen=True)
class Posterior:
    """Mean (b, d) and covariance (b, d, d) of the latent posterior of each image.

    Where fewer motions than latent dimensions exist, a posterior is a ridge that lies at any angle
    to the axes; its standard deviations alone would make what is well known look uncertain.
    """

    mean: Float[Tensor, "b d"]
    covariance: Float[Tensor, "b d d"]

    @property
    def std(self) -> Float[Tensor, "b d"]:
        """Standard deviation of each dimension."""
        return _std(self.covariance)


class LatentModel(nn.Module, ABC):
    """A way of inferring latents; the prior is N(0, I) in every one of them."""

    keeps_posteriors = False
    """Whether it carries a posterior of each image from pass to pass, in any number of dimensions:
    only then can dimensions be added, turned and left out."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def propose(self, scorer: Scorer, draws: Draws) -> Proposal:
        """Choose the conformations a training step compares with a batch of images."""

    @abstractmethod
    def posterior(self, scorer: Scorer) -> Posterior:
        """Infer the latents of a batch of images with everything else fixed; deterministic."""

    def begin_epoch(self, epoch: int, n_images: int, *, anew: bool) -> None:
        """Prepare for proposals in an epoch.

        Parameters
        ----------
        epoch
            Its number.
        n_images
            Number of images; a batch's `index` is among these.
        anew
            Whether nothing that was found of single images before still holds.
        """

    def exchange(self, ranks: Ranks) -> None:
        """Give all ranks what each has found of single images."""

    def memory(self) -> Mapping[str, Tensor]:
        """Return what has been found of single images, for a checkpoint; the same on all ranks
        after an exchange.
        """
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` returned.

        Raises
        ------
        ValueError
            If that was of another model.
        """

    def turn(self, basis: Float[Tensor, "d e"]) -> None:
        """Go over to other latents e, with z = basis · e, the columns of the basis orthonormal.

        Raises
        ------
        NotImplementedError
            If its latents cannot be turned.
        """
        raise NotImplementedError


class Responsibilities:
    """Posterior of each image over the nodes, as it was when the image was last compared with all
    of them.

    In the words of mixture models, the posterior of an image over the nodes is their responsibility
    for it. From one pass over the images to the next it changes little once a model has taken
    shape, so that the nodes drawn in a gradient step may come from an older one, and weights make
    up for what has changed since: an expectation-maximisation whose E-steps are partial (Neal &
    Hinton 1998).

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
            found = _own_rows(table, own)
            is_new = own.float()
            ranks.sum_([found, is_new])
            table.copy_(torch.where(is_new[:, None] > 0, found.to(table.dtype), table))
        self._is_own.fill_(False)


def _own_rows(table: Float[Tensor, "n k"], own: Bool[Tensor, " n"]) -> Float[Tensor, "n k"]:
    return torch.where(own[:, None], table.float(), 0.0)


class MarginalLatents(LatentModel):
    """Exact posterior over nodes of the latent space, for each image.

    A training step draws some nodes for each image. It looks at all of them, and draws from the
    posterior, while a model takes shape; later only at every few passes, a part of the images in
    each, and else draws from the posterior that the last look has found.

    Parameters
    ----------
    latent_dim
        Number of latent dimensions.
    n_nodes
        K, number of nodes.
    n_draws
        Nodes drawn from each image's posterior for the gradient (systematic resampling: unbiased,
        and no more pairs than the posterior has support).
    refinements
        Rounds of local sampling around each image's posterior when latents are inferred after
        training, at most: an image whose posterior has settled takes no more of them.
    look_every
        Passes between two looks at all nodes.
    """

    nodes: Tensor
    spacing: Tensor

    def __init__(
        self,
        latent_dim: int,
        n_nodes: int,
        *,
        n_draws: int = 4,
        refinements: int = 4,
        look_every: int = 1,
    ) -> None:
        super().__init__(latent_dim)
        self.n_draws = n_draws
        self.refinements = refinements
        self.look_every = look_every
        self._responsibilities: Responsibilities | None = None
        self._epoch = 0
        nodes = prior_nodes(latent_dim, n_nodes)
        distance = torch.cdist(nodes, nodes).fill_diagonal_(torch.inf)
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("spacing", distance.min(dim=1).values, persistent=False)

    def begin_epoch(self, epoch: int, n_images: int, *, anew: bool) -> None:
        """See `LatentModel.begin_epoch`."""
        self._epoch = epoch
        if self.look_every == 1:
            return
        if self._responsibilities is None:
            self._responsibilities = Responsibilities(n_images, len(self.nodes), self.nodes.device)
        elif anew:
            self._responsibilities.forget()

    def exchange(self, ranks: Ranks) -> None:
        """See `LatentModel.exchange`."""
        if self._responsibilities is not None:
            self._responsibilities.exchange(ranks)

    def memory(self) -> Mapping[str, Tensor]:
        """See `LatentModel.memory`."""
        return (
            {}
            if self._responsibilities is None
            else {"responsibilities": self._responsibilities.table}
        )

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """See `LatentModel.recall`."""
        self._responsibilities = None
        if "responsibilities" in memory:
            table = memory["responsibilities"]
            if table.shape[1] != len(self.nodes):
                raise ValueError(f"{table.shape[1]} nodes instead of {len(self.nodes)}")
            self._responsibilities = Responsibilities(
                len(table), len(self.nodes), self.nodes.device
            )
            self._responsibilities.table.copy_(table)

    def propose(self, scorer: Scorer, draws: Draws) -> Proposal:
        """Draw nodes from each image's posterior over all of them, of this step or of an earlier
        one.
        """
        decoded = scorer.decode(self.nodes)
        share = self._share(scorer, decoded, draws)
        weight = systematic_resample(share, self.n_draws, draws.uniform(1))
        image, state = torch.nonzero(weight, as_tuple=True)
        preference = share[image, state].log() + math.log(len(self.nodes))
        zero = share.new_zeros(len(share))
        return Proposal(
            decoded, image, state, weight[image, state], zero, preference, is_shared=True
        )

    def _share(self, scorer: Scorer, nodes: Decoded, draws: Draws) -> Float[Tensor, "b k"]:
        """Probabilities to draw the nodes with: the posterior, looked at now or before."""
        kept = self._responsibilities
        if kept is None:
            return torch.softmax(scorer.shared(nodes), dim=1)
        index = scorer.batch.index
        share = kept.of(index)
        due = share[:, 0].isnan() | ((index + self._epoch) % self.look_every == 0)
        share = torch.lerp(share, torch.full_like(share, 1.0 / len(self.nodes)), _DEFENSIVE_SHARE)
        rows = due.nonzero()[:, 0]
        if len(rows) > 0:
            posterior = torch.softmax(scorer.subset(rows).shared(nodes), dim=1)
            share[rows] = posterior
            if not draws.is_idle:
                kept.keep(index[rows], posterior)
        return share

    def posterior(self, scorer: Scorer) -> Posterior:
        """Posterior moments from the nodes and, around each image's posterior, from local samples.

        Nodes count as K samples of the prior and local ones as S of a Gaussian; the balance
        heuristic (Veach & Guibas 1995) weights their union, so that a narrow posterior is resolved
        between nodes and a broad one is not cut off.
        """
        node_score = scorer.shared(scorer.decode(self.nodes))
        weight = torch.softmax(node_score, dim=1)
        mean = weight @ self.nodes
        spacing = (weight @ self.spacing)[:, None]
        covariance = _covariance(weight, self.nodes[None] - mean[:, None])
        width = torch.maximum(_std(covariance), 0.5 * spacing)
        open_rows = torch.arange(len(mean), device=mean.device)
        for _ in range(self.refinements):
            found = self._refine(
                scorer.subset(open_rows), node_score[open_rows], mean[open_rows], width[open_rows]
            )
            moved = (
                (found.mean - mean[open_rows]).abs() / found.std.clamp_min(_SMALLEST_STD)
            ).amax(1)
            mean = mean.index_copy(0, open_rows, found.mean)
            covariance = covariance.index_copy(0, open_rows, found.covariance)
            narrower = torch.maximum(1.2 * found.std, 0.1 * spacing[open_rows])
            # done where the mean has settled, and the samples have come down to the posterior's own
            # width
            still = (moved > _SETTLED) | (narrower < 0.7 * width[open_rows]).any(1)
            width = width.index_copy(0, open_rows, narrower)
            open_rows = open_rows[still]
            if len(open_rows) == 0:
                break
        return Posterior(mean, covariance)

    def _refine(self, scorer: Scorer, node_score: Tensor, mean: Tensor, width: Tensor) -> Posterior:
        local = mean[:, None] + width[:, None] * self._offsets()[None]  # (b, s, d)
        score = torch.cat([node_score, scorer.own(local)], dim=1)
        z = torch.cat([self.nodes.expand(len(mean), -1, -1), local], dim=1)
        prior = -0.5 * (z**2).sum(-1)
        proposal = -0.5 * (((z - mean[:, None]) / width[:, None]) ** 2).sum(-1) - width.log().sum(
            -1, keepdim=True
        )
        mixture = torch.logaddexp(
            prior + math.log(len(self.nodes)), proposal + math.log(local.shape[1])
        )
        weight = torch.softmax(score + prior - mixture, dim=1)
        mean = (weight[..., None] * z).sum(1)
        return Posterior(mean, _covariance(weight, z - mean[:, None]))

    def _offsets(self) -> Tensor:
        return prior_nodes(self.latent_dim, 10 * self.latent_dim).to(self.nodes)


def prior_nodes(latent_dim: int, n_nodes: int) -> Float[Tensor, "k d"]:
    """Equally probable nodes of N(0, I): quantiles in one dimension, a sunflower in two, a Sobol
    sequence beyond.

    They are shifted and sheared to have the prior's mean, and no correlations, exactly.

    Parameters
    ----------
    latent_dim
        Number of dimensions d.
    n_nodes
        Number of nodes K.

    Returns
    -------
    Tensor
        (K, d).
    """
    nodes = _raw_nodes(latent_dim, n_nodes)
    nodes = nodes - nodes.mean(0)
    if latent_dim > 1 and n_nodes > latent_dim:
        covariance = nodes.T @ nodes / n_nodes
        # only the shape is mended: stretched to unit variance, nodes would be too far apart where
        # most of the prior is
        shape = covariance / (covariance.trace() / latent_dim)
        nodes = nodes @ torch.linalg.inv(torch.linalg.cholesky(shape)).T
    return nodes.float()


def _raw_nodes(latent_dim: int, n_nodes: int) -> Float[Tensor, "k d"]:
    quantile = (torch.arange(n_nodes, dtype=torch.float64) + 0.5) / n_nodes
    if latent_dim == 1:
        return torch.special.ndtri(quantile)[:, None]
    if latent_dim == 2:
        radius = torch.sqrt(-2.0 * torch.log1p(-quantile))
        angle = torch.arange(n_nodes) * _GOLDEN_ANGLE
        return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    uniform = torch.quasirandom.SobolEngine(latent_dim, scramble=True, seed=0).draw(
        n_nodes, dtype=torch.float64
    )
    return torch.special.ndtri(uniform.clamp(1e-4, 1.0 - 1e-4))


def systematic_resample(
    probability: Float[Tensor, "b k"], n_draws: int, offset: Float[Tensor, "b 1"]
) -> Float[Tensor, "b k"]:
    """Draw n nodes an image from its probabilities; returns the fraction of draws on each node.

    The offset of an image is uniform in [0, 1).
    The expectation is `probability`, and a node with a share of at least 1/n is never missed
    (Kitagawa 1996).
    """
    position = (offset.to(probability) + torch.arange(n_draws, device=probability.device)) / n_draws
    chosen = torch.searchsorted(probability.cumsum(1), position).clamp_max(probability.shape[1] - 1)
    share = torch.full_like(position, 1.0 / n_draws)
    return torch.zeros_like(probability).scatter_add_(1, chosen, share)


def _covariance(weight: Tensor, deviation: Tensor) -> Tensor:
    return (weight[..., None] * deviation).mT @ deviation


def _std(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2).sqrt()
