"""What a simulated data set is made of: every number a user may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinesphere.config import Advanced
from kinesphere.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How many particles, in which states, seen by which microscope, under how much noise."""

    n: int = 4000
    """Number of particle images."""
    box: int = 64
    """Box size in pixels (even)."""
    pixel_size: float = 1.5
    """Pixel size in Å."""
    distribution: Literal["uniform", "bimodal"] = "uniform"
    """How particles populate each motion's coordinate in [0, 1]: evenly, or 65 % N(0.2, 0.08) and
    35 % N(0.8, 0.06)."""
    snr: float = 0.1
    """Variance of the CTF-applied clean images over the whole box (mean over images) / variance of
    the noise."""
    noise: Literal["white", "coloured"] = "white"
    """Noise spectrum: flat, or with power proportional to 1 / (1 + (f / f0)^p)."""
    noise_frequency: Advanced[float] = 0.05
    """f0 of coloured noise in 1/Å."""
    noise_exponent: Advanced[float] = 2.0
    """p of coloured noise."""
    b_factor: Advanced[float] = 60.0
    """Temperature factor of all atoms in Å²."""
    shift_px: Advanced[float] = 2.0
    """Largest shift of the molecule from the image centre along each axis, in pixels (uniform)."""
    pose_error_degrees: Advanced[float] = 0.0
    """Root mean square error of the orientations in the star file, in degrees."""
    shift_error_px: Advanced[float] = 0.0
    """Root mean square error of the origins in the star file along each axis, in pixels."""
    defocus_um: Advanced[tuple[float, float]] = (0.8, 2.5)
    """Range of the defocus in µm, underfocus positive (uniform)."""
    astigmatism_angstrom: Advanced[float] = 400.0
    """Largest difference between the two defoci in Å (uniform, random angle)."""
    phase_shift_degrees: Advanced[float] = 0.0
    """Phase shift of a phase plate in degrees."""
    voltage_kv: Advanced[float] = 300.0
    """Accelerating voltage in kV."""
    spherical_aberration_mm: Advanced[float] = 2.7
    """Spherical aberration in mm."""
    amplitude_contrast: Advanced[float] = 0.1
    """Amplitude contrast."""
    optics_groups: Advanced[int] = 1
    """Optics groups; particles alternate between them. Each next group has 100 kV less (300, 200,
    100, 300, …)."""
    contrast: Advanced[Literal["positive", "negative"]] = "positive"
    """Protein white on dark (positive, as RELION wants it) or dark on white."""
    padding: Advanced[int] = 2
    """The CTF acts in a box so many times larger, so that signal it spreads beyond the image is
    lost, not wrapped."""
    seed: int = 0
    """Seed of every random number."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises
        ------
        InputError
            Naming the option.
        """
        rules = (
            ("--n", self.n >= 1, f"{self.n} particles", "Ask for one or more"),
            (
                "--box",
                self.box >= 8 and self.box % 2 == 0,
                f"a box of {self.box} px",
                "Give an even number from 8 on",
            ),
            (
                "--pixel-size",
                self.pixel_size > 0,
                f"{self.pixel_size} Å per pixel",
                "Give a positive number",
            ),
            (
                "--snr",
                self.snr > 0,
                f"a signal-to-noise ratio of {self.snr}",
                "Give a positive number",
            ),
            (
                "--noise-frequency",
                self.noise_frequency > 0,
                f"f0 = {self.noise_frequency}",
                "Give a positive number",
            ),
            (
                "--optics-groups",
                self.optics_groups >= 1,
                f"{self.optics_groups} groups",
                "Ask for one or more",
            ),
            ("--seed", self.seed >= 0, f"a seed of {self.seed}", "Give a whole number from 0 on"),
            ("--padding", self.padding >= 1, f"padding {self.padding}", "Give 1 (none) or more"),
            (
                "--amplitude-contrast",
                abs(self.amplitude_contrast) <= 1,
                f"{self.amplitude_contrast}",
                "Give 0 to 1",
            ),
            (
                "--defocus-um",
                self.defocus_um[0] <= self.defocus_um[1],
                "the range is reversed",
                "Give low, then high",
            ),
        )
        for option, holds, problem, remedy in rules:
            if not holds:
                raise InputError(option, f"{problem} cannot be simulated", remedy)

    def group_voltage_kv(self, group: int) -> float:
        """Voltage of optics group `group` (0, 1, …)."""
        return self.voltage_kv - 100.0 * (group % max(1, int(self.voltage_kv // 100)))
