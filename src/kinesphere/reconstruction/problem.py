"""What is reconstructed from a finished run: its particles, their half sets and motion, the
support, and the frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.particles import ParticleSet, assign_halves
from kinesphere.particles.options import LoaderOptions
from kinesphere.particles.streaming import ImageLoader
from kinesphere.reconstruction.displacement import (
    Anchors,
    DisplacementField,
    NoMotion,
    RunMotion,
    common_reference,
    typical_spacing,
)
from kinesphere.reconstruction.masks import near_points, read_mask, sphere_mask
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.support import Support
from kinesphere.runs.finished_run import RunWithImages
from kinesphere.runs.halves import HALVES, images_of_model, model_of_image

_MARGIN_AROUND_MASK_ANGSTROM = 8.0


@dataclass(frozen=True, eq=False)
class Problem:
    """All that does not depend on the images' pixels.

    Parameters
    ----------
    particles, loader, grid
        The particles, what serves their images, and box and pixel size of images and maps.
    half
        (n,) half set of each particle, 1 or 2.
    motion_is_shared
        Whether one motion model saw both half sets, so that they are not independent in all
        respects.
    support
        Voxels that move.
    motion
        Displacements of its nodes.
    frame
        A map whose frame the results share.
    mask
        The user's mask, or none.
    settings
        As asked for.
    fingerprint
        Tells this reconstruction from others.
    """

    particles: ParticleSet
    loader: ImageLoader
    grid: RenderGrid
    half: Int[np.ndarray, " particles"]
    motion_is_shared: bool
    support: Support
    motion: DisplacementField
    frame: DensityMap
    mask: Float[np.ndarray, "n n n"] | None
    settings: ReconstructionSettings
    fingerprint: str

    def rows(self, half: int) -> Int[np.ndarray, " m"]:
        """Particles of a half set."""
        return images_of_model(half, self.half)


def pose_problem(run: RunWithImages, settings: ReconstructionSettings) -> Problem:
    """Collect what a reconstruction of a run needs, and check it before anything is computed.

    Parameters
    ----------
    run
        The finished run.
    settings
        As asked for.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        If the particles, the mask or the half sets cannot be used.
    """
    settings.require_sensible()
    particles = run.particles
    particles.require_poses()
    particles.require_ctf()
    images = run.config.get("training", {}).get("images", {})
    if not (settings.ignore_aberrations or images.get("ignore_aberrations", False)):
        particles.require_simple_optics()
    options = LoaderOptions(
        shuffle=False,
        normalise=bool(images.get("normalise", True)),
        invert_contrast=bool(images.get("invert_contrast", False)),
    )
    loader = ImageLoader(particles, options)
    grid = RenderGrid(loader.grid.box_px, loader.grid.pixel_size_angstrom)
    mask = None if settings.mask is None else read_mask(settings.mask, grid)
    anchors = _anchors(run)
    support = _support(run, anchors, grid, mask, settings.support_angstrom)
    half, is_shared = _half_sets(run, particles, settings.seed)
    return Problem(
        particles=particles,
        loader=loader,
        grid=grid,
        half=half,
        motion_is_shared=is_shared and not settings.homogeneous,
        support=support,
        motion=_motion(run, anchors, support, is_homogeneous=settings.homogeneous),
        frame=_frame(run, grid),
        mask=mask,
        settings=settings,
        fingerprint=_fingerprint(run, settings, half),
    )


def _anchors(run: RunWithImages) -> dict[int, Anchors]:
    """Find out where the motion models have matter, by half set (0: one for all)."""
    centre = np.asarray(run.centre_angstrom, dtype=np.float64)
    references = {
        n: motion.reference.detach().cpu().numpy() + centre for n, motion in run.motions.items()
    }
    return common_reference(
        run.displacements, references, model_of_image(run.latents.half, run.motions)
    )


def _support(
    run: RunWithImages,
    anchors: Mapping[int, Anchors],
    grid: RenderGrid,
    mask: NDArray[np.float32] | None,
    distance_angstrom: float,
) -> Support:
    """Choose the voxels near the motion models' matter, or near the mask if there is one, in the
    sphere of the box.
    """
    if mask is None:
        matter = [points.common_angstrom for points in anchors.values()]
        hangs_together = max(
            4.0 * grid.pixel_size_angstrom, *(2.0 * typical_spacing(points) for points in matter)
        )
        near = max(distance_angstrom, hangs_together)
        inside = near_points(np.concatenate(matter) - run.centre_angstrom, grid, near)
    else:
        at = (np.argwhere(mask > 0.5)[:, ::-1] - grid.box // 2) * grid.pixel_size_angstrom
        inside = near_points(
            at, grid, max(_MARGIN_AROUND_MASK_ANGSTROM, 2.0 * grid.pixel_size_angstrom)
        )
    inside &= sphere_mask(grid.box, grid.box / 2 - 1, 1.0) > 0
    if not inside.any():
        raise InputError(
            run.path, "has its structure outside the box of the images", "Give a --mask in the box"
        )
    return Support.of_voxels(inside, grid.pixel_size_angstrom)


def _half_sets(
    run: RunWithImages, particles: ParticleSet, seed: int
) -> tuple[NDArray[np.int64], bool]:
    """Half set of each particle, and whether one motion model saw both."""
    model = np.asarray(run.latents.half, dtype=np.int64)
    is_shared = not bool(np.isin(model, HALVES).all())
    half = assign_halves(particles, seed).half if is_shared else model
    for number in HALVES:
        if not (half == number).any():
            problem = f"has no particle in half set {number}"
            raise InputError(
                particles.source, problem, "Give both half sets in rlnRandomSubset, or leave it out"
            )
    return half, is_shared


def _motion(
    run: RunWithImages,
    anchors: Mapping[int, Anchors],
    support: Support,
    *,
    is_homogeneous: bool,
) -> DisplacementField:
    if is_homogeneous:
        return NoMotion(support.n_nodes)
    centre = np.asarray(run.centre_angstrom, dtype=np.float64)
    model = model_of_image(run.latents.half, run.motions)
    return RunMotion(run.displacements, support.nodes_angstrom, centre, anchors, model)


def _frame(run: RunWithImages, grid: RenderGrid) -> DensityMap:
    """Read the run's consensus map, where it is still there; else make an empty map around the box
    centre.
    """
    path = run.config.get("map")
    if path is not None and Path(path).is_file():
        return read_map(path)
    corner = np.asarray(run.centre_angstrom, dtype=np.float64) - grid.pixel_size_angstrom * (
        grid.box // 2
    )
    return DensityMap(
        np.zeros((grid.box,) * 3, np.float32), grid.pixel_size_angstrom, np.round(corner, 6)
    )


def _fingerprint(
    run: RunWithImages, settings: ReconstructionSettings, half: NDArray[np.int64]
) -> str:
    """Digest of what decides the result: options, mask, latents, half sets and the run itself."""
    digest = hashlib.sha256(json.dumps(asdict(settings), default=str, sort_keys=True).encode())
    for values in (np.asarray(run.latents.mean), half):
        digest.update(np.ascontiguousarray(values).tobytes())
    for path in (run.path / "run.yaml", settings.mask):
        if path is not None and path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
