"""Sums over images and pairs, against loops over both."""

from __future__ import annotations

import torch

from kinesphere.kernels.shell_sums import sum_products


def test_sums_are_those_over_the_images_and_pairs_of_each_group() -> None:
    group, image = torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1, 2])
    data, factor = (torch.randn(n, 4, dtype=torch.complex128) for n in (3, 4))
    transfer, weight = torch.randn(3, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    expected = torch.zeros(3, 3, 4, dtype=torch.float64)
    for b in range(3):
        expected[0, group[b]] += data[b].abs() ** 2
    for q in range(4):
        b, model = image[q], transfer[image[q]] * factor[q]
        expected[1, group[b]] += weight[q] * (data[b].conj() * model).real
        expected[2, group[b]] += weight[q] * model.abs() ** 2
    for implementation in (sum_products, sum_products.reference):
        found = implementation(group, data, transfer, factor, image, weight, 3)
        torch.testing.assert_close(found, expected)
        assert not found[:, 1].any()
