"""Options of training: what is left open follows from the number of images; nonsense is refused."""

from __future__ import annotations

import re

import pytest

from kinesphere.errors import InputError
from kinesphere.inference.options import LatentsConfig
from kinesphere.observations.options import ImagesConfig
from kinesphere.training.options import (
    PASSES_OF_AN_ENCODER,
    ScheduleConfig,
    TrainingConfig,
    default_batch_size,
    default_epochs,
)


@pytest.mark.parametrize(
    ("n_images", "size"),
    [(10, 64), (31_999, 64), (32_000, 128), (64_000, 256), (128_000, 512), (2_000_000, 512)],
)
def test_large_sets_have_large_batches(n_images: int, size: int) -> None:
    assert default_batch_size(n_images) == size


@pytest.mark.parametrize(
    ("n_images", "epochs"), [(0, 24), (100, 24), (2000, 16), (4000, 8), (6400, 5), (10**6, 5)]
)
def test_passes_are_enough_for_32_000_images(n_images: int, epochs: int) -> None:
    assert default_epochs(n_images) == epochs
    assert default_epochs(n_images, "vae") == PASSES_OF_AN_ENCODER * epochs
    # up to half of these are at low resolution, where a pass costs little
    assert default_epochs(n_images, "gaussian") == epochs + 6


def test_what_is_left_open_is_filled_in_and_what_is_chosen_stays() -> None:
    filled = TrainingConfig().resolved(64_000)
    assert (filled.schedule.epochs, filled.batch_size, filled.latents.n_nodes) == (5, 256, 32)
    assert filled.resolved(100) == filled
    encoder = TrainingConfig(latents=LatentsConfig(inference="vae")).resolved(4000)
    assert encoder.schedule.epochs == 32
    chosen = TrainingConfig(schedule=ScheduleConfig(epochs=3), batch_size=10).resolved(64_000)
    assert (chosen.schedule.epochs, chosen.batch_size) == (3, 10)


def test_the_images_choose_the_dimension_only_where_posteriors_are_gaussian() -> None:
    for inference in ("marginal", "vae"):
        assert LatentsConfig(inference=inference).resolved().latent_dim == 2
        assert not LatentsConfig(inference=inference).chooses_dimension
    asked = LatentsConfig(inference="gaussian").resolved()
    assert asked.latent_dim == "auto"
    assert asked.chooses_dimension
    assert asked.n_dimensions == 6
    told = LatentsConfig(inference="gaussian", latent_dim=3)
    assert told.n_dimensions == 3
    assert not told.chooses_dimension


def test_steps_of_gaussian_noise_want_its_data_term() -> None:
    config = TrainingConfig(latents=LatentsConfig(inference="gaussian"), objective="profiled")
    with pytest.raises(InputError, match="Take --inference marginal or vae"):
        config.require_sensible()


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (TrainingConfig(latents=LatentsConfig(latent_dim=0)), "latent-dim"),
        (TrainingConfig(latents=LatentsConfig(n_nodes=-1)), "n-nodes"),
        (TrainingConfig(images=ImagesConfig(resolution_angstrom=0.0)), "resolution-angstrom"),
        (TrainingConfig(images=ImagesConfig(memory_gigabytes=-1.0)), "memory-gigabytes"),
        (TrainingConfig(schedule=ScheduleConfig(epochs=0)), "epochs"),
        (TrainingConfig(schedule=ScheduleConfig(coarse_fraction=-0.1)), "coarse-fraction"),
        (TrainingConfig(batch_size=0), "batch-size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_cannot_be_meant_are_refused(config: TrainingConfig, option: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"--{option}")):
        config.require_sensible()


def test_the_defaults_are_sensible() -> None:
    TrainingConfig().require_sensible()
    TrainingConfig().resolved(1000).require_sensible()
