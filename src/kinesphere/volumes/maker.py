"""One volume on the latent space: both half sets' estimates, how well they agree, and what the
structures imply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kinesphere.io.checkpoint import has_checkpoint
from kinesphere.progress_bar import step_progress
from kinesphere.reconstruction.fsc import FscCurves, fourier_shell_correlation, half_map_fsc
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.job import filter_by_fsc
from kinesphere.reconstruction.masks import automatic_mask
from kinesphere.reconstruction.problem import Problem
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runs.halves import HALVES
from kinesphere.runtime import console
from kinesphere.volumes.decoder import VolumeDecoder, n_readings, train_decoder
from kinesphere.volumes.kernel import (
    Kernel,
    filter_shells,
    fit_kernel,
    kernel_map,
    toward_consensus,
    wiener_weight,
)
from kinesphere.volumes.options import VolumeMethod
from kinesphere.volumes.structure_volumes import (
    ResidueAgreement,
    agreement,
    comparison_radius_px,
    fitting_gain,
    implied_volume,
)

_IMAGES_FOR_NOISE_AT_ONCE = 64
_NEAR = 0.05
DECODER_FOLDER = "decoder"

Places = Mapping[int, Float[np.ndarray, " d"]]


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of the latent space: an estimate from each half set, and their mean drawn to the
    consensus.

    Parameters
    ----------
    half_maps
        (n, n, n) of each half set, neither masked nor filtered.
    merged
        (n, n, n) what is shown.
    difference
        (n, n, n) of the mean drawn to the consensus, before it is filtered, from the consensus.
    curves, alone, differences
        FSC between half sets: drawn to the consensus, as they are, and of their differences from
        the consensus.
    near
        Weights of the images whose structures show the same place.
    """

    half_maps: tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "n n n"]]
    merged: Float[np.ndarray, "n n n"]
    difference: Float[np.ndarray, "n n n"]
    curves: FscCurves
    alone: FscCurves
    differences: FscCurves
    near: tuple[Kernel, Kernel]


@dataclass(frozen=True, eq=False)
class Implied:
    """What a volume would show if the structures were right.

    Parameters
    ----------
    density
        (n, n, n) shells scaled to the consensus as the mean structure's fit it best.
    difference
        (n, n, n) from the same of all images, filtered as the volume's difference is.
    structure
        (r, 3) mean structure, Å.
    """

    density: Float[np.ndarray, "n n n"]
    difference: Float[np.ndarray, "n n n"]
    structure: Float[np.ndarray, "r 3"]


class VolumeMaker:
    """Makes volumes of a run; images are read anew for each, the consensus of all of them only
    once.

    Parameters
    ----------
    run
        The finished run.
    problem
        Its particles, poses and motion, as for a reconstruction.
    folder
        Where decoders are kept, and found again; none to keep none.
    advance
        Called with the number of images done since the last call; an exception there leaves.
    """

    def __init__(
        self,
        run: RunWithImages,
        problem: Problem,
        folder: Path | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.run = run
        self.problem = problem
        self._folder = folder
        self._advance = advance
        self._rows = {half: problem.rows(half) for half in HALVES}
        self._images = {half: _images(problem, half) for half in HALVES}
        self._consensus = {
            half: self._backproject(half, np.ones(len(self._rows[half]))) for half in HALVES
        }
        self._mask = automatic_mask(self.consensus, problem.grid.pixel_size_angstrom)
        self._decoders: dict[int, VolumeDecoder] = {}
        self._still: tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "r 3"]] | None = None

    def at(self, places: Places, method: VolumeMethod, fraction: float) -> Volume:
        """Make the volume at a place of each half set's latent space.

        Parameters
        ----------
        places
            z*, by half set.
        method
            Weighted images, or the decoder.
        fraction
            Effective number of images behind a kernel volume, as a fraction of a half set.

        Returns
        -------
        Volume
        """
        if method == "decoder":
            halves = [
                self._consensus[half] + self.decoder(half).difference(places[half])
                for half in HALVES
            ]
            return self._merge(halves, [self._kernel(half, places[half], _NEAR) for half in HALVES])
        kernels = [self._kernel(half, places[half], fraction) for half in HALVES]
        halves = [
            self._backproject(half, kernel.weight)
            for half, kernel in zip(HALVES, kernels, strict=True)
        ]
        return self._merge(halves, kernels)

    def decoder(self, half: int) -> VolumeDecoder:
        """Train the decoder of a half set, or find the one that was trained."""
        if half not in self._decoders:
            self._decoders[half] = self._find_decoder(half) or self._train_decoder(half)
        return self._decoders[half]

    @property
    def consensus(self) -> Float[np.ndarray, "n n n"]:
        """(n, n, n) from all images, neither masked nor filtered."""
        return 0.5 * (self._consensus[1] + self._consensus[2])

    def implied(self, volume: Volume) -> Implied:
        """Average the structures of the images near a volume's place; see `Implied`."""
        still, _ = self._all_structures()
        gain = fitting_gain(still, self.consensus)
        weight = np.concatenate([kernel.weight / kernel.weight.sum() for kernel in volume.near])
        density, structure = self._average(weight)
        difference = filter_shells(
            density - still, gain * wiener_weight(volume.differences.corrected)
        )
        return Implied(filter_shells(density, gain), difference, structure)

    def follow_structures(
        self, volumes: Sequence[Volume], implied: Sequence[Implied]
    ) -> ResidueAgreement:
        """Ask around each residue whether densities of some volumes change as the structures do."""
        box = self.problem.grid.box
        pixel = self.problem.grid.pixel_size_angstrom
        mean_structure = self._all_structures()[1]
        moved = np.mean(
            [((each.structure - mean_structure) ** 2).sum(axis=1) for each in implied], axis=0
        )
        resolution = max(volume.differences.resolution_angstrom for volume in volumes)
        radius = comparison_radius_px(resolution, pixel)
        place = (mean_structure - self.run.centre_angstrom) / pixel + box // 2
        observed = [volume.difference for volume in volumes]
        expected = [each.difference for each in implied]
        return ResidueAgreement(
            agreement(observed, expected, place, radius), np.sqrt(moved), radius * pixel
        )

    def correlate(
        self, first: Float[np.ndarray, "n n n"], second: Float[np.ndarray, "n n n"]
    ) -> float:
        """Correlate two differences from the consensus within the molecule; 0 where either is
        nothing.
        """
        one, other = first * self._mask, second * self._mask
        scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
        return float((one * other).sum()) / scale if scale > 0 else 0.0

    def fsc(
        self, first: Float[np.ndarray, "n n n"], second: Float[np.ndarray, "n n n"]
    ) -> Float[np.ndarray, " shells"]:
        """FSC of two maps within the molecule."""
        return fourier_shell_correlation(first * self._mask, second * self._mask)

    def _merge(
        self, halves: Sequence[Float[np.ndarray, "n n n"]], near: Sequence[Kernel]
    ) -> Volume:
        """Keep of the difference from the consensus what both half sets agree on."""
        first, second = halves
        consensus = self._consensus
        differences = self._compare(first - consensus[1], second - consensus[2])
        drawn = [
            toward_consensus(density, consensus[half], differences.corrected)
            for half, density in zip(HALVES, halves, strict=True)
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
            near=(near[0], near[1]),
        )

    def _kernel(self, half: int, place: Float[np.ndarray, " d"], fraction: float) -> Kernel:
        rows = self._rows[half]
        latents = self.run.latents
        return fit_kernel(latents.mean[rows], latents.covariance[rows], place, fraction)

    def _backproject(
        self, half: int, weight: Float[np.ndarray, " images"]
    ) -> Float[np.ndarray, "n n n"]:
        return kernel_map(self._images[half], self._rows[half], weight, self._advance)

    def _compare(
        self, first: Float[np.ndarray, "n n n"], second: Float[np.ndarray, "n n n"]
    ) -> FscCurves:
        pixel = self.problem.grid.pixel_size_angstrom
        return half_map_fsc(first, second, self._mask, pixel, self.problem.settings.seed)

    def _train_decoder(self, half: int) -> VolumeDecoder:
        rows = self._rows[half]
        total = n_readings(len(rows))
        done = 0

        with step_progress(f"half set {half}") as progress:

            def advance(n_images: int) -> None:
                nonlocal done
                done += n_images
                progress("Training the volume decoder of", done, total)
                self._advance(n_images)

            mean = self.run.latents.mean[rows]
            seed = self.problem.settings.seed
            decoder = train_decoder(self._images[half], rows, mean, seed=seed, advance=advance)
        console.print(f"Trained the volume decoder of half set {half}", highlight=False)
        if self._folder is not None:
            decoder.save(self._folder / DECODER_FOLDER, _name_of(half), self.problem.fingerprint)
        return decoder

    def _find_decoder(self, half: int) -> VolumeDecoder | None:
        if self._folder is None or not has_checkpoint(self._folder / DECODER_FOLDER):
            return None
        return VolumeDecoder.find(
            self._folder / DECODER_FOLDER, _name_of(half), self.problem.fingerprint
        )

    def _all_structures(self) -> tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "r 3"]]:
        """Density and mean of the structures of all images, both half sets alike."""
        if self._still is None:
            self._still = self._average(
                np.concatenate([np.full(len(r), 1 / len(r)) for r in self._rows.values()])
            )
        return self._still

    def _average(
        self, weight: Float[np.ndarray, " images"]
    ) -> tuple[Float[np.ndarray, "n n n"], Float[np.ndarray, "r 3"]]:
        grid = self.problem.grid
        rows = np.concatenate([self._rows[half] for half in HALVES])
        return implied_volume(self.run, rows, weight, grid.box, grid.pixel_size_angstrom)


def _name_of(half: int) -> str:
    return f"half{half}"


def _images(problem: Problem, half: int) -> WeightedImages:
    power = noise_power(
        problem.particles, problem.loader, problem.rows(half), _IMAGES_FOR_NOISE_AT_ONCE
    )
    return WeightedImages(problem.particles, problem.loader, power)
