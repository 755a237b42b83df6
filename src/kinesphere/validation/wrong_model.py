"""Would the map come to resemble a wrong model? A domain is replaced, the run repeated, and maps
compared with it.

DynaMight's control (Fig. 3): where a map made with motion resembles a model that cannot be right,
the motion has taken it from the model and not from the images. What a model that was never used
gains is the null.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.io.selection import format_residues, select_residues
from kinesphere.io.structure import AtomicModel, read_model, write_model
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.job import reconstruct
from kinesphere.reconstruction.masks import edge_px, near_points, soft_edge
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.runs.halves import HALVES
from kinesphere.runs.job import run_job
from kinesphere.runs.run import Run
from kinesphere.runtime import claimed, seed_everything
from kinesphere.simulate.scattering import potential_map
from kinesphere.validation.options import WrongModelSettings
from kinesphere.validation.record import ControlResult

_FOLDER = Path("validation") / "wrong-model"
LARGEST_RISE = 0.02
_SMALLEST_ANGLE_DEGREES = 90.0
_SHARE_OF_CHAIN = 6
_SMALLEST_DOMAIN = 10
_N_UNUSED = 8
_IMAGES_FOR_DOMAIN = 100
_MASK_ANGSTROM = 4.0
_B_FACTOR_ANGSTROM2 = 60.0
_TINY = 1e-12
_COARSEST_ANGSTROM = 15.0  # coarser than this, any domain of that size looks alike


@dataclass(frozen=True)
class ComparedDomain:
    """What of maps and models is compared: a domain, from 15 Å to the finest resolution used.

    Parameters
    ----------
    domain
        (n_residues,) the domain.
    finest_angstrom
        The finest resolution.
    """

    domain: Bool[np.ndarray, " residues"]
    finest_angstrom: float

    def atoms(self, model: AtomicModel, density: DensityMap) -> Float[np.ndarray, "p 3"]:
        """Atoms of the domain in Å, the box centre at zero."""
        return model.positions_angstrom[self.domain[model.residue_index]] - density.centre_angstrom

    def potential(
        self, points: Float[np.ndarray, "p 3"], model: AtomicModel, grid: RenderGrid
    ) -> Float[np.ndarray, "n n n"]:
        """Potential of the domain's atoms at these places."""
        element = model.atomic_number[self.domain[model.residue_index]]
        return potential_map(
            points, element, grid.box, grid.pixel_size_angstrom, _B_FACTOR_ANGSTROM2
        )

    def shells(self, grid: RenderGrid) -> slice:
        """Shells in the range of resolution, to at most 0.9 of Nyquist."""
        extent = grid.box * grid.pixel_size_angstrom
        last = min(int(extent / self.finest_angstrom), int(0.45 * grid.box))
        return slice(int(np.ceil(extent / _COARSEST_ANGSTROM)), last + 1)


def wrong_model_control(run: Run, settings: WrongModelSettings, seed: int) -> ControlResult:
    """Train with a wrong model (where the run was made with one), reconstruct, and compare maps
    with models.

    Parameters
    ----------
    run
        The finished run.
    settings
        Model and domain.
    seed
        Of the wrong models.

    Raises
    ------
    InputError
        If there is no model, or no such domain.
    """
    source = settings.model or run.options.atomic_model
    if source is None:
        raise InputError(
            run.path, "was made without an atomic model", "Give --model to compare the map with"
        )
    right = at_rest(run, read_model(source))
    domain = _chosen(right, settings.domain) if settings.domain else most_mobile_range(run, right)
    rng = np.random.default_rng(seed)
    wrong, *unused = (with_wrong_domain(right, domain, rng) for _ in range(1 + _N_UNUSED))
    folder = run.path / _FOLDER
    _make_ready(folder, wrong)
    tested = run
    if run.options.atomic_model is not None:
        method = run.method.with_options(model=folder / "wrong.cif", ignore_misfit=True)
        seed_everything(method.options.training.seed)
        run_job(method, folder / "run")
        tested = Run(folder / "run")
    maps = [
        _mean_map(tested, folder / name, homogeneous=still)
        for name, still in (("still", True), ("moved", False))
    ]
    finest = run.options.training.images.resolution_angstrom
    compared = ComparedDomain(domain, finest)
    to_right = [_similarity(density, right, compared) for density in maps]
    without, moved = (
        np.array([_beyond_right(density, model, right, compared) for model in (wrong, *unused)])
        for density in maps
    )
    return _result(right, domain, to_right, (moved - without).tolist(), trained=tested is not run)


def _make_ready(folder: Path, wrong: AtomicModel) -> None:
    """Write the wrong model; results of another one are removed, unfinished ones of this one stay
    to be continued.
    """
    with claimed(folder), TemporaryDirectory(dir=folder.parent, prefix=".wrong-") as temporary:
        fresh = Path(temporary) / "wrong.cif"
        path = folder / "wrong.cif"
        write_model(fresh, wrong)
        if path.exists() and path.read_bytes() == fresh.read_bytes():
            return
        shutil.rmtree(folder)
        folder.mkdir()
        fresh.replace(path)


def _result(
    model: AtomicModel,
    domain: NDArray[np.bool_],
    to_right: list[float],
    rise: list[float],
    *,
    trained: bool,
) -> ControlResult:
    of_wrong, *null = rise
    passed = of_wrong <= LARGEST_RISE or of_wrong <= max(null)
    where = format_residues(model, np.flatnonzero(domain))
    how = "trained with a wrong model of" if trained else "that never saw a wrong model of"
    outcome = (
        "does not come to resemble it"
        if passed
        else "comes to resemble it: the motion is biased by the model"
    )
    verdict = (
        f"A map from a run {how} {where} {outcome}. With motion, mean FSC to the wrong model, "
        "beyond what the right one "
        f"accounts for, changes by {of_wrong:+.3f}; mean FSC to the right model goes from "
        f"{to_right[0]:.3f} to "
        f"{to_right[1]:.3f}."
    )
    return ControlResult(
        name="wrong-model",
        question="Does motion make the map resemble a model that is wrong?",
        statistic="rise with motion of the mean partial FSC to the wrong domain; null: to "
        "wrong domains not used",
        unit="FSC",
        value=of_wrong,
        null=tuple(null),
        verdict=verdict,
        passed=bool(passed),
    )


def at_rest(run: Run, model: AtomicModel) -> AtomicModel:
    """Put a model in the state that maps of the run show: its reference, of two half sets the
    mean.
    """
    atoms = run.with_model(model).carried_model.atoms.values()
    mean = np.mean([part.double().numpy() for part in atoms], axis=0)
    return replace(model, positions_angstrom=mean + run.centre_angstrom)


def _chosen(model: AtomicModel, text: str) -> Bool[np.ndarray, " residues"]:
    named = select_residues(text, model, "--domain", "Name residues of the model, as in A:30-59")
    domain = named & model.is_polymer
    if domain.sum() < _SMALLEST_DOMAIN:
        problem = f"'{text}' has {domain.sum()} residues"
        raise InputError(
            "--domain", problem, f"Name {_SMALLEST_DOMAIN} residues or more, as in A:30-59"
        )
    return domain


def most_mobile_range(run: Run, model: AtomicModel) -> Bool[np.ndarray, " residues"]:
    """Find the stretch of a sixth of a chain, at least ten residues, whose RMS displacement is
    largest.

    Raises
    ------
    InputError
        If no chain is that long.
    """
    images = np.linspace(0, len(run.latents.index) - 1, _IMAGES_FOR_DOMAIN).round().astype(int)
    moved = run.displacements(model.centres_angstrom, np.unique(images))
    power = ((moved - moved.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
    best = -1.0
    domain = np.zeros(model.n_residues, dtype=bool)
    for chain in np.unique(model.chain):
        rows = np.flatnonzero((model.chain == chain) & model.is_polymer)
        length = max(_SMALLEST_DOMAIN, len(rows) // _SHARE_OF_CHAIN)
        if len(rows) < length:
            continue
        means = np.convolve(power[rows], np.full(length, 1.0 / length), mode="valid")
        if means.max() > best:
            best = float(means.max())
            first = int(means.argmax())
            domain = np.zeros(model.n_residues, dtype=bool)
            domain[rows[first : first + length]] = True
    if best < 0:
        raise InputError(
            run.path, f"has no chain of {_SMALLEST_DOMAIN} residues", "Name residues with --domain"
        )
    return domain


def with_wrong_domain(
    model: AtomicModel, domain: Bool[np.ndarray, " residues"], rng: np.random.Generator
) -> AtomicModel:
    """Replace a domain by a wrong one of the same residues, size and chain geometry.

    The domain is turned about its centroid by a random rotation of at least 90°, and its residues
    are threaded through their own trace backwards: neighbours stay neighbours at the same
    distances, and every residue is in a wrong place.

    Parameters
    ----------
    model
        The right model.
    domain
        (n_residues,) what to replace.
    rng
        Source of the rotation.
    """
    rotation = Rotation.random(random_state=rng)
    while np.degrees(rotation.magnitude()) < _SMALLEST_ANGLE_DEGREES:
        rotation = Rotation.random(random_state=rng)
    rows = np.flatnonzero(domain)
    centres = model.centres_angstrom
    centroid = centres[rows].mean(axis=0)
    place = centres.copy()
    place[rows] = rotation.apply(centres[rows[::-1]] - centroid) + centroid
    atoms = domain[model.residue_index]
    owner = model.residue_index[atoms]
    positions = model.positions_angstrom.copy()
    positions[atoms] = place[owner] + rotation.apply(positions[atoms] - centres[owner])
    return replace(model, positions_angstrom=positions)


def _mean_map(run: Run, folder: Path, *, homogeneous: bool) -> DensityMap:
    reconstruct(run, ReconstructionSettings(homogeneous=homogeneous), folder)
    halves = [read_map(folder / f"half{number}.mrc") for number in HALVES]
    return replace(halves[0], data=0.5 * (halves[0].data + halves[1].data))


def _beyond_right(
    density: DensityMap, wrong: AtomicModel, right: AtomicModel, compared: ComparedDomain
) -> float:
    """Mean partial FSC of a map to a wrong domain, given the right one, in a mask around both.

    In so small a volume two unrelated domains correlate by chance, and a map that comes to resemble
    the right one comes to resemble the wrong one with it. With m the map, w and r the models, what
    is left in a shell is the partial correlation (c_mw − c_mr·c_rw) / √((1 − c_mr²)(1 − c_rw²)).
    """
    places = [compared.atoms(model, density) for model in (wrong, right)]
    grid = RenderGrid(density.box_px, density.pixel_size_angstrom)
    mask = _mask(np.concatenate(places), grid)
    w, r = (compared.potential(points, right, grid) * mask for points in places)
    m = density.data * mask
    mw, mr, rw = (fourier_shell_correlation(a, b) for a, b in ((m, w), (m, r), (r, w)))
    partial = (mw - mr * rw) / np.sqrt(np.maximum((1.0 - mr**2) * (1.0 - rw**2), _TINY))
    return float(partial.clip(-1.0, 1.0)[compared.shells(grid)].mean())


def _similarity(density: DensityMap, model: AtomicModel, compared: ComparedDomain) -> float:
    """Mean FSC of a map to a model's domain, in a mask around it."""
    grid = RenderGrid(density.box_px, density.pixel_size_angstrom)
    points = compared.atoms(model, density)
    mask = _mask(points, grid)
    curve = fourier_shell_correlation(
        density.data * mask, compared.potential(points, model, grid) * mask
    )
    return float(curve[compared.shells(grid)].mean())


def _mask(points: Float[np.ndarray, "p 3"], grid: RenderGrid) -> Float[np.ndarray, "n n n"]:
    return soft_edge(
        near_points(points, grid, _MASK_ANGSTROM), 0.0, edge_px(grid.pixel_size_angstrom)
    )
