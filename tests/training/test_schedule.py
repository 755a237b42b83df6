"""The schedule: pure functions of progress."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kinesphere.methods.field import FieldScheduleConfig
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.training.schedule import Schedule, SettlingSchedule


def make(
    n_images: int = 1000, n_shells: int = 30, batch_size: int = 64, **options: float
) -> Schedule:
    return Schedule(SegmentsScheduleConfig(**options), n_images, n_shells, batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_images", "epochs"), [(100, 24), (2000, 16), (4000, 8), (20_000, 5), (1_000_000, 5)]
)
def test_number_of_epochs_follows_the_number_of_images(n_images: int, epochs: int) -> None:
    assert make(n_images).epochs == epochs
    assert make(n_images, epochs=3).epochs == 3


def test_an_epoch_has_a_step_for_the_last_incomplete_batch() -> None:
    assert make(1000, batch_size=64).steps_per_epoch == 16
    assert make(1024, batch_size=64).steps_per_epoch == 16


def test_coarse_epochs_come_first() -> None:
    schedule = make(epochs=10, coarse_epochs=2, coarse_fraction=0.4)
    assert [schedule.n_shells(epoch) for epoch in range(4)] == [12, 12, 30, 30]
    assert [schedule.is_full_resolution(epoch) for epoch in range(4)] == [False, False, True, True]


def test_short_runs_and_small_boxes_are_not_coarse_for_long() -> None:
    assert make(epochs=2, coarse_epochs=2).n_shells(0) == 30
    assert make(n_shells=5, epochs=10).n_shells(0) == 5
    assert make(n_shells=10, epochs=10, coarse_fraction=0.1).n_shells(0) == 6


def test_learning_rate_warms_up_then_decays_to_its_floor() -> None:
    schedule = make(6400, epochs=10, warm_up_steps=20, final_learning_rate_fraction=0.05)
    factor = [schedule.learning_rate_factor(step) for step in range(1001)]
    assert factor[0] == pytest.approx(1 / 20, rel=1e-3)
    assert max(factor) == pytest.approx(1.0, abs=5e-3)
    assert factor.index(max(factor)) == 19
    assert all(later < earlier for earlier, later in pairwise(factor[19:]))
    assert factor[500] == pytest.approx(0.525, abs=1e-3)
    assert factor[1000] == pytest.approx(0.05)
    assert schedule.learning_rate_factor(5000) == pytest.approx(0.05)


def test_learning_rates_grow_with_the_square_root_of_the_batch() -> None:
    small, large = make(6400, epochs=10), make(25_600, epochs=10, batch_size=256)
    factors = [
        [schedule.learning_rate_factor(step) for step in range(0, 1000, 50)]
        for schedule in (small, large)
    ]
    assert factors[1] == pytest.approx([2.0 * factor for factor in factors[0]])
    assert make(6400, epochs=10, batch_size=16).learning_rate_factor(20) == pytest.approx(
        1.0, abs=1e-3
    )


def test_divergence_rises_over_its_warm_up() -> None:
    assert make().divergence_weight(0) == 1.0
    schedule = make(640, divergence_warm_up_epochs=2)
    assert [schedule.divergence_weight(step) for step in (0, 10, 20, 50)] == [0.0, 0.5, 1.0, 1.0]


def test_stops_when_nothing_has_improved_for_as_long_as_patience() -> None:
    schedule = make(patience=3, tolerance=0.1)
    rising = [0.0, 1.0, 2.0, 3.0]
    assert not schedule.should_stop(rising)
    assert not schedule.should_stop([*rising, 3.05, 3.05])
    assert schedule.should_stop([*rising, 3.05, 3.05, 3.05])
    assert not schedule.should_stop([*rising, 3.05, 3.05, 3.2])
    assert not schedule.should_stop([5.0, 4.0, 3.0])


def test_field_stops_after_so_many_falls() -> None:
    schedule = Schedule(FieldScheduleConfig(largest_falls=2, patience=100), 1000, 30, 64)
    assert not schedule.should_stop([0.0, 3.0, 2.0, 4.0])
    assert schedule.should_stop([0.0, 3.0, 2.0, 4.0, 3.9])
    assert not Schedule(
        FieldScheduleConfig(largest_falls=0, patience=100), 1000, 30, 64
    ).should_stop([3.0, 2.0, 1.0])


def test_what_was_found_of_images_holds_at_full_resolution_while_nothing_is_moved() -> None:
    segments = make(epochs=10, coarse_epochs=2)
    assert [epoch for epoch in range(10) if segments.changes_much(epoch)] == [0, 1, 2]
    assert [epoch for epoch in range(5) if make(epochs=5, coarse_epochs=0).changes_much(epoch)] == [
        0,
        1,
    ]
    pace = FieldScheduleConfig(
        epochs=8, reference_epochs=1, fix_networks_every=5, fix_networks_for=1
    )
    field = Schedule(pace, 1000, 30, 64)
    assert pace.replaces_reference(5)
    assert [epoch for epoch in range(8) if field.changes_much(epoch)] == [0, 1, 2, 5, 6, 7]


def settling(n_images: int = 1000, **options: float) -> SettlingSchedule:
    return SettlingSchedule(SegmentsScheduleConfig(**options), n_images, 30, 100)  # type: ignore[arg-type]


def test_full_resolution_begins_when_low_resolution_has_no_more_to_say() -> None:
    schedule = settling(epochs=10)
    assert schedule.epochs == 10
    schedule.settle([1.0])
    schedule.settle([1.0, 5.0])
    assert not schedule.is_full_resolution(2)
    schedule.settle([1.0, 5.0, 5.4])  # less than half a nat
    assert schedule.is_full_resolution(3)
    assert not schedule.is_full_resolution(2)
    assert schedule.epochs == 8  # as many passes at full resolution as ever
    schedule.settle([1.0, 5.0, 5.4, 100.0])
    assert schedule.first_full == 3


def test_low_resolution_ends_after_half_of_the_passes() -> None:
    schedule = settling(epochs=7)
    schedule.settle([1.0, 5.0])
    assert schedule.first_full is None
    schedule.settle([1.0, 5.0, 9.0])
    assert schedule.first_full == 3
    assert schedule.epochs == 7
    assert settling(epochs=1).first_full == 0


def test_learning_rates_fall_at_full_resolution_only() -> None:
    schedule = settling(epochs=10, warm_up_steps=0, final_learning_rate_fraction=0.1)
    coarse = schedule.learning_rate_factor(50)
    assert schedule.learning_rate_factor(1) == coarse
    schedule.settle([1.0, 1.0])
    assert schedule.learning_rate_factor(20) == pytest.approx(coarse)
    assert schedule.learning_rate_factor(45) == pytest.approx(coarse * 0.55)
    assert schedule.learning_rate_factor(70) == pytest.approx(coarse * 0.1)
