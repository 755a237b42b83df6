"""Latent conformations as a Gaussian posterior of each image, carried from pass to pass.

Nodes that cover a prior thin out as dimensions are added; what a single image says does not. Its
posterior is close to a Gaussian wherever structure factors change nearly linearly over its width,
F(m + L u) ≈ F(m) + J u, and then it follows from the 2 d + 1 projections that give the secants J:
precision J†J + LᵀL and mean L (J†J + LᵀL)⁻¹ (Re J†(x − F) − Lᵀm), in units of the present posterior
m, L Lᵀ (a Gauss-Newton step; with secants over the width of the posterior instead of derivatives,
as in the iterated posterior linearisation filter of García-Fernández et al. 2015,
doi:10.1109/TSP.2015.2454485). So cost grows with the number of dimensions, not exponentially. Two
things keep it honest: draws are weighed by what they explain, as importance sampling asks, and an
image is compared with the conformations of others now and then, which it joins where they explain
it better than the place that it has come to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinesphere.inference.draws import Draws
from kinesphere.inference.latents import LatentModel, Posterior, Proposal, prior_nodes
from kinesphere.inference.likelihood import Scorer
from kinesphere.ranks import Ranks

_LONGEST_STEP = 3.0  # in standard deviations of the present posterior
_SMALLEST_STD = 1e-3
_POOL = 256  # images whose conformations are offered to others
_OTHERS_AT_LAST = 32  # of them, when latents are inferred after training
_STEPS_AT_LAST = 6
_SETTLED = 0.05  # of a posterior's standard deviation
_SAMPLES_A_DIMENSION = 10
_WIDENED = 1.2  # samples of a wider Gaussian do not miss the tails
_FEWEST_EFFECTIVE = 3.0


@dataclass(frozen=True)
class Gaussians:
    """Gaussians over the latent space: means (b, d) and lower roots L of covariances L Lᵀ, (b, d,
    d).
    """

    mean: Float[Tensor, "b d"]
    root: Float[Tensor, "b d d"]

    @classmethod
    def prior(cls, count: int, latent_dim: int, device: torch.device) -> Gaussians:
        """Return the prior N(0, I), so many times."""
        root = torch.eye(latent_dim, device=device).repeat(count, 1, 1)
        return cls(torch.zeros(count, latent_dim, device=device), root)

    @classmethod
    def of_moments(
        cls, mean: Float[Tensor, "b d"], covariance: Float[Tensor, "b d d"]
    ) -> Gaussians:
        """Return the Gaussians of these moments, none narrower than 0.001 in any direction."""
        floor = _SMALLEST_STD**2 * torch.eye(mean.shape[1], device=mean.device)
        return cls(mean, torch.linalg.cholesky(covariance + floor))

    def __len__(self) -> int:
        """Return their number."""
        return len(self.mean)

    def __getitem__(self, rows: Int[Tensor, " k"]) -> Gaussians:
        """Return some of them."""
        return Gaussians(self.mean[rows], self.root[rows])

    @property
    def covariance(self) -> Float[Tensor, "b d d"]:
        """Covariances."""
        return self.root @ self.root.mT

    def at(self, offset: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Positions at offsets in units of the Gaussians."""
        return self.mean[:, None] + offset @ self.root.mT

    def log_density(self, offset: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Logarithm of the density at offsets in units of the Gaussians, but for a constant of the
        dimension.
        """
        volume = self.root.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * offset.square().sum(-1) - volume[:, None]

    def where(self, chosen: Bool[Tensor, " b"], other: Gaussians) -> Gaussians:
        """Return these where chosen, and the others elsewhere."""
        return Gaussians(
            torch.where(chosen[:, None], self.mean, other.mean),
            torch.where(chosen[:, None, None], self.root, other.root),
        )

    def replaced(self, rows: Int[Tensor, " k"], new: Gaussians) -> Gaussians:
        """Return them with some replaced."""
        return Gaussians(
            self.mean.index_copy(0, rows, new.mean), self.root.index_copy(0, rows, new.root)
        )

    def turned(self, basis: Float[Tensor, "d e"]) -> Gaussians:
        """Return what they are in latents e with z = basis · e, the columns of the basis
        orthonormal or zero; of a dimension that is new nothing is known.
        """
        new = torch.eye(basis.shape[1], device=basis.device) - basis.T @ basis
        return Gaussians.of_moments(self.mean @ basis, basis.T @ self.covariance @ basis + new)


@torch.no_grad()
def gauss_newton(scorer: Scorer, now: Gaussians) -> Gaussians:
    """Improve the Gaussian posterior of each image of a batch by one Gauss-Newton step.

    Parameters
    ----------
    scorer
        The images; their data term is that of Gaussian noise.
    now
        Where to start from. Secants are taken over one standard deviation of it, either way.

    Returns
    -------
    Gaussians
        Exact, from wherever the step starts, where structure factors are linear in the latents.
    """
    n_images, d = now.mean.shape
    along = torch.eye(d, device=now.mean.device)
    offsets = torch.cat([torch.zeros_like(along[:1]), along, -along])
    model = scorer.models(now.at(offsets.expand(n_images, -1, -1)))  # (b, 2 d + 1, m)
    secant = torch.view_as_real(0.5 * (model[:, 1 : d + 1] - model[:, d + 1 :])).flatten(2)
    residual = torch.view_as_real(scorer.prepared.data - model[:, 0]).flatten(1)
    precision = secant @ secant.mT + now.root.mT @ now.root
    gradient = secant @ residual[..., None] - now.root.mT @ now.mean[..., None]
    factor = torch.linalg.cholesky(precision)
    step = torch.cholesky_solve(gradient, factor)[..., 0]
    step = step * (_LONGEST_STEP / step.norm(dim=1, keepdim=True).clamp_min(_LONGEST_STEP))
    covariance = now.root @ torch.cholesky_inverse(factor) @ now.root.mT
    return Gaussians.of_moments(now.at(step[:, None])[:, 0], covariance)


class GaussianLatents(LatentModel):
    """A Gaussian posterior for each image, improved by a Gauss-Newton step whenever it is met.

    Parameters
    ----------
    latent_dim
        Number of latent dimensions.
    n_draws
        Draws from each image's posterior for the gradient, in pairs either side of its mean.
    n_others
        Conformations of other images that an image is compared with in a look.
    look_every
        Passes between two such looks.
    others
        Posteriors of images that were found before: where inference may start.
    """

    keeps_posteriors = True
    _place: Tensor

    def __init__(
        self,
        latent_dim: int,
        *,
        n_draws: int = 4,
        n_others: int = 16,
        look_every: int = 4,
        others: Gaussians | None = None,
    ) -> None:
        super().__init__(latent_dim)
        self.n_draws = n_draws
        self.n_others = n_others
        self.look_every = look_every
        self._pool = others
        self._pool_epoch = -1
        # moves with the model, and so says where the table of posteriors belongs
        self.register_buffer("_place", torch.zeros(()), persistent=False)
        self._known: Tensor | None = None
        self._is_own = torch.zeros(0, dtype=torch.bool)
        self._table = Gaussians.prior(0, latent_dim, torch.device("cpu"))
        self._epoch = 0

    def begin_epoch(self, epoch: int, n_images: int, *, anew: bool) -> None:  # noqa: ARG002 - a step makes up for what has changed
        """See `LatentModel.begin_epoch`."""
        self._epoch = epoch
        if self._known is None:
            self._make_table(n_images)
        if self._pool_epoch != epoch:  # a pass that is resumed keeps what it began with
            self._pool_epoch = epoch
            self._pool = self.examples(_POOL)

    def _make_table(self, n_images: int) -> None:
        device = self._place.device
        self._table = Gaussians.prior(n_images, self.latent_dim, device)
        self._known = torch.zeros(n_images, dtype=torch.bool, device=device)
        self._is_own = torch.zeros_like(self._known)

    def examples(self, most: int) -> Gaussians | None:
        """Posteriors of some images, spread evenly over those that have one; none, if none has."""
        if self._known is None:
            return self._pool
        rows = self._known.nonzero()[:, 0]
        if len(rows) == 0:
            return None
        count = min(most, len(rows))
        return self._table[rows[torch.arange(count, device=rows.device) * len(rows) // count]]

    def exchange(self, ranks: Ranks) -> None:
        """See `LatentModel.exchange`."""
        if self._known is None or ranks.size == 1:
            return
        own = self._is_own
        mean = torch.where(own[:, None], self._table.mean, 0.0)
        root = torch.where(own[:, None, None], self._table.root, 0.0)
        is_new = own.float()
        ranks.sum_([mean, root, is_new])
        self._table = Gaussians(mean, root).where(is_new > 0, self._table)
        self._known |= is_new > 0
        self._is_own.fill_(False)

    def memory(self) -> Mapping[str, Tensor]:
        """See `LatentModel.memory`."""
        if self._known is None:
            return {}
        found = {
            "mean": self._table.mean,
            "root": self._table.root,
            "known": self._known,
            "pool_epoch": torch.tensor(self._pool_epoch),
        }
        if self._pool is not None:
            found |= {"pool_mean": self._pool.mean, "pool_root": self._pool.root}
        return found

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """See `LatentModel.recall`."""
        self._known = None
        if "mean" not in memory:
            return
        n_images, latent_dim = memory["mean"].shape
        if latent_dim != self.latent_dim:
            raise ValueError(f"{latent_dim} latent dimensions instead of {self.latent_dim}")
        self._make_table(n_images)
        device = self._table.mean.device
        self._table = Gaussians(memory["mean"].to(device), memory["root"].to(device))
        self._known = memory["known"].to(device)
        self._pool_epoch = int(memory["pool_epoch"])
        self._pool = None
        if "pool_mean" in memory:
            pool = (memory["pool_mean"].to(device), memory["pool_root"].to(device))
            self._pool = Gaussians(*pool)

    def turn(self, basis: Float[Tensor, "d e"]) -> None:
        """See `LatentModel.turn`."""
        self.latent_dim = basis.shape[1]
        self._table = self._table.turned(basis)
        self._pool = None if self._pool is None else self._pool.turned(basis)

    @property
    def mean_covariance(self) -> Float[Tensor, "d d"]:
        """Mean of the posterior covariances of the images that have one; of a dimension that they
        say nothing about, 1.
        """
        if self._known is None:
            raise AssertionError("no image has been looked at")
        return self._table.covariance[self._known].mean(0)

    def propose(self, scorer: Scorer, draws: Draws) -> Proposal:
        """Draw from each image's posterior, improved by a step."""
        if self._known is None:
            raise AssertionError("an epoch has to begin first")
        index = scorer.batch.index
        now = self._look(scorer, self._table[index], draws)
        now = gauss_newton(scorer, now)
        if not draws.is_idle:
            self._table = self._table.replaced(index, now)
            self._known[index] = True
            self._is_own[index] = True
        n_images, d = now.mean.shape
        half = draws.normal((self.n_draws + 1) // 2, d).to(now.mean)
        offset = torch.cat([half, -half], dim=1)[:, : self.n_draws]
        z = now.at(offset)
        preference = now.log_density(offset) + 0.5 * z.square().sum(-1)
        row = torch.arange(n_images * self.n_draws, device=z.device)
        return Proposal(
            scorer.decode(z.flatten(0, 1)),
            row // self.n_draws,
            row,
            torch.full_like(z[..., 0], 1.0 / self.n_draws).flatten(),
            torch.zeros_like(z[:, 0, 0]),
            preference.flatten(),
        )

    def _look(self, scorer: Scorer, now: Gaussians, draws: Draws) -> Gaussians:
        """Let images whose turn it is join others that explain them better."""
        if self._pool is None:
            return now
        chosen = draws.some(len(self._pool), self.n_others).to(now.mean.device)
        due = ((scorer.batch.index + self._epoch) % self.look_every == 0).nonzero()[:, 0]
        if len(due) == 0:
            return now
        some = scorer.subset(due)
        here = now[due]
        score = some.own(here.mean[:, None])[:, 0] - 0.5 * here.mean.square().sum(1)
        there, best = _best_of(some, self._pool[chosen])
        return now.replaced(due, there.where(best > score, here))

    @torch.no_grad()
    def posterior(self, scorer: Scorer) -> Posterior:
        """Posterior moments: from the best of other images' conformations by Gauss-Newton steps,
        then from samples of the Gaussian that was found, weighted by what they explain.

        Nothing that training found of the images themselves enters.
        """
        return self._sampled(scorer, self.approximate(scorer))

    @torch.no_grad()
    def approximate(self, scorer: Scorer) -> Gaussians:
        """Give the Gaussian posterior of each image, from the best of other images' conformations
        by Gauss-Newton steps.
        """
        device = scorer.prepared.data.device
        pool = self.examples(_OTHERS_AT_LAST)
        if pool is None:
            now = Gaussians.prior(len(scorer.batch), self.latent_dim, device)
        else:
            now, _ = _best_of(scorer, pool)
        rows = torch.arange(len(now), device=device)
        for _ in range(_STEPS_AT_LAST):
            part = now[rows]
            found = gauss_newton(scorer.subset(rows), part)
            now = now.replaced(rows, found)
            step = torch.linalg.solve_triangular(
                found.root, (found.mean - part.mean)[..., None], upper=False
            )
            rows = rows[step[..., 0].abs().amax(1) > _SETTLED]
            if len(rows) == 0:
                break
        return now

    def _sampled(self, scorer: Scorer, now: Gaussians) -> Posterior:
        """Moments of the posterior from samples of a Gaussian; those of the Gaussian itself where
        few samples count.
        """
        count = _SAMPLES_A_DIMENSION * self.latent_dim
        offset = prior_nodes(self.latent_dim, count).to(now.mean).expand(len(now), -1, -1)
        wide = Gaussians(now.mean, _WIDENED * now.root)
        z = wide.at(offset)
        score = scorer.own(z) - 0.5 * z.square().sum(-1) - wide.log_density(offset)
        weight = torch.softmax(score, dim=1)
        mean = (weight[..., None] * z).sum(1)
        deviation = z - mean[:, None]
        covariance = (weight[..., None] * deviation).mT @ deviation
        counts = (1.0 / weight.square().sum(1)) >= _FEWEST_EFFECTIVE * self.latent_dim
        return Posterior(
            torch.where(counts[:, None], mean, now.mean),
            torch.where(counts[:, None, None], covariance, now.covariance),
        )


@torch.no_grad()
def _best_of(scorer: Scorer, others: Gaussians) -> tuple[Gaussians, Float[Tensor, " b"]]:
    """For each image the most probable of some conformations, and its log-likelihood plus
    log-prior.
    """
    score = scorer.shared(scorer.decode(others.mean)) - 0.5 * others.mean.square().sum(1)
    best = score.max(dim=1)
    return others[best.indices], best.values
