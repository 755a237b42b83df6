"""Every image belongs to one model, and is tested by a model that has not learnt it."""

from __future__ import annotations

import numpy as np
import pytest

from kinesphere.runs.halves import (
    ALL_IMAGES,
    HALVES,
    has_one_model,
    images_by_model,
    images_of_model,
    images_to_test,
    model_keys,
    model_of_image,
)

HALF = np.array([2, 1, 1, 2, 1])


@pytest.mark.parametrize("two_models", [True, False])
def test_the_models_images_are_all_images_each_once(*, two_models: bool) -> None:
    half = HALF if two_models else np.zeros(5, int)
    models = model_keys(two_models=two_models)
    rows = np.concatenate([images_of_model(model, half) for model in models])
    assert sorted(rows) == list(range(5))
    of_image = model_of_image(half, models)
    for model in models:
        assert (of_image[images_of_model(model, half)] == model).all()
        np.testing.assert_array_equal(images_by_model(half)[model], images_of_model(model, half))


def test_one_model_has_all_images_whatever_half_set_they_are_in() -> None:
    assert has_one_model(model_keys(two_models=False))
    assert (model_of_image(HALF, (ALL_IMAGES,)) == ALL_IMAGES).all()
    assert len(images_of_model(ALL_IMAGES, HALF)) == len(HALF)


def test_a_model_of_a_half_set_is_tested_on_the_other() -> None:
    assert not has_one_model(HALVES)
    for model in HALVES:
        assert not set(images_to_test(model, HALF)) & set(images_of_model(model, HALF))
    np.testing.assert_array_equal(images_to_test(1, HALF), [0, 3])
    np.testing.assert_array_equal(images_to_test(ALL_IMAGES, HALF), np.arange(5))


def test_models_without_images_are_left_out_and_the_first_comes_first() -> None:
    assert list(images_by_model(HALF)) == [1, 2]
    assert list(images_by_model(np.full(3, 2))) == [2]
