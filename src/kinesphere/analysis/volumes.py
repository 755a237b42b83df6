"""From a finished run to volumes on its latent space: targets, kernel volumes of both half sets, their FSC, files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from kinesphere.analysis.finished_run import LatentTable
from kinesphere.analysis.latent import cluster, latent_components
from kinesphere.analysis.structure_volumes import (
    ResidueAgreement,
    StructuresOfImages,
    agreement,
    comparison_radius_px,
    fitting_gain,
    implied_volume,
    summarise,
    write_residues,
)
from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap, write_map
from kinesphere.reconstruction.fsc import FscCurves, half_map_fsc
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.job import filter_by_fsc
from kinesphere.reconstruction.kernel_volumes import (
    Kernel,
    filter_shells,
    fit_kernel,
    kernel_map,
    toward_consensus,
    wiener_weight,
)
from kinesphere.reconstruction.masks import automatic_mask
from kinesphere.reconstruction.problem import (
    HALVES,
    Problem,
    ReconstructableRun,
    ReconstructionSettings,
    pose_problem,
)
from kinesphere.runtime import atomic_write, claimed, console, interrupts

_SUMMARY = "volumes.json"
_IMAGES_FOR_NOISE_AT_ONCE = 64
_MATCHED = 20


@dataclass(frozen=True)
class VolumeSettings:
    """Where in the latent space volumes are made, and from how many images."""

    clusters: int | None = None
    """Volumes at the particles that stand for this many k-means clusters."""
    traverse: int | None = None
    """Volumes at quantiles along this component of the latents, from 1 (the default: 1)."""
    steps: int = 5
    """Volumes along the component: the medians of that many equal parts of the particles."""
    at: str | None = None
    """One volume at this place of the latent space: z1,z2,… (of half set 1's space where there are two)."""
    fraction: float = 0.2
    """Effective number of images behind each volume, as a fraction of a half set; it sets the kernel's bandwidth."""
    seed: int = 0
    """Seed of clusters, and of half sets where particles have none."""

    def require_sensible(self) -> None:
        """Refuse values that mean nothing.

        Raises
        ------
        InputError
            Naming the option.
        """
        if sum(value is not None for value in (self.clusters, self.traverse, self.at)) > 1:
            raise InputError("--clusters, --traverse, --at", "exclude each other", "Give one of them")
        if self.clusters is not None and self.clusters < 1:
            raise InputError("--clusters", f"{self.clusters} is not a number of clusters", "Use 1 or more")
        if self.steps < 1:
            raise InputError("--steps", f"{self.steps} is not a number of volumes", "Use 1 or more")
        if not 0 < self.fraction <= 1:
            raise InputError("--fraction", f"{self.fraction:g} is not a fraction", "Use a number above 0, at most 1")


class VolumeRun(ReconstructableRun, StructuresOfImages, Protocol):
    """A finished run whose latents have covariances."""

    @property
    def latents(self) -> LatentTable:
        """One row a particle."""


def make_volumes(run: VolumeRun, settings: VolumeSettings, folder: Path) -> dict[str, Any]:
    """Make volumes on the latent space of a run from its images, poses and latents; the structures have no part in it.

    Parameters
    ----------
    run
        The finished run.
    settings
        Where, and from how many images.
    folder
        For the results. A finished folder of the same settings and run is left as it is.

    Returns
    -------
    dict
        The summary, as in `volumes.json`.

    Raises
    ------
    InputError
        If something the user gave cannot be used; nothing is written then.
    """
    settings.require_sensible()
    problem = pose_problem(run, ReconstructionSettings(seed=settings.seed))
    targets = choose_targets(run, problem, settings)
    text = json.dumps(asdict(settings), sort_keys=True) + problem.fingerprint
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    known = _read_summary(folder)
    if known is not None and known["fingerprint"] == fingerprint:
        console.print(f"{folder} holds these volumes already.", highlight=False)
        return known
    with claimed(folder), interrupts() as flag:
        (folder / _SUMMARY).unlink(missing_ok=True)
        for stale in folder.glob("kernel_[0-9]*.mrc"):  # of other settings, perhaps more of them
            stale.unlink()
        maker = VolumeMaker(run, problem, lambda _: flag.raise_if_requested())
        rows, volumes = [], []
        for number in range(len(targets[1])):
            name = f"kernel_{number + 1:02d}"
            console.print(f"Backprojecting {name}", highlight=False)
            places = {half: targets[half][number] for half in HALVES}
            volumes.append(maker.at(places, settings.fraction))
            row = _write_volume(volumes[-1], name, folder, problem.frame)
            rows.append({**row, "target": [places[half].tolist() for half in HALVES]})
        residues = maker.follow_structures(volumes)
        write_residues(folder / "residues.csv", run.model, residues)
        summary = {
            "volumes": rows,
            "residues": summarise(residues),
            "settings": asdict(settings),
            "fingerprint": fingerprint,
        }
        _write_table(folder / "volumes.csv", rows)
        with atomic_write(folder / _SUMMARY) as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def choose_targets(run: VolumeRun, problem: Problem, settings: VolumeSettings) -> dict[int, Float[np.ndarray, "m d"]]:
    """Choose places of the latent space, for each half set in the space of its own model.

    Where two models were trained, places are chosen in the first's space. Those in the second's are the mean latents of
    the images whose motion, on nodes around the molecule and from a common reference, is most like that of the images
    nearest to the first.

    Returns
    -------
    dict
        (m, d) places, by half set.
    """
    is_shared = len(run.motions) == 1
    rows = np.arange(len(problem.half)) if is_shared else problem.rows(1)
    mean, covariance = run.latents.mean[rows], run.latents.covariance[rows]
    components = latent_components(mean, covariance)
    if settings.at is not None:
        places = _parse(settings.at, mean.shape[1])
    elif settings.clusters is not None:
        places = mean[cluster(components, settings.clusters, settings.seed).representative]
    else:
        component = (1 if settings.traverse is None else settings.traverse) - 1
        n_components = components.scores.shape[1]
        if not 0 <= component < n_components:
            problem_text = f"there is no component {component + 1}: there are {n_components}"
            raise InputError("--traverse", problem_text, "Components count from 1")
        points = np.tile(np.median(components.scores, axis=0), (settings.steps, 1))
        quantile = (np.arange(settings.steps) + 0.5) / settings.steps
        points[:, component] = np.quantile(components.scores[:, component], quantile)
        places = components.centre + points @ components.directions
    places = places.astype(np.float64)
    return {1: places, 2: places if is_shared else in_second_space(run, problem, places)}


def in_second_space(run: VolumeRun, problem: Problem, places: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Find the places of half set 2's latent space that show what places of half set 1's do; see `choose_targets`."""
    first, second = problem.rows(1), problem.rows(2)
    mean = run.latents.mean
    spread = np.maximum(mean[first].std(0), np.finfo(np.float32).tiny)
    shown = []
    for place in places:
        distance = np.linalg.norm((mean[first] - place) / spread, axis=1)
        shown.append(problem.motion.at(first[np.argsort(distance)[:_MATCHED]]).numpy().mean(0))
    difference = np.empty((len(second), len(places)))
    for part in np.array_split(np.arange(len(second)), max(len(second) // _IMAGES_FOR_NOISE_AT_ONCE, 1)):
        moved = problem.motion.at(second[part]).numpy()
        for number, motion in enumerate(shown):
            difference[part, number] = ((moved - motion) ** 2).sum((1, 2))
    nearest = np.argsort(difference, axis=0)[:_MATCHED]  # (matched, m)
    found: Float[np.ndarray, "m d"] = mean[second[nearest]].mean(0, dtype=np.float64)
    return found


def _parse(text: str, n_dimensions: int) -> Float[np.ndarray, "1 d"]:
    try:
        values = np.array([[float(part) for part in text.split(",")]])
    except ValueError:
        raise InputError("--at", f"{text!r} is not a list of numbers", "Write them as 0.5,-1") from None
    if values.shape[1] != n_dimensions or not np.isfinite(values).all():
        raise InputError("--at", f"{text!r} is no place of this latent space", f"Give {n_dimensions} finite numbers")
    return values


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of the latent space: half maps from the images near it, and their mean drawn to the consensus.

    `difference` is that mean, before it is filtered, minus the consensus.
    """

    half_maps: tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "n n n"]]
    merged: Float[np.ndarray, "n n n"]
    difference: Float[np.ndarray, "n n n"]
    curves: FscCurves
    alone: FscCurves
    differences: FscCurves
    kernels: tuple[Kernel, Kernel]


class VolumeMaker:
    """Makes volumes of a run; images are read anew for each, the consensus of all of them only once.

    Parameters
    ----------
    run
        The finished run.
    problem
        Its particles, poses and motion, as for a reconstruction.
    advance
        Called with the number of images done since the last call; an exception there leaves.
    """

    def __init__(self, run: VolumeRun, problem: Problem, advance: Callable[[int], None] = lambda _: None) -> None:
        self.run, self.problem, self._advance = run, problem, advance
        self._images = {half: _images(problem, half) for half in HALVES}
        self._consensus = {half: self._map(half, np.ones(len(problem.rows(half)))) for half in HALVES}
        self._mask = automatic_mask(self.consensus, problem.grid.pixel_size_angstrom)

    def at(self, places: Mapping[int, Float[np.ndarray, " d"]], fraction: float) -> Volume:
        """Make the volume at a place of each half set's latent space.

        Parameters
        ----------
        places
            z*, by half set.
        fraction
            Effective number of images, as a fraction of a half set.

        Returns
        -------
        Volume
        """
        run, problem, consensus = self.run, self.problem, self._consensus
        rows = {half: problem.rows(half) for half in HALVES}
        kernels = [
            fit_kernel(run.latents.mean[rows[half]], run.latents.covariance[rows[half]], places[half], fraction)
            for half in HALVES
        ]
        first, second = (self._map(half, kernel.weight) for half, kernel in zip(HALVES, kernels, strict=True))
        differences = self._compare(first - consensus[1], second - consensus[2])
        drawn = [
            toward_consensus(density, consensus[half], differences.corrected)
            for half, density in zip(HALVES, (first, second), strict=True)
        ]
        curves = self._compare(drawn[0], drawn[1])
        mean = 0.5 * (drawn[0] + drawn[1])
        return Volume(
            half_maps=(first, second),
            merged=filter_by_fsc(mean, curves.corrected),
            difference=mean - self.consensus,
            curves=curves,
            alone=self._compare(first, second),
            differences=differences,
            kernels=(kernels[0], kernels[1]),
        )

    @property
    def consensus(self) -> Float[np.ndarray, "n n n"]:
        """(n, n, n) from all images, neither masked nor filtered."""
        return 0.5 * (self._consensus[1] + self._consensus[2])

    def follow_structures(self, volumes: Sequence[Volume]) -> ResidueAgreement:
        """Ask around each residue whether densities of some volumes change as the structures do."""
        problem, box, pixel = self.problem, self.problem.grid.box, self.problem.grid.pixel_size_angstrom
        rows = np.concatenate([problem.rows(half) for half in HALVES])
        all_weights = np.concatenate([np.full(len(problem.rows(half)), 1 / len(problem.rows(half))) for half in HALVES])
        still, mean_structure = implied_volume(self.run, rows, all_weights, box, pixel)
        gain = fitting_gain(still, self.consensus)
        expected, moved = [], np.zeros(len(mean_structure))
        for volume in volumes:
            weight = np.concatenate([kernel.weight / kernel.weight.sum() for kernel in volume.kernels])
            implied, structure = implied_volume(self.run, rows, weight, box, pixel)
            expected.append(filter_shells(implied - still, gain * wiener_weight(volume.differences.corrected)))
            moved += ((structure - mean_structure) ** 2).sum(axis=1) / len(volumes)
        resolution = max(volume.differences.resolution_angstrom for volume in volumes)
        radius = comparison_radius_px(resolution, pixel)
        place = (mean_structure - self.run.centre_angstrom) / pixel + box // 2
        correlation = agreement([volume.difference for volume in volumes], expected, place, radius)
        return ResidueAgreement(correlation, np.sqrt(moved), radius * pixel)

    def _map(self, half: int, weight: Float[np.ndarray, " images"]) -> Float[np.ndarray, "n n n"]:
        return kernel_map(self._images[half], self.problem.rows(half), weight, self._advance)

    def _compare(self, first: Float[np.ndarray, "n n n"], second: Float[np.ndarray, "n n n"]) -> FscCurves:
        pixel = self.problem.grid.pixel_size_angstrom
        return half_map_fsc(first, second, self._mask, pixel, self.problem.settings.seed)


def _images(problem: Problem, half: int) -> WeightedImages:
    power = noise_power(problem.particles, problem.loader, problem.rows(half), _IMAGES_FOR_NOISE_AT_ONCE)
    return WeightedImages(problem.particles, problem.loader, power)


def _write_volume(volume: Volume, name: str, folder: Path, frame: DensityMap) -> dict[str, Any]:
    """Write the half maps and their sum; returns what the summary says of them."""
    for suffix, density in zip(("_half1", "_half2", ""), (*volume.half_maps, volume.merged), strict=True):
        write_map(folder / f"{name}{suffix}.mrc", density, frame)
    return {
        "name": name,
        "resolution_angstrom": volume.curves.resolution_angstrom,
        "mean_fsc": _mean(volume.curves),
        "mean_fsc_alone": _mean(volume.alone),
        "mean_fsc_of_difference": _mean(volume.differences),
        "n_effective": [kernel.n_effective for kernel in volume.kernels],
        "bandwidth": [kernel.bandwidth for kernel in volume.kernels],
    }


def _mean(curves: FscCurves) -> float:
    return float(curves.corrected[1 : round(0.9 * len(curves.corrected)) + 1].mean())


def _read_summary(folder: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if "fingerprint" in summary else None


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "resolution_angstrom", "mean_fsc", "n_effective_1", "n_effective_2"])
    for row in rows:
        numbers = (row["resolution_angstrom"], row["mean_fsc"], *row["n_effective"])
        writer.writerow([row["name"], *(f"{value:.5f}" for value in numbers)])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
