"""Checks before a start: do the images show the model, in their poses, where it lies?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from kinesphere.errors import InputError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.forward import ForwardModel, shell_values
from kinesphere.imaging.noise import ShellStatistics
from kinesphere.observations.observations import Observations, ParticleBatch

_LARGEST_OFFSET_ANGSTROM = 6.0
_LARGEST_OFFSET_FRACTION = 0.03
_FEWEST_SIGMA = 4.0
_CLEARLY_BETTER = 1.25
_RESOLUTION_ANGSTROM = 15.0
_MOST_SHELLS = 16
_FEWEST_SHELLS = 4
_MOST_IMAGES = 512
_OVERSAMPLING = 2
# Of the field of view: beyond it, nearest-neighbour insertion fades the correlation out.
_LARGEST_SHIFT = 1.0 / 3.0


@dataclass(frozen=True)
class ModelPose:
    """The model, turned about its centroid and then moved, and how many σ above chance the images
    match it there.
    """

    turn: NDArray[np.float64]
    shift_angstrom: NDArray[np.float64]
    significance: float

    @property
    def angle_degrees(self) -> float:
        """Angle of the turn."""
        return float(np.rad2deg(Rotation.from_matrix(self.turn).magnitude()))


def compare_poses(
    forward: ForwardModel, beads: Float[Tensor, "g 3"], observations: Observations
) -> tuple[ModelPose, ModelPose]:
    """Match some of the images with the model as it lies, and find where they match it best.

    Parameters
    ----------
    forward
        Forward model of the run.
    beads
        Positions of its Gaussians in Å, the box centre at zero; on the device of `forward`.
    observations
        The images, of which up to 512 at up to 15 Å are used.

    Returns
    -------
    tuple
        The model as it lies, and the best of its 24 quarter turns, each moved by up to a third of
        the field of view.
    """
    coarse = forward.coarser(_n_shells(observations.band))
    rows = (
        torch.linspace(0, len(observations) - 1, min(_MOST_IMAGES, len(observations)))
        .round()
        .long()
    )
    batch = observations.batch(rows, coarse.band, beads.device)
    inverse_power = _inverse_power(batch, coarse.band, observations.n_groups)
    transfer = coarse.transfer(batch.ctf)
    target = batch.data.conj() * transfer * inverse_power
    centroid = beads.mean(0)
    as_it_lies: ModelPose | None = None
    best: ModelPose | None = None
    for turn in _turns():
        turned = (beads - centroid) @ torch.from_numpy(turn).to(beads).T + centroid
        factor = coarse.structure_factor(turned @ batch.rotation[:, :, :2])
        spread = float(
            (inverse_power * (transfer * factor.abs()) ** 2).sum().clamp_min(1e-30).sqrt()
        )
        correlation, shifts = _correlate(target * factor, batch, coarse.band)
        if as_it_lies is None:
            as_it_lies = ModelPose(turn, np.zeros(3), float((target * factor).real.sum()) / spread)
        top = int(correlation.argmax())
        significance = float(correlation[top]) / spread
        if best is None or significance > best.significance:
            best = ModelPose(turn, shifts[top].cpu().double().numpy(), significance)
    if as_it_lies is None or best is None:
        raise AssertionError("there are 24 turns")
    return as_it_lies, best


def _n_shells(band: FourierBand) -> int:
    wanted = int(band.field_of_view_angstrom / _RESOLUTION_ANGSTROM)
    return min(max(wanted, _FEWEST_SHELLS), _MOST_SHELLS, band.n_shells)


def _turns() -> Iterator[NDArray[np.float64]]:
    """Yield the rotations that map a cube onto itself, none at all first."""
    group = Rotation.create_group("O")
    yield from (turn.as_matrix() for turn in group[np.argsort(group.magnitude(), kind="stable")])


def _inverse_power(batch: ParticleBatch, band: FourierBand, n_groups: int) -> Float[Tensor, "b m"]:
    """Weight of each coefficient: its multiplicity over the mean power of the images in its
    shell.
    """
    statistics = ShellStatistics(band, n_groups)
    statistics.add_data(batch.group, batch.data)
    power = (
        (statistics.data / statistics.count.clamp_min(1.0))
        .clamp_min(1e-30)
        .float()
        .to(batch.data.device)
    )
    return band.multiplicity / shell_values(power, batch.group, band)


def _correlate(
    cross: Complex[Tensor, "b m"], batch: ParticleBatch, band: FourierBand
) -> tuple[Float[Tensor, " shifts"], Float[Tensor, "shifts 3"]]:
    """Correlation of all images with the model moved by each shift on a grid.

    A shift T multiplies a coefficient at the spatial frequency s by exp(−2πi s·T), s in the frame
    of the volume. So the cross-spectra of all images, inserted at their s, have the correlation at
    every T as their Fourier transform.
    """
    extent = _OVERSAMPLING * band.field_of_view_angstrom
    n = 4 * _OVERSAMPLING * band.n_shells
    sx, sy = band.frequencies()
    frequency = (
        batch.rotation[:, None, :, 0] * sx[:, None] + batch.rotation[:, None, :, 1] * sy[:, None]
    )  # (b, m, 3)
    cell = torch.remainder(torch.round(frequency * extent).long(), n)
    flat = (cell[..., 0] * n + cell[..., 1]) * n + cell[..., 2]
    grid = torch.zeros(n**3, dtype=cross.dtype, device=cross.device)
    grid.index_add_(0, flat.flatten(), cross.flatten())
    correlation = torch.fft.fftn(grid.reshape(n, n, n)).real.flatten()
    step = torch.fft.fftfreq(n, 1.0 / extent, device=cross.device)
    shifts = torch.cartesian_prod(step, step, step)
    near = (shifts.abs() <= _LARGEST_SHIFT * band.field_of_view_angstrom).all(1)
    return correlation[near], shifts[near]


def require_contrast(statistics: ShellStatistics, source: Path) -> None:
    """Refuse images in which the molecule is dark.

    Raises
    ------
    InputError
        Naming the option that inverts them.
    """
    significance = _significance(statistics)
    if significance < -_FEWEST_SIGMA:
        problem = f"the images show the model with inverted contrast ({significance:.0f} σ)"
        raise InputError(source, problem, "Pass --invert-contrast")


def require_match(statistics: ShellStatistics, source: Path) -> None:
    """Refuse a model that the images, in their poses, do not show.

    Raises
    ------
    InputError
        Saying how weak the match is.
    """
    significance = _significance(statistics)
    if significance < _FEWEST_SIGMA:
        problem = f"the images do not show the model in their poses (match {significance:.1f} σ)"
        raise InputError(
            source, problem, "Check that model, map, poses and pixel size belong together"
        )


def require_best_pose(
    as_it_lies: ModelPose, best: ModelPose, field_of_view_angstrom: float, source: Path
) -> None:
    """Refuse a model that the images show much more clearly when it is moved or turned.

    Parameters
    ----------
    as_it_lies, best
        What `compare_poses` found.
    field_of_view_angstrom
        Of the images; shifts of a few percent of it are no finding.
    source
        File of the model.

    Raises
    ------
    InputError
        Saying how the model would have to move.
    """
    distance = float(np.linalg.norm(best.shift_angstrom))
    angle = best.angle_degrees
    tolerated = max(_LARGEST_OFFSET_ANGSTROM, _LARGEST_OFFSET_FRACTION * field_of_view_angstrom)
    if distance <= tolerated and angle < 1.0:
        return
    if best.significance < _CLEARLY_BETTER * max(as_it_lies.significance, 0.0) + _FEWEST_SIGMA:
        return
    shift = " ".join(f"{value:+.0f}" for value in best.shift_angstrom)
    moves = [f"turned by about {angle:.0f}°"] * (angle >= 1.0) + [
        f"moved by ({shift}) Å in x y z"
    ] * (distance > 0)
    problem = f"is not where the images show it: {' and '.join(moves)} it would match them better"
    problem += f" ({best.significance:.0f} σ instead of {as_it_lies.significance:.0f})"
    remedy = (
        "Fit the model into the consensus map of these poses; --ignore-misfit goes on regardless"
    )
    raise InputError(source, problem, remedy)


def _significance(statistics: ShellStatistics) -> float:
    """How many σ the match of images and model is above chance; below zero where the contrast is
    inverted.
    """
    power = statistics.data / statistics.count.clamp_min(1.0)
    return float(statistics.cross.sum() / (statistics.model * power).sum().clamp_min(1e-30).sqrt())
