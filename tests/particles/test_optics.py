"""Aberrations that the image model lacks: how large their phases are, and from where on they are
refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinesphere.particles.optics import LARGEST_PHASE_ERROR_RADIANS, OpticsGroup, zernike_phase

GROUP = OpticsGroup("g", 1.0, 256, 300.0, 2.7, 0.1)


def test_ideal_optics_have_no_effects() -> None:
    assert GROUP.unmodelled_effects() == []
    assert OpticsGroup("no CTF", 1.0, 0, beam_tilt_mrad=(1.0, 0.0)).unmodelled_effects() == []


@pytest.mark.parametrize("resolution", [2.0, 3.0, 4.5])
def test_beam_tilt_is_refused_from_the_phase_that_relion_computes(resolution: float) -> None:
    """RELION's `selfApplyBeamTilt`: phase in degrees = 0.360 · C_s · 10⁷ · λ² · s³ · tilt, C_s in
    mm, tilt in mrad."""
    per_mrad_degrees = 0.360 * 2.7e7 * 0.019687**2 / resolution**3
    limit_mrad = np.rad2deg(LARGEST_PHASE_ERROR_RADIANS) / per_mrad_degrees
    below = replace(GROUP, beam_tilt_mrad=(0.6 * 0.995 * limit_mrad, 0.8 * 0.995 * limit_mrad))
    above = replace(GROUP, beam_tilt_mrad=(0.6 * 1.005 * limit_mrad, -0.8 * 1.005 * limit_mrad))
    assert below.unmodelled_effects(resolution) == []
    assert "rlnBeamTiltX" in above.unmodelled_effects(resolution)[0]
    assert above.unmodelled_effects(1.1 * resolution) == []


def test_resolution_beyond_nyquist_counts_as_nyquist() -> None:
    tilted = replace(GROUP, beam_tilt_mrad=(0.02, 0.0))
    assert tilted.unmodelled_effects(0.5) == tilted.unmodelled_effects()


def test_zernike_terms_by_hand() -> None:
    """Order n, m: even (0,0) (2,-2) (2,0) (2,2) …; odd (1,-1) (1,1) (3,-3) …, with Z₂⁰ = 2r² - 1
    and Z₁ = r."""
    even, odd, r = (0, 2, 4, 6), (1, 3, 5), 0.4
    assert zernike_phase((0.3,), even, r) == pytest.approx(0.3)
    assert zernike_phase((0.0, 2.0), even, r) == pytest.approx(2 * r**2)
    assert zernike_phase((1.0, 0.0, 1.0), even, r) == pytest.approx(2 * r**2)
    assert zernike_phase((3.0,), odd, r) == pytest.approx(3 * r)
    assert zernike_phase((0.0, 0.0, 0.0, 0.0, 0.0, 5.0), odd, r) == pytest.approx(5 * r**3)
    assert zernike_phase((0.0, 2.0, 0.0, 0.0, 1.0), odd, r) == pytest.approx(3 * r**3)


def test_each_effect_is_named() -> None:
    strained = replace(
        GROUP,
        magnification=(1.01, 0.0, 0.0, 0.99),
        odd_zernike=(10.0,),
        even_zernike=(10.0,),
        trefoil_angstrom=(5000.0, 0.0),
        tetrafoil_angstrom=(5e5, 0.0, 0.0, 0.0),
        is_ctf_premultiplied=True,
        is_phase_flipped=True,
    )
    fields = [effect.partition(" = ")[0] for effect in strained.unmodelled_effects()]
    assert fields == [
        *("rlnOddZernike", "rlnEvenZernike", "ctf/trefoil_A", "ctf/tetra_A", "rlnMagMat"),
        *("rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"),
    ]


def test_magnification_is_judged_by_the_shift_it_makes() -> None:
    """Half a pixel, half of the way to the edge: 0.78 % at 256 px, 3.1 % at 64 px."""
    distorted = replace(GROUP, magnification=(1.0, 0.008, 0.008, 1.0))
    assert "0.5 px" in distorted.unmodelled_effects()[0]
    assert replace(distorted, box_px=64).unmodelled_effects() == []
