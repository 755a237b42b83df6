"""One pixel grid for several optics groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.star_text import star_table
from kinesphere import fourier
from kinesphere.errors import InputError
from kinesphere.io.mrc import write_stack
from kinesphere.particles import ParticleSet
from kinesphere.particles.grid import ImageGrid, common_grid, resample, resampling_matrix
from kinesphere.particles.optics import OpticsGroup


def _group(name: str, box_px: int, pixel_size_angstrom: float) -> OpticsGroup:
    return OpticsGroup(name=name, pixel_size_angstrom=pixel_size_angstrom, box_px=box_px)


def _blob(
    grid: ImageGrid, x_angstrom: float, y_angstrom: float, sigma_angstrom: float
) -> torch.Tensor:
    axis = (torch.arange(grid.box_px) - grid.box_px // 2) * grid.pixel_size_angstrom
    return torch.exp(
        -((axis - x_angstrom) ** 2 + (axis[:, None] - y_angstrom) ** 2) / (2 * sigma_angstrom**2)
    )


@pytest.mark.parametrize(("n", "m"), [(32, 20), (32, 21), (33, 20), (33, 21), (24, 24)])
def test_resampling_over_the_same_field_of_view_is_fourier_cropping(n: int, m: int) -> None:
    images = torch.randn(4, n, n, generator=torch.Generator().manual_seed(1))
    matrix = resampling_matrix(ImageGrid(n, 1.1), ImageGrid(m, 1.1 * n / m))
    cropped = fourier.centred_irfft2(fourier.crop_fourier(fourier.centred_rfft2(images), n, m), m)
    torch.testing.assert_close(resample(images, matrix), cropped, atol=1e-5, rtol=0)


@pytest.mark.parametrize("source", [ImageGrid(80, 1.06), ImageGrid(81, 1.06), ImageGrid(64, 1.4)])
@pytest.mark.parametrize("target", [ImageGrid(50, 1.4), ImageGrid(41, 1.9)])
def test_blob_keeps_its_place_in_angstrom_for_any_pixel_ratio(
    source: ImageGrid, target: ImageGrid
) -> None:
    moved = resample(_blob(source, 7.0, -12.5, 5.0)[None], resampling_matrix(source, target))[0]
    torch.testing.assert_close(moved, _blob(target, 7.0, -12.5, 5.0), atol=1e-3, rtol=0)


def test_what_the_target_cannot_hold_is_left_out_rather_than_aliased() -> None:
    wave = torch.cos(2 * torch.pi * 25 * torch.arange(64.0) / 64).expand(1, 64, 64)
    assert (
        resample(wave, resampling_matrix(ImageGrid(64, 1.0), ImageGrid(30, 1.7))).abs().max() < 1e-5
    )


def test_common_grid_is_the_coarsest_pixel_and_the_smallest_field_of_view() -> None:
    grid = common_grid([_group("a", 256, 1.06), _group("b", 320, 0.83)])
    assert grid.pixel_size_angstrom == 1.06
    assert grid.box_px == 250  # 320 · 0.83 / 1.06 = 250.6
    assert common_grid([_group("a", 99, 1.06)]) == ImageGrid(99, 1.06)


def test_a_smaller_box_keeps_the_field_of_view() -> None:
    grid = common_grid([_group("a", 256, 1.0)], 64)
    assert grid == ImageGrid(64, 4.0)


@pytest.mark.parametrize("box", [6, 33, 300])
def test_impossible_boxes_are_refused(box: int) -> None:
    with pytest.raises(InputError, match=rf"256 px to {box} px.*even box from 8 to 256"):
        common_grid([_group("a", 256, 1.0)], box)


@pytest.mark.parametrize(
    ("other", "words"), [((256, 2.5), "pixel size"), ((120, 1.0), "field of view")]
)
def test_groups_too_different_are_refused_by_name(other: tuple[int, float], words: str) -> None:
    with pytest.raises(InputError, match=rf"Krios.*Glacios.*{words}|Glacios.*Krios.*{words}"):
        common_grid([_group("Krios", 256, 1.0), _group("Glacios", *other)])


def test_group_without_pixel_size_is_refused() -> None:
    with pytest.raises(InputError, match="optics group b has no usable pixel size"):
        common_grid([_group("a", 64, 1.0), _group("b", 64, float(np.nan))])


def test_pixel_size_comes_from_the_header_only_where_the_file_is_silent(
    read: Callable[..., ParticleSet], tmp_path: Path
) -> None:
    write_stack(tmp_path / "a.mrcs", np.ones((2, 6, 6), np.float32), 3.25)
    silent = read(star_table("ImageName", "1@a.mrcs"))
    assert (silent.optics[0].pixel_size_angstrom, silent.optics[0].box_px) == (3.25, 6)
    assert "header" in silent.warnings[0]
    said = read(star_table("ImageName PixelSize MicrographPixelSize", "1@a.mrcs 6.5 1.1"))
    assert said.optics[0].pixel_size_angstrom == 6.5
    assert "3.25" in said.warnings[0]
    (tmp_path / "a.mrcs").unlink()
    with pytest.raises(InputError, match="no pixel size.*--pixel-size"):
        read(star_table("ImageName MicrographPixelSize", "1@a.mrcs 1.1"))
    assert (
        read(star_table("ImageName", "1@a.mrcs"), pixel_size_angstrom=1.25)
        .optics[0]
        .pixel_size_angstrom
        == 1.25
    )
