"""The ideal observer: the exact posterior over the true states of every image, given its pose, its
CTF and the noise.

No method can predict a coordinate with a higher correlation than the posterior mean of an observer
who knows the states, how often each occurs, and how images come about. Its score is the limit that
the noise sets; a method's score as a fraction of it is what the method makes of its data. This
observer takes the true CA traces, and from the nominal model what hangs on them; signal scale and
noise power are estimated with the true states, so that what its model of the molecule lacks counts
as noise.

Images are as the box cuts them out: the CTF spreads a molecule beyond its box, and what leaves the
box is lost. Training takes images as periodic, which is quick: signal that leaves on one side
enters on the other. The ideal observer must know better. On adenylate kinase in 96 Å boxes at an
SNR of 0.01, exact potentials in periodic images reach r = 0.853 and in images that are cut out
r = 0.880.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.fourier import centred_irfft2, centred_rfft2
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.imaging.forward import ForwardModel, recentre, shell_values
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.imaging.pose import project_points
from kinesphere.inference.likelihood import Likelihood, PreparedBatch
from kinesphere.inference.objective import GaussianLikelihood
from kinesphere.observations.observations import ParticleBatch

_IMAGES_AT_ONCE = 64
_PATCH = 9  # residues that define the orientation of the one in their middle
_PADDING = 2
_LEAST_KEPT = 0.02


def carry_along(
    points: Float[np.ndarray, "p 3"],
    owner: Int[np.ndarray, " p"],
    nominal: Float[np.ndarray, "residues 3"],
    states: Float[np.ndarray, "states residues 3"],
) -> Float[np.ndarray, "states p 3"]:
    """Move points of the nominal model with their residues to every state.

    A point keeps its place in its residue's frame: the CA, and the rotation that best superposes
    the nominal CA trace around it on the state's. Without the rotation side chains of a domain that
    turns would all be shifted, unturned.

    Parameters
    ----------
    points
        (p, 3) Å, such as beads or atoms.
    owner
        (p,) residue each of them belongs to.
    nominal
        (n_residues, 3) CA of the nominal model.
    states
        (n_states, n_residues, 3) CA of the states, same frame.

    Returns
    -------
    ndarray
        (n_states, p, 3) float32.
    """
    patch = (
        cKDTree(nominal).query(nominal, k=min(_PATCH, len(nominal)))[1].reshape(len(nominal), -1)
    )
    offset = points - nominal[owner]
    moved = np.empty((len(states), len(points), 3), np.float32)
    for number, state in enumerate(states):
        rotation = _patch_rotations(nominal[patch], state[patch])
        moved[number] = np.einsum("pij,pj->pi", rotation[owner], offset) + state[owner]
    return moved


def _patch_rotations(
    nominal: Float[np.ndarray, "residues w 3"], moved: Float[np.ndarray, "residues w 3"]
) -> Float[np.ndarray, "residues 3 3"]:
    """Rotation that superposes each patch on where it has moved (Kabsch); the identity below three
    residues.
    """
    if nominal.shape[1] < 3:
        return np.tile(np.eye(3), (len(nominal), 1, 1))
    first, second = (x - x.mean(axis=1, keepdims=True) for x in (nominal, moved))
    u, _, vt = np.linalg.svd(np.einsum("rwi,rwj->rij", first, second))
    v = vt.transpose(0, 2, 1)
    ut = u.transpose(0, 2, 1)
    v[:, :, 2] *= np.sign(np.linalg.det(v @ ut))[:, None]
    return v @ ut


@torch.no_grad()
def fit_signal(
    boxed: BoxedImages,
    model: BoxedModel,
    states: Float[Tensor, "states p 3"],
    state: Int[Tensor, " n"],
) -> BoxedSignal:
    """Estimate signal scale and noise power per optics group and shell, with the state that each
    image truly shows.

    Parameters
    ----------
    boxed
        The images.
    model
        How they come about.
    states
        (n_states, n_points, 3) Å, the centre of the box at zero.
    state
        (n,) true state of each image.

    Returns
    -------
    BoxedSignal
        Least squares.
    """

    def batches() -> Iterator[tuple[BoxedImages, Tensor]]:
        for rows in torch.arange(len(boxed)).split(_IMAGES_AT_ONCE):
            yield boxed[rows], project_points(states[state[rows]], boxed.rotation[rows])

    scale, kept = model.fit_scale(batches(), int(boxed.group.max()) + 1)
    return BoxedSignal(scale, kept, model.fit_variance(batches(), scale))


@torch.no_grad()
def state_posterior(
    boxed: BoxedImages,
    model: BoxedModel,
    signal: BoxedSignal,
    states: Float[Tensor, "states p 3"],
    prior: Float[np.ndarray, " states"],
    advance: Callable[[int], None] = lambda _: None,
) -> Float[np.ndarray, "n states"]:
    """Posterior probability of every state for every image: p(t | x) ∝ p(t) p(x | t, pose, CTF,
    noise).

    Parameters
    ----------
    boxed, model, states
        As for `fit_signal`.
    signal
        Signal scale and noise power.
    prior
        (n_states,) how often each state occurs.
    advance
        Called with the number of images done since the last call.

    Returns
    -------
    ndarray
        (n, n_states), rows adding up to 1.
    """
    likelihood = Likelihood(
        model.forward, GaussianLikelihood(), SignalAndNoise(signal.scale, signal.variance)
    )
    with np.errstate(divide="ignore"):
        log_prior = torch.from_numpy(np.log(prior))  # −∞ for a state that does not occur
    posterior = np.empty((len(boxed), len(states)))
    for rows in torch.arange(len(boxed)).split(_IMAGES_AT_ONCE):
        score = likelihood.all_states(model.prepare(boxed[rows], signal), states)
        posterior[rows.numpy()] = torch.softmax(score.double() + log_prior, dim=1).numpy()
        advance(len(rows))
    return posterior


@dataclass(frozen=True)
class BoxedImages:
    """Images as they were cut out, with what is known of each.

    Parameters
    ----------
    images
        (n, box, box).
    shift_angstrom
        (n, 2) xy: where the molecule's centre is.
    rotation
        (n, 3, 3) R with x_image = Rᵀ · x_volume.
    ctf
        CTF parameters.
    group
        (n,) optics group.
    grid
        Box and pixel size.
    """

    images: Float[Tensor, "n box box"]
    shift_angstrom: Float[Tensor, "n 2"]
    rotation: Float[Tensor, "n 3 3"]
    ctf: CtfParameters
    group: Int[Tensor, " n"]
    grid: RenderGrid

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> BoxedImages:
        """Return some of the images."""
        return BoxedImages(
            images=self.images[rows],
            shift_angstrom=self.shift_angstrom[rows],
            rotation=self.rotation[rows],
            ctf=self.ctf[rows],
            group=self.group[rows],
            grid=self.grid,
        )


@dataclass(frozen=True)
class BoxedSignal:
    """What is estimated from all images: (n_groups, n_shells + 1) each, the first two on the wide
    band's shells.

    Parameters
    ----------
    scale
        Factor between model and data before the box is cut out.
    kept
        Part of the signal's power that is inside the box.
    variance
        Noise power of a Fourier coefficient of the cut-out images, on their own shells.
    """

    scale: Tensor
    kept: Tensor
    variance: Tensor


@dataclass
class _Sums:
    """Sums over coefficients by optics group and shell."""

    band: FourierBand
    n_groups: int
    totals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, group: Tensor, values: Tensor) -> None:
        empty = torch.zeros(self.n_groups, self.band.n_shells + 1, dtype=torch.float64)
        total = self.totals.setdefault(name, empty)
        total.index_add_(0, group, self.band.sum_by_shell(values).double())

    def ratio(self, above: str, below: str) -> Tensor:
        tiny = torch.finfo(torch.float32).tiny
        return (self.totals[above] / self.totals[below].clamp_min(tiny)).float()


class BoxedModel:
    """Renders in a box twice as large, applies shift and CTF there, and cuts the images' box out.

    Parameters
    ----------
    grid
        The images' box and pixel size.
    n_shells
        Resolution shells of the images to use.
    amplitude, width_angstrom
        The Gaussians.
    """

    def __init__(
        self, grid: RenderGrid, n_shells: int, amplitude: Float[Tensor, " p"], width_angstrom: float
    ) -> None:
        self.grid = grid
        self.band = FourierBand.of_grid(grid, n_shells)
        self._wide = RenderGrid(_PADDING * grid.box, grid.pixel_size_angstrom)
        wide_band = FourierBand.of_grid(self._wide, _PADDING * self.band.n_shells)
        self.forward = ForwardModel(wide_band, amplitude, width_angstrom)
        self._corner = self._wide.box // 2 - grid.box // 2

    def see(self, boxed: BoxedImages, points_xy: Float[Tensor, "b p 2"]) -> Complex[Tensor, "b m"]:
        """Coefficients of the wide images of projected points, (n, n_points, 2) Å, with shift and
        CTF, scale 1.
        """
        seen = self.forward.structure_factor(points_xy) * self.forward.transfer(boxed.ctf)
        return recentre(seen, -boxed.shift_angstrom, self.forward.band)

    def cut(self, wide: Complex[Tensor, "b m"]) -> Float[Tensor, "b box box"]:
        """Cut the box out of wide images."""
        image = _invert(wide, self.forward.band, self._wide.box)
        inside = slice(self._corner, self._corner + self.grid.box)
        return image[:, inside, inside]

    def widen(self, images: Float[Tensor, "b box box"]) -> Complex[Tensor, "b m"]:
        """Coefficients of the wide images that are zero outside the box."""
        after = self._wide.box - self.grid.box - self._corner
        padded = torch.nn.functional.pad(images, (self._corner, after, self._corner, after))
        return self.forward.band.select(centred_rfft2(padded))

    def fit_scale(
        self, batches: Iterable[tuple[BoxedImages, Tensor]], n_groups: int
    ) -> tuple[Tensor, Tensor]:
        """Estimate scale and kept power from images and the projected points that each shows.

        Least squares in each shell, with the box in place: scale = Σ Re(Y* M) / Σ Re((PM)* M), Y
        the data and M the model in the wide box, P the cutting out; what is kept is Σ Re((PM)* M) /
        Σ |M|².
        """
        sums = _Sums(self.forward.band, n_groups)
        for boxed, points in batches:
            model = self.see(boxed, points)
            kept = self.widen(self.cut(model))
            sums.add("data", boxed.group, _inner(self.widen(boxed.images), model))
            sums.add("kept", boxed.group, _inner(kept, model))
            sums.add("model", boxed.group, _inner(model, model))
        kept_part = sums.ratio("kept", "model").clamp(_LEAST_KEPT, 1.0)
        # through the bounded part: a shell of which next to nothing is kept would have a scale of
        # noise over nothing
        return (sums.ratio("data", "model") / kept_part).clamp_min(0.0), kept_part

    def fit_variance(self, batches: Iterable[tuple[BoxedImages, Tensor]], scale: Tensor) -> Tensor:
        """Noise power of the cut-out images: that of what the scaled model leaves."""
        sums = _Sums(self.band, len(scale))
        for boxed, points in batches:
            model = self.see(boxed, points) * shell_values(scale, boxed.group, self.forward.band)
            residual = self.band.select(centred_rfft2(boxed.images - self.cut(model)))
            sums.add("power", boxed.group, residual.abs() ** 2)
            sums.add("count", boxed.group, torch.ones_like(residual.real))
        variance = sums.ratio("power", "count")
        variance[:, 0] = 1.0
        return variance.clamp_min(1e-6 * variance.max())

    def prepare(self, boxed: BoxedImages, signal: BoxedSignal) -> PreparedBatch:
        """Put images into units of their noise for `Likelihood.all_states` on the wide band.

        Whitened data are zero outside the box, so their product with a wide model image is that
        with what is cut out of it, exactly. The power of what is cut out is taken as the kept part
        of the whole, shell by shell.
        """
        band = self.forward.band
        group = boxed.group
        whitened = self.band.select(centred_rfft2(boxed.images)) / shell_values(
            signal.variance, group, self.band
        )
        wide = self.widen(_invert(whitened, self.band, self.grid.box))
        data = recentre(wide, boxed.shift_angstrom, band)
        shell = (
            torch.round(torch.arange(signal.scale.shape[1]) / _PADDING)
            .long()
            .clamp(1, self.band.n_shells)
        )
        relative = shell_values(signal.variance[:, shell] / signal.kept, group, band)
        # the sum over the wide plane counts every pixel of the box (wide box / box)² times
        root = torch.sqrt(band.multiplicity * (self.grid.box / self._wide.box) ** 2)
        transfer = self.forward.transfer(boxed.ctf)
        gain = transfer * shell_values(signal.scale, group, band) * root * relative.rsqrt()
        data = data * root * relative.sqrt()
        batch = ParticleBatch(torch.arange(len(boxed)), data, boxed.rotation, boxed.ctf, group)
        nothing = torch.zeros(len(boxed))
        return PreparedBatch(batch, data, transfer, gain, nothing, nothing)


def _inner(first: Tensor, second: Tensor) -> Tensor:
    return first.real * second.real + first.imag * second.imag


def _invert(
    coefficients: Complex[Tensor, "b m"], band: FourierBand, box: int
) -> Float[Tensor, "b box box"]:
    """Image whose coefficients outside the band are zero."""
    plane = coefficients.new_zeros(len(coefficients), box * (box // 2 + 1))
    plane[:, band.flat_index(box)] = coefficients
    return centred_irfft2(plane.reshape(len(coefficients), box, box // 2 + 1), box)
