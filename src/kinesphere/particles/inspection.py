"""What is to be known of a particle set before it is used: counts, optics, poses, CTF, halves,
images, oddities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinesphere.errors import InputError
from kinesphere.particles.contrast import ContrastEstimate, estimate_contrast_sign
from kinesphere.particles.optics import OpticsGroup
from kinesphere.particles.particle_set import ParticleSet

# Stacks opened to compare their length and box with the file's; more would make a large project
# wait.
LARGEST_NUMBER_OF_STACKS = 500
USUAL_ABERRATION_MM = (0.5, 5.0)
USUAL_VOLTAGE_KV = (80.0, 300.0)
USUAL_AMPLITUDE_CONTRAST = (0.01, 0.3)
USUAL_PIXEL_ANGSTROM = (0.3, 10.0)
USUAL_DEFOCUS_ANGSTROM = (500.0, 60_000.0)
FINEST_DETECTOR_PIXEL_ANGSTROM = 0.3


@dataclass(frozen=True)
class Inspection:
    """The findings; every part is of plain types, ready for JSON.

    Attributes
    ----------
    file
        Path and format of the file, and how many particles it holds.
    images
        Numbers of distinct images and of stacks, and which stacks are missing.
    optics_groups
        One entry a group that particles belong to.
    poses, ctf, halves
        Whether they are there, and their ranges.
    contrast
        Estimated sign of the molecule; None where no image could be looked at.
    warnings
        What deserves a look, a sentence each.
    """

    file: dict[str, Any]
    images: dict[str, Any]
    optics_groups: list[dict[str, Any]]
    poses: dict[str, Any]
    ctf: dict[str, Any]
    halves: dict[str, int]
    contrast: dict[str, Any] | None
    warnings: list[str]


def inspect_particles(particles: ParticleSet, n_contrast_images: int = 1000) -> Inspection:
    """Look through a particle set.

    Parameters
    ----------
    particles
        The set; its images may be missing.
    n_contrast_images
        Images to estimate the contrast sign from; 0 leaves it out.

    Returns
    -------
    Inspection
    """
    missing = particles.files.missing()
    contrast, contrast_warnings = _contrast(particles, n_contrast_images)
    images, image_warnings = _images(particles, missing)
    warnings = [
        *particles.warnings,
        *image_warnings,
        *contrast_warnings,
        *_optics_warnings(particles),
        *_pose_warnings(particles),
        *_ctf_warnings(particles),
        *_half_warnings(particles),
    ]
    return Inspection(
        file={
            "path": str(particles.source),
            "format": particles.table.format_name,
            "n_particles": len(particles),
        },
        images=images,
        optics_groups=_optics_groups(particles),
        poses=_poses(particles),
        ctf=_ctf(particles),
        halves={
            name: int((particles.half == number).sum())
            for name, number in (("1", 1), ("2", 2), ("none", 0))
        },
        contrast=contrast,
        warnings=warnings,
    )


def _optics_groups(particles: ParticleSet) -> list[dict[str, Any]]:
    positions, counts = np.unique(particles.optics_group, return_counts=True)
    return [
        _optics_entry(particles.optics[i], int(count))
        for i, count in zip(positions, counts, strict=True)
    ]


def _optics_entry(group: OpticsGroup, n_particles: int) -> dict[str, Any]:
    return {
        "name": group.name,
        "n_particles": n_particles,
        "pixel_size_angstrom": group.pixel_size_angstrom,
        "box_px": group.box_px or None,
        "nyquist_angstrom": group.nyquist_angstrom,
        "voltage_kv": _or_none(group.voltage_kv),
        "spherical_aberration_mm": _or_none(group.spherical_aberration_mm),
        "amplitude_contrast": _or_none(group.amplitude_contrast),
        "unmodelled_effects": group.unmodelled_effects(),
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _poses(particles: ParticleSet) -> dict[str, Any]:
    shift = np.linalg.norm(particles.shift_angstrom, axis=1)
    return {
        "present": particles.has_poses,
        "shift_rms_angstrom": float(np.sqrt((shift**2).mean())) if particles.has_poses else None,
        "shift_max_angstrom": float(shift.max()) if particles.has_poses else None,
    }


def _ctf(particles: ParticleSet) -> dict[str, Any]:
    if not particles.has_ctf:
        return {"present": False}
    defocus = (particles.defocus_u_angstrom + particles.defocus_v_angstrom) / 2
    astigmatism = np.abs(particles.defocus_u_angstrom - particles.defocus_v_angstrom)
    return {
        "present": True,
        "defocus_min_angstrom": float(defocus.min()),
        "defocus_median_angstrom": float(np.median(defocus)),
        "defocus_max_angstrom": float(defocus.max()),
        "astigmatism_median_angstrom": float(np.median(astigmatism)),
        "phase_shift_min_degrees": float(particles.phase_shift_degrees.min()),
        "phase_shift_max_degrees": float(particles.phase_shift_degrees.max()),
    }


def _images(particles: ParticleSet, missing: list[str]) -> tuple[dict[str, Any], list[str]]:
    pairs = (
        particles.image_file.astype(np.int64) * (particles.image_slot.max() + 1)
        + particles.image_slot
    )
    n_distinct = len(np.unique(pairs))
    n_stacks = len(np.unique(particles.image_file))
    warnings = _stack_warnings(particles)
    if n_distinct < len(particles):
        n_repeated = len(particles) - n_distinct
        warnings.append(
            f"{n_repeated} of {len(particles)} particles repeat an image of another particle"
        )
    if missing:
        which = (
            "stack not found:"
            if n_stacks == 1
            else f"{len(missing)} of {n_stacks} stacks not found, the first is"
        )
        warnings.append(f"{which} {missing[0]}")
    found = {"n_distinct": n_distinct, "n_stacks": n_stacks, "n_missing_stacks": len(missing)}
    return {**found, "first_missing_stack": missing[0] if missing else None}, warnings


def _stack_warnings(particles: ParticleSet) -> list[str]:
    """Say what is wrong with the stacks that are there, up to a number of them spread over the
    set.
    """
    files = np.unique(particles.image_file)
    present = [int(file) for file in files if particles.files.path(int(file)) is not None]
    step = max(1, -(-len(present) // LARGEST_NUMBER_OF_STACKS))
    problems = []
    for file in present[::step]:
        rows = np.flatnonzero(particles.image_file == file)
        try:
            particles.files.require_present(file, particles.image_slot[rows], particles.row[rows])
            stack = particles.files.stack(file)
        except InputError as error:
            problems.append(str(error))
            continue
        box = particles.optics[particles.optics_group[rows[0]]].box_px
        if stack.shape[1:] != (box, box):
            problems.append(
                f"{stack.path} holds images of {stack.shape[2]} x {stack.shape[1]} px, not {box} px"
            )
    return problems[:3] + (
        [f"{len(problems) - 3} more stacks with such problems"] if len(problems) > 3 else []
    )


def _contrast(particles: ParticleSet, n_images: int) -> tuple[dict[str, Any] | None, list[str]]:
    """Estimate the sign from particles whose images are there, and compare it with what the file
    says.
    """
    there = np.array(
        [particles.files.path(file) is not None for file in range(len(particles.files.names))]
    )
    usable = there[particles.image_file]
    if n_images < 1 or not usable.any():
        return None, []
    try:
        estimate = estimate_contrast_sign(particles[usable], n_images)
    except InputError as error:
        return None, [f"contrast not estimated: {error}"]
    entry = {
        "sign": estimate.sign,
        "confidence": estimate.confidence,
        "z_score": estimate.z_score,
        "n_images": estimate.n_images,
        "statement": estimate.statement,
    }
    return entry, _contrast_warnings(estimate, particles.recorded_sign)


def _contrast_warnings(estimate: ContrastEstimate, recorded_sign: int) -> list[str]:
    if estimate.sign < 0:
        return ["the molecule is dark in the images: use --invert-contrast"]
    if estimate.sign * recorded_sign < 0:
        return ["blob/sign says the molecule is dark, the images show it bright"]
    return []


def _optics_warnings(particles: ParticleSet) -> list[str]:
    warnings = _aberration_warnings(particles)
    used = [particles.optics[position] for position in np.unique(particles.optics_group)]
    checks = (
        ("spherical_aberration_mm", USUAL_ABERRATION_MM, "spherical aberration of {:g} mm"),
        ("voltage_kv", USUAL_VOLTAGE_KV, "voltage of {:g} kV"),
        ("amplitude_contrast", USUAL_AMPLITUDE_CONTRAST, "amplitude contrast of {:g}"),
        ("pixel_size_angstrom", USUAL_PIXEL_ANGSTROM, "pixel size of {:g} Å"),
    )
    for field, (low, high), words in checks:
        odd = [
            group
            for group in used
            if not np.isnan(getattr(group, field)) and not low <= getattr(group, field) <= high
        ]
        if odd:
            more = f" (and {len(odd) - 1} more groups)" if len(odd) > 1 else ""
            warnings.append(
                f"unusual {words.format(getattr(odd[0], field))} in {odd[0].name}{more}"
            )
    return [
        *warnings,
        *_binning_warnings(particles, min(group.pixel_size_angstrom for group in used)),
    ]


def _aberration_warnings(particles: ParticleSet) -> list[str]:
    """Name each kind of effect that the image model lacks once, with one group that has it."""
    groups_by_field: dict[str, list[str]] = {}
    for group, effect in particles.unsupported_optics():
        groups_by_field.setdefault(effect.partition(" = ")[0], []).append(f"{group.name}: {effect}")
    warnings = []
    for effects in groups_by_field.values():
        more = f" (and {len(effects) - 1} more groups)" if len(effects) > 1 else ""
        warnings.append(f"not modelled, {effects[0]}{more}")
    return warnings


def _binning_warnings(particles: ParticleSet, pixel_size_angstrom: float) -> list[str]:
    """Compare the pixel size with a binning that the stacks' names give away."""
    match = re.search(
        r"bin_?(\d+)(?!\d)", particles.files.names[int(particles.image_file[0])], re.IGNORECASE
    )
    binning = int(match.group(1)) if match else 1
    if binning < 2 or pixel_size_angstrom / binning >= FINEST_DETECTOR_PIXEL_ANGSTROM:
        return []
    doubt = (
        f"the stack's name says bin {binning}, and {pixel_size_angstrom:g} Å / {binning} "
        "is too fine for a detector"
    )
    return [f"{doubt}: is the pixel {pixel_size_angstrom * binning:g} Å? (--pixel-size)"]


def _pose_warnings(particles: ParticleSet) -> list[str]:
    if not particles.has_poses or len(particles) < 2:
        return []
    warnings = []
    if np.allclose(particles.rotation, particles.rotation[0], atol=1e-9):
        warnings.append("all particles have the same orientation: were the poses ever estimated?")
    half_edge = np.array(
        [group.box_px * group.pixel_size_angstrom / 2 for group in particles.optics]
    )
    half_edge = half_edge[particles.optics_group]
    outside = (np.abs(particles.shift_angstrom).max(axis=1) > half_edge) & (half_edge > 0)
    if outside.any():
        warnings.append(f"{outside.sum()} particles are shifted out of their box")
    return warnings


def _ctf_warnings(particles: ParticleSet) -> list[str]:
    if not particles.has_ctf:
        return (
            [] if any("CTF" in warning for warning in particles.warnings) else ["no CTF parameters"]
        )
    low, high = USUAL_DEFOCUS_ANGSTROM
    defocus = (particles.defocus_u_angstrom + particles.defocus_v_angstrom) / 2
    odd = np.flatnonzero((defocus < low) | (defocus > high))
    if not odd.size:
        return []
    return [
        (
            f"unusual defocus of {defocus[odd[0]]:.0f} Å in row {particles.row[odd[0]] + 1} "
            f"({odd.size} particles)"
        )
    ]


def _half_warnings(particles: ParticleSet) -> list[str]:
    counts = np.bincount(particles.half, minlength=3)
    if counts[1:].max() == 0:
        return []
    if counts[1:].min() == 0:
        return [f"all particles of half {int(counts[1:].argmax()) + 1}: there is no other half"]
    if counts[0]:
        return [f"{counts[0]} particles belong to no half"]
    if counts[1:].min() < 0.8 * counts[1:].max():
        return [f"the halves are unequal: {counts[1]} and {counts[2]} particles"]
    return []
