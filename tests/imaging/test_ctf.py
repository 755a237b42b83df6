"""The CTF against torch-ctf, against values worked out by hand, and against what each parameter is
defined to do."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch_ctf

from kinesphere.fourier import fourier_grid, radial_average
from kinesphere.imaging.ctf import (
    CtfParameters,
    electron_wavelength_angstrom,
    evaluate_ctf,
    evaluate_ctf_at,
)

PIXEL_ANGSTROM = 1.3
BOX = 96


def parameters(n: int = 1, **values: float | list[float]) -> CtfParameters:
    """Typical parameters of n images; a field is given as one value or one an image."""
    typical: dict[str, float | list[float]] = {
        "defocus_u_angstrom": 15000.0,
        "defocus_v_angstrom": 15000.0,
        "defocus_angle_radians": 0.0,
        "phase_shift_radians": 0.0,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "b_factor_angstrom2": 0.0,
        "scale": 1.0,
    }
    return CtfParameters(
        **{k: torch.as_tensor(v).float().expand(n).clone() for k, v in (typical | values).items()}
    )


@pytest.mark.parametrize(
    ("voltage", "wavelength"),
    [(100.0, 0.037014), (200.0, 0.025079), (300.0, 0.019687)],
    ids=["100", "200", "300"],
)
def test_wavelength_is_the_textbook_one(voltage: float, wavelength: float) -> None:
    # Williams & Carter, Transmission Electron Microscopy, table 1.2
    assert float(electron_wavelength_angstrom(torch.tensor(voltage))) == pytest.approx(
        wavelength, rel=1e-4
    )


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_torch_ctf(seed: int) -> None:
    draw = np.random.default_rng(seed)
    v, u = sorted(draw.uniform(5000, 30000, 2))  # torch-ctf gives NaN for a negative astigmatism
    angle, shift = draw.uniform(-180, 180), draw.uniform(0, 90)
    voltage, aberration, contrast = (
        draw.choice([80.0, 200.0, 300.0]),
        draw.uniform(0.01, 2.7),
        draw.uniform(0.04, 0.2),
    )
    ours = evaluate_ctf(
        parameters(
            defocus_u_angstrom=u,
            defocus_v_angstrom=v,
            defocus_angle_radians=math.radians(angle),
            phase_shift_radians=math.radians(shift),
            voltage_kv=voltage,
            spherical_aberration_mm=aberration,
            amplitude_contrast=contrast,
        ),
        BOX,
        PIXEL_ANGSTROM,
    )
    theirs = torch_ctf.calculate_ctf_2d(
        defocus=(u + v) / 2e4,
        astigmatism=(u - v) / 2e4,
        astigmatism_angle=angle,
        voltage=voltage,
        spherical_aberration=aberration,
        amplitude_contrast=contrast,
        phase_shift=shift,
        pixel_size=PIXEL_ANGSTROM,
        image_shape=(BOX, BOX),
        rfft=True,
        fftshift=False,
    )
    # RELION's wavelength differs from that of today's constants by 5 parts in a million, of phases
    # up to 500 radians
    inside = torch.hypot(*fourier_grid(BOX)) < 0.5
    assert (ours[0] - theirs.reshape(ours[0].shape))[inside].abs().max() < 5e-3


def test_agrees_with_the_formula_worked_out_by_hand() -> None:
    # 10,000 Å underfocus, s = 1/5 Å⁻¹: πλΔf s² = 24.7394, ½πC_sλ³s⁴ = 0.5178, asin 0.1 = 0.1002
    value = evaluate_ctf_at(
        parameters(defocus_u_angstrom=1e4, defocus_v_angstrom=1e4),
        torch.tensor([0.2]),
        torch.tensor([0.0]),
    )
    wavelength = 0.0196875
    phase = (
        math.pi * wavelength * 1e4 * 0.04
        - 0.5 * math.pi * 2.7e7 * wavelength**3 * 0.2**4
        + math.asin(0.1)
    )
    assert phase == pytest.approx(24.7394 - 0.5178 + 0.1002, abs=1e-3)
    assert float(value) == pytest.approx(math.sin(phase), abs=1e-3)


def test_is_positive_at_dc_and_equals_the_amplitude_contrast() -> None:
    ctf = evaluate_ctf(parameters(3, amplitude_contrast=[0.04, 0.1, 0.2]), 32, PIXEL_ANGSTROM)
    torch.testing.assert_close(ctf[:, 0, 0], torch.tensor([0.04, 0.1, 0.2]))


def test_underfocus_first_rises() -> None:
    """Below the first zero of an underfocused image every wave keeps its sign, white on black."""
    ctf = evaluate_ctf(parameters(), 128, 2.0)[0]
    first_zero = 1.0 / math.sqrt(float(electron_wavelength_angstrom(torch.tensor(300.0))) * 15000.0)
    frequency = torch.hypot(*fourier_grid(128)) / 2.0
    assert (ctf[frequency < 0.9 * first_zero] > 0).all()
    assert (ctf[(frequency > 1.05 * first_zero) & (frequency < 1.2 * first_zero)] < 0).all()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, -50.0])
def test_defocus_u_holds_along_the_astigmatism_angle(angle: float) -> None:
    """Along θ₀ the CTF is that of U, across it that of V; θ₀ is counted from x towards y."""
    astigmatic = parameters(
        defocus_u_angstrom=2e4, defocus_v_angstrom=1e4, defocus_angle_radians=math.radians(angle)
    )
    frequency = torch.linspace(0.0, 0.25, 50)
    for turn, defocus in ((0.0, 2e4), (90.0, 1e4)):
        direction = math.radians(angle + turn)
        found = evaluate_ctf_at(
            astigmatic, frequency * math.cos(direction), frequency * math.sin(direction)
        )
        round_one = parameters(defocus_u_angstrom=defocus, defocus_v_angstrom=defocus)
        torch.testing.assert_close(
            found, evaluate_ctf_at(round_one, frequency, torch.zeros(50)), atol=1e-4, rtol=0
        )


def test_swapping_u_and_v_turns_the_axis_by_90_degrees() -> None:
    one = parameters(defocus_u_angstrom=1e4, defocus_v_angstrom=2e4, defocus_angle_radians=0.4)
    other = parameters(
        defocus_u_angstrom=2e4, defocus_v_angstrom=1e4, defocus_angle_radians=0.4 + math.pi / 2
    )
    torch.testing.assert_close(
        evaluate_ctf(one, 64, 2.0), evaluate_ctf(other, 64, 2.0), atol=1e-4, rtol=0
    )


def test_a_phase_plate_at_90_degrees_turns_sine_into_cosine() -> None:
    in_focus = {"defocus_u_angstrom": 0.0, "defocus_v_angstrom": 0.0, "amplitude_contrast": 0.0}
    frequency = torch.linspace(0.0, 0.3, 40)
    flat = torch.zeros(40)
    shifted = evaluate_ctf_at(
        parameters(phase_shift_radians=math.pi / 2, **in_focus), frequency, flat
    )
    plain = evaluate_ctf_at(parameters(**in_focus), frequency, flat)
    torch.testing.assert_close(shifted**2 + plain**2, torch.ones(1, 40))
    assert float(shifted[0, 0]) == pytest.approx(1.0)


def test_b_factor_and_scale_are_an_envelope() -> None:
    plain = evaluate_ctf(parameters(), BOX, PIXEL_ANGSTROM)
    damped = evaluate_ctf(parameters(b_factor_angstrom2=80.0, scale=0.7), BOX, PIXEL_ANGSTROM)
    ky, kx = fourier_grid(BOX)
    squared = (ky**2 + kx**2) / PIXEL_ANGSTROM**2
    torch.testing.assert_close(damped, plain * 0.7 * torch.exp(-80.0 * squared / 4.0))


def test_each_image_has_its_own_parameters() -> None:
    values: dict[str, list[float]] = {
        "defocus_u_angstrom": [1e4, 2e4],
        "voltage_kv": [200.0, 300.0],
        "scale": [1.0, 2.0],
    }
    both = parameters(2, **values)
    together = evaluate_ctf(both, 32, PIXEL_ANGSTROM)
    apart = torch.cat([evaluate_ctf(both[i : i + 1], 32, PIXEL_ANGSTROM) for i in range(2)])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(together[0], together[1], atol=0.1)
    assert len(both) == 2
    picked = both[torch.tensor([1])]
    assert {f.name: getattr(picked, f.name).item() for f in dataclasses.fields(picked)}[
        "voltage_kv"
    ] == 300.0


def test_rings_average_to_the_round_ctf_when_not_astigmatic() -> None:
    """A CTF without astigmatism depends on |s| only, so that its shell's variance is that of the
    shell's width."""
    ctf = evaluate_ctf(parameters(defocus_u_angstrom=3e3, defocus_v_angstrom=3e3), 64, 4.0)
    spread = radial_average(ctf**2, 64) - radial_average(ctf, 64) ** 2
    assert spread.max() < 5e-3
