"""The potential is that of the tables, its projections and maps are exact sums over atoms."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.simulate.scattering import (
    AtomProjector,
    form_factor,
    potential_map,
    require_known_elements,
)

BOX, PIXEL, B_FACTOR = 32, 1.5, 60.0


def _molecule(n_atoms: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(scale=6.0, size=(n_atoms, 3)), rng.choice([1, 6, 7, 8, 16], size=n_atoms)


def _direct_transform(points: np.ndarray, elements: np.ndarray, *axes: np.ndarray) -> np.ndarray:
    """Σⱼ fⱼ(|k|) exp(−2πi k·xⱼ), term by term."""
    grids = np.meshgrid(*axes, indexing="ij")
    frequency = np.sqrt(sum(grid**2 for grid in grids))
    total = np.zeros(frequency.shape, dtype=complex)
    for point, element in zip(points, elements, strict=True):
        phase = sum(grid * value for grid, value in zip(grids, point[::-1], strict=True))
        total += form_factor(int(element), frequency, B_FACTOR) * np.exp(-2j * np.pi * phase)
    return total


@pytest.mark.parametrize(
    ("element", "forward"), [("H", 0.529), ("C", 2.509), ("N", 2.211), ("O", 1.983), ("S", 5.161)]
)
def test_forward_scattering_is_that_of_the_table(element: str, forward: float) -> None:
    # f(0) of Doyle & Turner (1968) and Peng et al. (1996), in Å.
    assert form_factor(gemmi.Element(element).atomic_number, np.zeros(1), 0.0)[0] == pytest.approx(
        forward, rel=0.01
    )


@pytest.mark.parametrize("element", ["C", "N", "O", "P", "S"])
def test_mott_bethe_formula_gives_the_same_from_x_ray_factors(element: str) -> None:
    # f_e(s) = (m e² / 8 π ε₀ h²) (Z − f_x(s)) / s², s = |k| / 2; the constant is 0.0239337 / Å.
    atom = gemmi.Element(element)
    s = np.linspace(0.2, 0.5, 7)
    x_ray = np.array([atom.it92.calculate_sf(value**2) for value in s])
    expected = 0.0239337 * (atom.atomic_number - x_ray) / s**2
    assert form_factor(atom.atomic_number, 2 * s, 0.0) == pytest.approx(expected, rel=0.02)


def test_projection_agrees_with_the_direct_sum() -> None:
    positions, elements = _molecule()
    rotation = Rotation.random(4, random_state=5).as_matrix()
    project = AtomProjector(elements, BOX, PIXEL, B_FACTOR)
    found = project(torch.from_numpy(np.stack([positions] * 4)), torch.from_numpy(rotation)).numpy()
    ky, kx = np.fft.fftfreq(BOX, PIXEL), np.fft.rfftfreq(BOX, PIXEL)
    inside = np.hypot(ky[:, None], kx) < 0.95 * 0.5 / PIXEL
    for image, matrix in zip(found, rotation, strict=True):
        in_image = positions @ matrix  # rows of Rᵀ x
        exact = _direct_transform(in_image[:, :2], elements, ky, kx)
        error = np.linalg.norm((image - exact)[inside]) / np.linalg.norm(exact[inside])
        assert error < 1e-4
        shell = inside & (np.hypot(ky[:, None], kx) > 0.8 * 0.5 / PIXEL)
        assert np.linalg.norm((image - exact)[shell]) / np.linalg.norm(exact[shell]) < 1e-3


def test_map_agrees_with_the_direct_sum() -> None:
    positions, elements = _molecule(20)
    box = 16
    density = potential_map(positions / 3, elements, box, PIXEL, B_FACTOR)
    found = np.fft.fftn(np.fft.ifftshift(density)) * PIXEL**3
    axis = np.fft.fftfreq(box, PIXEL)
    exact = _direct_transform(positions / 3, elements, axis, axis, axis)
    inside = (slice(0, box // 2),) * 3  # the Nyquist planes of a real map hold the real part only
    assert np.abs(found - exact)[inside].max() / np.abs(exact).max() < 1e-5


def test_map_agrees_with_gemmi() -> None:
    positions, elements = _molecule(30)
    box, pixel, centre = 48, 1.0, 24.0
    structure = gemmi.Structure()
    structure.cell = gemmi.UnitCell(box * pixel, box * pixel, box * pixel, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    residue = gemmi.Residue()
    for point, element in zip(positions, elements, strict=True):
        atom = gemmi.Atom()
        atom.element, atom.pos, atom.b_iso = (
            gemmi.Element(int(element)),
            gemmi.Position(*(point + centre)),
            B_FACTOR,
        )
        residue.add_atom(atom)
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate = 2.0, 2.0
    calculator.cutoff = 1e-7
    calculator.set_grid_cell_and_spacegroup(structure)
    calculator.grid.set_size(box, box, box)
    calculator.add_model_density_to_grid(structure[0])
    reference = np.array(calculator.grid).transpose(2, 1, 0)
    density = potential_map(positions, elements, box, pixel, B_FACTOR)
    assert np.corrcoef(density.ravel(), reference.ravel())[0, 1] > 0.9999
    assert density.sum() == pytest.approx(reference.sum(), rel=2e-3)


def test_map_summed_along_the_beam_is_the_unrotated_image() -> None:
    positions, elements = _molecule()
    density = potential_map(positions, elements, BOX, PIXEL, B_FACTOR)
    project = AtomProjector(elements, BOX, PIXEL, B_FACTOR)
    transform = project(torch.from_numpy(positions)[None], torch.eye(3, dtype=torch.float64)[None])[
        0
    ].numpy()
    image = np.fft.fftshift(np.fft.irfft2(transform, s=(BOX, BOX))) / PIXEL**2
    assert np.corrcoef(image.ravel(), density.sum(axis=0).ravel())[0, 1] > 0.99999
    assert image.sum() == pytest.approx(density.sum() * PIXEL, rel=1e-4)


def test_low_pass_keeps_what_is_below_and_nothing_beyond() -> None:
    positions, elements = _molecule()
    whole = np.fft.fftn(potential_map(positions, elements, BOX, PIXEL, B_FACTOR))
    low = np.fft.fftn(
        potential_map(positions, elements, BOX, PIXEL, B_FACTOR, low_pass_angstrom=8.0)
    )
    axis = np.fft.fftfreq(BOX, PIXEL)
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    extent = BOX * PIXEL
    below, beyond = frequency < 1 / 8 - 3.01 / extent, frequency > 1 / 8 + 1e-9
    assert np.abs(low - whole)[below].max() < 1e-4 * np.abs(whole).max()
    assert np.abs(low[beyond]).max() < 1e-5 * np.abs(whole).max()


def test_element_without_a_factor_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.pdb.*element 'X'"):
        require_known_elements(np.array([6, 0]), "model.pdb")
