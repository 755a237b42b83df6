"""Growth of cost with size: exponents, and the sentences that state them."""

import pytest
from scaling import findings, fitted


def test_a_cost_for_every_image_alike_has_exponent_one_along_images_and_none_along_the_box() -> (
    None
):
    images = [
        {"phase": "field", "axis": "images", "size": n, "images_per_second": 500.0, "peak_gb": 0.5}
        for n in (500, 2000, 8000)
    ]
    box = [
        {
            "phase": "field",
            "axis": "box",
            "size": n,
            "images_per_second": 500.0 * (64 / n) ** 2,
            "peak_gb": n / 64,
        }
        for n in (32, 64, 128)
    ]
    along_images, along_box = fitted(images + box)
    assert along_images["cpu_exponent"] == pytest.approx(1.0)
    assert along_images["memory_exponent"] == pytest.approx(0.0, abs=1e-9)
    assert along_box["cpu_exponent"] == pytest.approx(2.0)
    assert along_box["memory_exponent"] == pytest.approx(1.0)
    assert findings(images + box) == [
        "Cost grows no faster than the number of images: exponents 1.00 to 1.00.",
        "Peak memory changes by +0.00 GB from 500 to 8,000 images at most, of field.",
    ]


def test_a_cost_that_grows_with_the_square_of_the_molecule_is_called_so() -> None:
    points = [
        {
            "phase": "field",
            "axis": "points",
            "size": n,
            "images_per_second": 1e8 / n**2,
            "peak_gb": 0.5,
        }
        for n in (200, 1000, 8000)
    ]
    (said,) = findings(points)
    assert (
        said == "Cost grows faster than the residues or Gaussians: exponent 2.00 at most, of field."
    )
