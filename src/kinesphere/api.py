"""What `kinesphere.load` returns: a finished run that makes volumes and knows its errors, too."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from kinesphere.analysis.errors import DisplacementErrors, ErrorMeter, require_latent_errors
from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap
from kinesphere.io.structure import AtomicModel
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.runs.halves import HALVES, has_one_model
from kinesphere.runs.run import Run
from kinesphere.volumes.maker import VolumeMaker
from kinesphere.volumes.options import VolumeMethod, VolumeSettings
from kinesphere.volumes.targets import in_second_space


class LoadedRun(Run):
    """A finished run and its images."""

    def volume(
        self,
        z: ArrayLike,
        method: VolumeMethod = "kernel",
        fraction: float = VolumeSettings.fraction,
    ) -> DensityMap:
        """Reconstruct the volume at a place of the latent space from the images, without the
        structures.

        Parameters
        ----------
        z
            (d,) latent position; of half set 1's space where two models were trained.
        method
            From the images near it, or from the decoder of all: trained at the first call, unless
            `kinesphere volumes` has trained it.
        fraction
            Effective number of images behind a kernel volume, as a fraction of a half set.

        Returns
        -------
        DensityMap
            As `kinesphere volumes --at` writes it, on the grid of the consensus map.

        Raises
        ------
        InputError
            If z is no position of the latent space, or the fraction not above 0 and at most 1.
        """
        place = np.asarray(z, dtype=np.float64)
        if place.shape != (self.latents.mean.shape[1],) or not np.isfinite(place).all():
            problem = f"{np.array2string(place)} is no place of this latent space"
            raise InputError(
                self.path, problem, f"Give {self.latents.mean.shape[1]} finite numbers"
            )
        VolumeSettings(fraction=fraction).require_sensible()
        maker = self._maker
        second = (
            place
            if has_one_model(self.motions)
            else in_second_space(self, maker.problem, place[None])[0]
        )
        places = dict(zip(HALVES, (place, second), strict=True))
        return replace(maker.problem.frame, data=maker.at(places, method, fraction).merged)

    def displacement_errors(self, images: ArrayLike) -> DisplacementErrors:
        """Measure how far every residue moved in some images, and how well that is known
        (docs/errors.md).

        Parameters
        ----------
        images
            (m,) rows of the particle set, in any order.

        Returns
        -------
        DisplacementErrors
            `displacement` (m, n_residues, 3) in Å, and the standard error `total` (m, n_residues)
            in Å of its component `along` each residue's main direction.

        Raises
        ------
        InputError
            If the run has no such images, or its latents no errors.
        """
        return self._meter.measure(np.atleast_1d(np.asarray(images)))

    def with_model(self, model: AtomicModel) -> LoadedRun:
        """Return the same run, carrying another model along: see `Run.with_model`."""
        other = cast("LoadedRun", super().with_model(model))
        vars(other).pop("_meter", None)  # it measures the model that was carried before
        return other

    @cached_property
    def _meter(self) -> ErrorMeter:
        require_latent_errors(self)
        return ErrorMeter.of(self)

    @cached_property
    def _maker(self) -> VolumeMaker:
        return VolumeMaker(
            self, pose_problem(self, ReconstructionSettings()), self.path / "volumes"
        )
