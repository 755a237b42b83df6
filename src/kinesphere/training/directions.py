"""Where training starts from: the motions that the images show most of, from one look at them.

At rest, the gradient of an image's log-likelihood with respect to rigid motions θ of bodies is
s = J†(x − F): noise of covariance F = J†J, and F θ of what has moved. Over all images the
covariance of s is therefore about F + F C F, with C that of the motions: eigenvectors of the one
relative to the other, V†FV = 1, of eigenvalues λ > 1, are motions of the molecule, V √(λ − 1), and
of λ = 1 they are noise. F is found by the same images with their residuals replaced by noise. This
is one step of the subspace iteration that training is at first, without its slow beginning: from
small random numbers a weak motion takes a dozen passes to show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinesphere.inference.draws import Draws
from kinesphere.inference.likelihood import Likelihood, PreparedBatch
from kinesphere.motion.base import Motion
from kinesphere.motion.spread import spread_centres

if TYPE_CHECKING:  # the trainer calls these functions
    from kinesphere.training.trainer import Trainer

_MOST_BODIES = 32
_POINTS_A_BODY = 8
_SMALLEST_RADIUS = 5.0  # Å: makes turns and shifts of a body steps of about the same length
_RIDGE = 0.02  # of the mean of the diagonal: directions that no image shows are not to be trusted
# Large motions are not linear in their coordinate, which makes them look larger, and more.
_PART_TAKEN = 0.2
_STEPS = 200
_STATES_A_STEP = 16
_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Bodies:
    """The points of a molecule in compact bodies of about equal size.

    Parameters
    ----------
    points
        (p, 3) in Å.
    body
        (p,) the body of each.
    centre, radius
        (m, 3) and (m,) of each body, in Å.
    """

    points: Float[Tensor, "p 3"]
    body: Int[Tensor, " p"]
    centre: Float[Tensor, "m 3"]
    radius: Float[Tensor, " m"]

    @classmethod
    def of(cls, points: Float[Tensor, "p 3"]) -> Bodies:
        """Divide points into bodies: 32 of them, or one for every eight points."""
        count = max(1, min(_MOST_BODIES, len(points) // _POINTS_A_BODY))
        centre, body = spread_centres(points, count)
        squared = (points - centre[body]).square().sum(1)
        total = squared.new_zeros(len(centre)).index_add(0, body, squared)
        size = torch.bincount(body, minlength=len(centre)).clamp_min(1)
        return cls(points, body, centre, (total / size).sqrt().clamp_min(_SMALLEST_RADIUS))

    def torques_and_forces(self, gradient: Float[Tensor, "b p 3"]) -> Float[Tensor, "b n"]:
        """Gradients with respect to rigid motions of the bodies from those with respect to points:
        for each body three of turns, in units of its radius, and three of shifts.
        """
        arm = (self.points - self.centre[self.body]) / self.radius[self.body, None]
        torque = torch.linalg.cross(arm.expand_as(gradient), gradient)
        total = gradient.new_zeros(len(gradient), len(self.centre), 6)
        total.index_add_(1, self.body, torch.cat([torque, gradient], dim=2))
        return total.flatten(1)

    def displacement(self, motion: Float[Tensor, "k n"]) -> Float[Tensor, "k p 3"]:
        """Displacements of the points in Å by small rigid motions of the bodies."""
        turn, shift = motion.unflatten(1, (-1, 6))[:, self.body].split(3, dim=2)
        arm = (self.points - self.centre[self.body]) / self.radius[self.body, None]
        return torch.linalg.cross(turn, arm.expand_as(turn)) + shift


@torch.no_grad()
def start_along_directions(trainer: Trainer, likelihood: Likelihood) -> None:
    """Let the motion model begin with the motions that the images show most of.

    Parameters
    ----------
    trainer
        Before its first pass.
    likelihood
        At the resolution of that pass.
    """
    n_dimensions = trainer.latents.latent_dim
    reference = trainer.motion.reference.detach()
    bodies = Bodies.of(reference)
    signal, noise = _covariances(trainer, likelihood, bodies)
    directions = principal_directions(signal, noise, n_dimensions)
    imitate(trainer.motion, _PART_TAKEN * bodies.displacement(directions), trainer.generator)


def principal_directions(
    signal: Float[Tensor, "n n"], noise: Float[Tensor, "n n"], count: int
) -> Float[Tensor, "k n"]:
    """Directions in which one covariance exceeds the other most, of the length of the standard
    deviation of what is added.

    Parameters
    ----------
    signal, noise
        F + F C F and F of this module's equation.
    count
        How many directions.
    """
    n = len(noise)
    ridge = _RIDGE * noise.diagonal().mean() * torch.eye(n, dtype=noise.dtype, device=noise.device)
    root = torch.linalg.cholesky(noise + ridge)
    half = torch.linalg.solve_triangular(root, signal, upper=False)
    ratio = torch.linalg.solve_triangular(root, half.T, upper=False)
    values, vectors = torch.linalg.eigh(0.5 * (ratio + ratio.T))
    motions = torch.linalg.solve_triangular(root.T, vectors[:, -count:].flip(1), upper=True)
    size = (values[-count:].flip(0) - 1.0).clamp_min(0.0).sqrt()
    found = (motions * size).T
    if len(found) < count:
        found = torch.cat([found, found.new_zeros(count - len(found), n)])
    return found


def _covariances(
    trainer: Trainer, likelihood: Likelihood, bodies: Bodies
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """Covariances over the images of their gradients at rest, and of those of noise."""
    decoder = trainer.decoder
    rest = decoder.at_rest.detach()
    weighted = likelihood.weighted(decoder.weight)
    n = 6 * len(bodies.centre)
    sums = [rest.new_zeros(n, dtype=torch.float64) for _ in range(2)]
    squares = [rest.new_zeros(n, n, dtype=torch.float64) for _ in range(2)]
    count = 0
    batches = trainer.batches(trainer.progress.epoch)
    for batch, draws in trainer.shares(trainer.observations, batches, likelihood.forward.band):
        prepared = weighted.prepare(batch)
        count += draws.n_images
        for number, images in enumerate((prepared, _noise_like(weighted, prepared, rest, draws))):
            force = _gradient_at_rest(weighted, images, rest)
            of_points = force.new_zeros(len(force), len(bodies.points), 3)
            of_points.index_add_(1, decoder.owner, force)
            found = draws.weight * bodies.torques_and_forces(of_points).double()
            sums[number] += found.sum(0)
            squares[number] += found.T @ found
    trainer.ranks.sum_([*sums, *squares])
    means = [total / count for total in sums]
    signal, noise = (
        square / count - torch.outer(mean, mean)
        for square, mean in zip(squares, means, strict=True)
    )
    return signal.float(), noise.float()


def _gradient_at_rest(
    likelihood: Likelihood, prepared: PreparedBatch, rest: Float[Tensor, "g 3"]
) -> Float[Tensor, "b g 3"]:
    """Gradient of the log-likelihood of each image with respect to the Gaussians at rest."""
    row = torch.arange(len(prepared.batch), device=rest.device)
    with torch.enable_grad():
        positions = rest.repeat(len(row), 1, 1).requires_grad_()
        score, _ = likelihood.pairs(prepared, positions, row, row)
        (gradient,) = torch.autograd.grad(score.sum(), positions)
    return gradient


def _noise_like(
    likelihood: Likelihood, prepared: PreparedBatch, rest: Float[Tensor, "g 3"], draws: Draws
) -> PreparedBatch:
    """Make the same images, as they would be of the molecule at rest under new noise."""
    row = torch.zeros(len(prepared.batch), dtype=torch.int64, device=rest.device)
    images = torch.arange(len(row), device=rest.device)
    _, factor = likelihood.pairs(prepared, rest[None], images, row)
    values = draws.normal(prepared.data.shape[1], 2).to(rest)
    root = (0.5 * likelihood.forward.band.multiplicity).sqrt()
    noise = torch.view_as_complex(values) * root
    return replace(prepared, data=(factor * prepared.gain + noise).to(prepared.data.dtype))


def imitate(motion: Motion, directions: Float[Tensor, "d p 3"], generator: torch.Generator) -> None:
    """Fit a motion model to displacements Σ_j z_j u_j of its reference points.

    Parameters
    ----------
    motion
        Its networks learn; what it says of the molecule itself stays as it is.
    directions
        (latent_dim, n_points, 3) u in Å.
    generator
        Source of the latents that it is fitted at.
    """
    fixed = {id(parameter) for parameter in motion.structural_parameters()}
    networks = [p for p in motion.parameters() if id(p) not in fixed]
    optimizer = torch.optim.Adam(networks, lr=_LEARNING_RATE)
    rest = motion.reference.detach()
    for _ in range(_STEPS):
        z = torch.randn(_STATES_A_STEP, len(directions), generator=generator).to(rest)
        wanted = torch.einsum("kd,dpc->kpc", z, directions)
        with torch.enable_grad():
            loss = (motion(z) - rest - wanted).square().sum(-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
    for parameter in motion.parameters():
        parameter.grad = None
