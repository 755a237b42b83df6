"""Does the motion inferred from half of an image's coefficients predict the other half? The
statistic of all nulls.

A latent inferred from an image follows that image's noise too, and the image is then explained
better whether or not anything moves. So each image's Fourier coefficients are split at random into
sets A and B, whose noise is independent; the latent is inferred from A, and what it predicts is
scored on B. With whitened coefficients X of B and a predicted projection M, and with one scale a
for each resolution shell of all images, an image's log-likelihood is Σ_shells a·Re⟨X, M⟩ − ½a²⟨M,
M⟩; the gain is its difference between the moved and the best still structure. Only what A truly
tells of the image can raise it; noise fitted in A lowers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.imaging.pose import project_points, project_states
from kinesphere.inference.coefficient_sets import first_of_mates, masked, split_coefficients
from kinesphere.inference.decoder import Decoder
from kinesphere.inference.gaussian import GaussianLatents, Gaussians
from kinesphere.inference.latents import LatentModel, MarginalLatents
from kinesphere.inference.likelihood import Likelihood, PreparedBatch, Scorer
from kinesphere.inference.options import default_n_nodes
from kinesphere.observations.observations import Observations
from kinesphere.runs.halves import images_of_model, images_to_test
from kinesphere.runs.run import Run

_IMAGES_AT_ONCE = 64
_VALUES_AT_ONCE = 1 << 21  # complex values of projections held at once: 16 MB
_PLACES_TO_START = 64
N_OTHERS = 24


@dataclass(frozen=True)
class HeldOutGain:
    """The gain of the moved over the best still structure, in nats.

    Parameters
    ----------
    per_image
        (n,) of each image, the mean of predicting B from A and A from B.
    permuted
        (p,) means over the images with latents permuted among them.
    """

    per_image: Float[np.ndarray, " n"]
    permuted: Float[np.ndarray, " p"]

    @property
    def mean(self) -> float:
        """Mean over the images."""
        return float(self.per_image.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, from the scatter over the images."""
        return float(self.per_image.std(ddof=1) / np.sqrt(len(self.per_image)))


@dataclass(frozen=True)
class Judged:
    """A trained model and the images that it is asked about.

    Parameters
    ----------
    decoder, likelihood
        The model; where a run has two, the one that these images did not train.
    latents
        Inference without an encoder, whatever the run was trained with.
    observations
        The images.
    """

    decoder: Decoder
    likelihood: Likelihood
    latents: LatentModel
    observations: Observations

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "k d"]) -> Float[Tensor, "k g 3"]:
        """Gaussians at latent positions."""
        return self.decoder.decode(z)


def judge(run: Run, observations: Observations, half: Int[np.ndarray, " n"]) -> list[Judged]:
    """Bring together the models of a run and the images each is to be asked about.

    Parameters
    ----------
    run
        The finished run.
    observations
        Some of its images.
    half
        (n,) the half set of each.

    Returns
    -------
    list
        Where the run has two models, each with the images of the *other* half set: what a model has
        learnt of its own images by heart must not count.
    """
    judged = []
    for label, decoder in run.decoders.items():
        rows = images_to_test(label, half)
        if len(rows):
            likelihood = run.likelihood(label, observations.band)
            images = observations.subset(torch.from_numpy(rows))
            judged.append(Judged(decoder, likelihood, _inference(run, label), images))
    return judged


def _inference(run: Run, label: int) -> LatentModel:
    """Inference without an encoder, whatever the run was trained with: over nodes of the prior, or
    from where the images are that a model was trained on.
    """
    chosen = run.options.training.latents
    if chosen.inference != "gaussian":
        n_nodes = chosen.n_nodes or default_n_nodes(chosen.n_dimensions)
        return MarginalLatents(chosen.n_dimensions, n_nodes)
    rows = images_of_model(label, run.latents.half)
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PLACES_TO_START)).astype(int)]
    moments = (
        torch.from_numpy(run.latents.mean[some]),
        torch.from_numpy(run.latents.covariance[some]),
    )
    return GaussianLatents(chosen.n_dimensions, others=Gaussians.of_moments(*moments))


def held_out_gain(
    judged: list[Judged],
    seed: int,
    n_permutations: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> HeldOutGain:
    """Measure how much better the moved structure predicts held-out coefficients than the best
    still one.

    Parameters
    ----------
    judged
        Models and images.
    seed
        Of the split and the permutations.
    n_permutations
        How often latents are permuted.
    advance
        Called with the number of images done since the last call.
    """
    gains = []
    permuted = []
    weights = []
    for number, part in enumerate(judged):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        gain, shuffled = _gain_of(part, generator, n_permutations, advance)
        gains.append(gain)
        permuted.append(shuffled)
        weights.append(len(gain))
    return HeldOutGain(np.concatenate(gains), np.average(permuted, axis=0, weights=weights))


def _gain_of(
    judged: Judged, generator: torch.Generator, n_permutations: int, advance: Callable[[int], None]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " p"]]:
    n = len(judged.observations)
    in_a = split_coefficients(judged.observations.band, n, generator)
    sides = (in_a, ~in_a)
    latents = [_infer(judged, side, advance) for side in sides]
    every = torch.cat(latents)
    still = torch.stack([judged.decode(part).sum(0) for part in every.split(_IMAGES_AT_ONCE)]).sum(
        0
    ) / len(every)
    others = every[torch.randperm(len(every), generator=generator)[:N_OTHERS]]
    moved, unmoved, blurred, other = _products(
        judged, latents, sides, still, others, each=n_permutations > 0
    )
    group = judged.observations.batch(torch.arange(n)).group
    gain = torch.zeros(n, dtype=torch.float64)
    permuted = torch.zeros(n_permutations, dtype=torch.float64)
    column = torch.randint(len(others), (n_permutations, n), generator=generator)
    for side in range(2):
        rivals = [_fitted_score(products[:, :, side], group) for products in (unmoved, blurred)]
        best_still = max(rivals, key=lambda score: float(score.mean()))
        gain += 0.5 * (_fitted_score(moved[:, :, side], group) - best_still)
        for number, chosen in enumerate(column):
            score = _fitted_score(other[torch.arange(n), chosen][:, :, side], group)
            permuted[number] += 0.5 * (score - best_still).mean()
    return gain.numpy(), permuted.numpy()


@torch.no_grad()
def _infer(
    judged: Judged, side: Bool[Tensor, "n m"], advance: Callable[[int], None]
) -> Float[Tensor, "n d"]:
    """Posterior mean of each image's latent, from the coefficients of one side alone."""
    means = []
    for rows in torch.arange(len(judged.observations)).split(_IMAGES_AT_ONCE):
        prepared = masked(judged.likelihood.prepare(judged.observations.batch(rows)), side[rows])
        scorer = Scorer(judged.likelihood, prepared, judged.decoder)
        means.append(judged.latents.posterior(scorer).mean)
        advance(len(rows))
    return torch.cat(means)


@torch.no_grad()
def _products(
    judged: Judged,
    latents: list[Tensor],
    sides: tuple[Tensor, Tensor],
    still: Tensor,
    others: Tensor,
    *,
    each: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Re⟨X, M⟩ and ⟨M, M⟩ of every image, side and shell, for four predictions M.

    Returns
    -------
    tuple
        (n, 2, 2, shells), first product then side: moved as the *other* side says, the mean
        structure, the mean density of other images' structures; and (n, k, 2, 2, shells): each of k
        other images' structures, or of none.
    """
    likelihood = judged.likelihood.weighted(judged.decoder.weight)
    band = likelihood.forward.band
    # the scale of each shell is fitted afterwards: here it is one
    signal = SignalAndNoise(torch.ones_like(likelihood.signal.scale), likelihood.signal.variance)
    unscaled = Likelihood(likelihood.forward, likelihood.objective, signal)
    structures = judged.decode(others)
    stores: tuple[list[Tensor], ...] = ([], [], [], [])
    for rows in _batches(len(judged.observations), len(others) * len(band)):
        prepared = unscaled.prepare(judged.observations.batch(rows))
        rotation = prepared.batch.rotation
        masks = [side[rows] for side in sides]

        def factor(positions: Tensor, rotation: Tensor = rotation) -> Tensor:
            return likelihood.forward.structure_factor(project_points(positions, rotation))

        from_a, from_b = (factor(judged.decode(z[rows])) for z in latents)
        points = project_states(structures, rotation)
        many = likelihood.forward.structure_factor(points.flatten(0, 1)).reshape(
            len(rows), len(others), -1
        )
        predictions = (
            (from_b, from_a),
            (factor(still.expand(len(rows), -1, -1)),) * 2,
            (many.mean(1),) * 2,
        )
        for store, models in zip(stores, predictions, strict=False):
            store.append(_of_sides(prepared, models, masks, band))
        kept = many if each else many[:, :1]
        stores[3].append(
            torch.stack(
                [_of_sides(prepared, (one, one), masks, band) for one in kept.unbind(1)], dim=1
            )
        )
    moved, unmoved, blurred, other = (torch.cat(parts) for parts in stores)
    return moved, unmoved, blurred, other


def _batches(n_images: int, values_per_image: int) -> Iterator[Tensor]:
    yield from torch.arange(n_images).split(max(1, _VALUES_AT_ONCE // values_per_image))


def _of_sides(
    prepared: PreparedBatch, factors: tuple[Tensor, Tensor], masks: list[Tensor], band: FourierBand
) -> Float[Tensor, "b 2 2 shells"]:
    """Inner products of what is predicted for each side with its coefficients: product, then
    side.
    """
    return torch.stack(
        [_by_shell(prepared, f, mask, band) for f, mask in zip(factors, masks, strict=True)], dim=2
    )


def _by_shell(
    prepared: PreparedBatch, factor: Tensor, mask: Tensor, band: FourierBand
) -> Float[Tensor, "b 2 shells"]:
    """Re⟨X, M⟩ and ⟨M, M⟩ over the coefficients of a side, by shell; multiplicity is in data and
    gain already.
    """
    model = factor * (prepared.gain * mask)
    data = prepared.data
    values = torch.stack(
        [data.real * model.real + data.imag * model.imag, model.real**2 + model.imag**2], dim=1
    )
    sums = values.new_zeros(*values.shape[:2], band.n_shells + 1).index_add_(2, band.shell, values)
    return sums.double()


def _fitted_score(
    products: Float[Tensor, "n 2 shells"], group: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Log-likelihood of every image with the scale of each shell, shared by an optics group, that
    fits best.

    Every prediction has these same parameters, fitted to the same coefficients: what they fit to
    noise cancels.
    """
    sums = products.new_zeros(int(group.max()) + 1, *products.shape[1:]).index_add_(
        0, group, products
    )
    scale = (sums[:, 0] / sums[:, 1].clamp_min(torch.finfo(torch.float64).tiny)).clamp_min(0.0)[
        group
    ]
    return (scale * products[:, 0] - 0.5 * scale**2 * products[:, 1]).sum(1)


def randomise_phases(
    data: Complex[Tensor, "n m"],
    band: FourierBand,
    generator: torch.Generator,
    resolution_angstrom: float | None,
) -> Complex[Tensor, "n m"]:
    """Give coefficients beyond a resolution random phases, and keep their amplitudes; none: all of
    them.

    What is left is noise of the power of the images (Chen et al. 2013,
    doi:10.1016/j.ultramic.2013.06.004, do the same to tell what an FSC owes to over-fitting).
    """
    stands_for = first_of_mates(band)
    angle = (2.0 * torch.pi * torch.rand(data.shape, generator=generator))[:, stands_for]
    sign = torch.where(
        stands_for == torch.arange(len(band)), 1.0, -1.0
    )  # X(−k) is the conjugate of X(k)
    if resolution_angstrom is not None:
        sign = sign * (band.shell > band.field_of_view_angstrom / resolution_angstrom)
    angle = angle * sign
    return data * torch.polar(torch.ones_like(angle), angle)
