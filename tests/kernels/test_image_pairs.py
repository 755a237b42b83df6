"""The loops between grids and sums: columns and rows, templates, stretches of coefficients."""

from __future__ import annotations

import numpy as np

from kinesphere.kernels import image_pairs


def complex_numbers(*shape: int) -> np.ndarray:
    draw = np.random.default_rng(len(shape))
    return draw.normal(size=shape) + 1j * draw.normal(size=shape)


def test_columns_are_those_of_the_transform_with_the_image_centre_at_zero() -> None:
    """Rows 3 … 8 of 12, the others being empty."""
    size, kept = 12, 4
    image = np.zeros((1, size, size))
    image[:, 3:9] = np.random.default_rng(0).normal(size=(1, 6, size))
    columns = np.zeros((1, kept, size), dtype=complex)
    image_pairs.rows_to_columns(np.fft.rfft(image[:, 3:9]), columns)
    centred = np.fft.ifftshift(image, axes=(1, 2))
    expected = np.fft.rfft2(centred)[..., :kept].transpose(0, 2, 1)
    np.testing.assert_allclose(np.fft.fft(columns), expected, atol=1e-12)


def test_rows_come_back_from_columns_and_the_rest_is_empty() -> None:
    rows = complex_numbers(2, 6, 7)
    columns = np.zeros((2, 4, 12), dtype=complex)
    image_pairs.rows_to_columns(rows, columns)
    back = complex_numbers(2, 6, 7)
    image_pairs.columns_to_rows(columns, back)
    np.testing.assert_array_equal(back[..., :4], rows[..., :4])
    assert not back[..., 4:].any()


def test_stretches_give_the_sums_of_chosen_coefficients() -> None:
    transform, data = complex_numbers(3, 20), complex_numbers(2, 5)
    gain, factor = np.random.default_rng(1).random((2, 5)), np.arange(1.0, 6.0)
    index, image = np.array([7, 2, 8, 3, 15]), np.array([0, 1, 1])
    order = np.argsort(index)
    runs = np.array([[2, 2], [7, 2], [15, 1]])
    template, squared_gain, of_runs, of_chosen = (
        np.zeros(shape) for shape in ((2, 10), (2, 10), (2, 3), (2, 3))
    )
    image_pairs.make_templates(gain, data, factor, order, template, squared_gain)
    image_pairs.compare_runs(
        transform.view(float), runs, image, template, squared_gain, of_runs[0], of_runs[1]
    )
    rendered = np.zeros((3, 5), dtype=complex)
    image_pairs.compare_chosen(
        transform, index, factor, image, gain, data, rendered, of_chosen[0], of_chosen[1]
    )
    model = gain[image] * factor * transform[:, index]
    np.testing.assert_allclose(of_runs, of_chosen)
    np.testing.assert_allclose(of_runs[0], (data[image].conj() * model).real.sum(1))
    np.testing.assert_allclose(of_runs[1], (np.abs(model) ** 2).sum(1))
    np.testing.assert_allclose(rendered, factor * transform[:, index])
