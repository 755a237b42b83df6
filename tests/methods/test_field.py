"""The method of DynaMight: its paces, its two half sets, and options that belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.toy import Toy
from kinesphere.errors import InputError
from kinesphere.methods.field import (
    Field,
    FieldConfig,
    FieldOptions,
    FieldRestraintsConfig,
    FieldScheduleConfig,
    FieldTrainingConfig,
)
from kinesphere.motion.field import CoordinateField, SeparableField

OPTIONS = FieldOptions(particles=Path("p.star"), map=Path("map.mrc"))


def test_networks_rest_at_first_and_five_passes_after_every_thirty() -> None:
    pace = FieldScheduleConfig(reference_epochs=2, fix_networks_every=30, fix_networks_for=5)
    resting = [epoch for epoch in range(80) if not pace.networks_learn(epoch)]
    assert resting == [0, 1, *range(32, 37), *range(67, 72)]
    always = FieldScheduleConfig(reference_epochs=0, fix_networks_every=0)
    assert all(always.networks_learn(epoch) for epoch in range(80))


def test_reference_is_replaced_before_every_tenth_pass_in_which_networks_learn() -> None:
    pace = FieldScheduleConfig(
        reference_epochs=0, replace_reference_every=10, fix_networks_every=30
    )
    assert [epoch for epoch in range(62) if pace.replaces_reference(epoch)] == [10, 20, 40, 50, 60]
    assert [
        epoch for epoch in range(5) if FieldScheduleConfig(epochs=5).replaces_reference(epoch)
    ] == [3]
    assert not any(
        FieldScheduleConfig(replace_reference_every=0).replaces_reference(epoch)
        for epoch in range(62)
    )


def test_there_are_always_two_models_and_images_that_train_neither() -> None:
    assert OPTIONS.training.halves
    assert OPTIONS.training.validation_fraction == 0.1


@pytest.mark.parametrize(
    ("decoder", "kind"), [("separable", SeparableField), ("network", CoordinateField)]
)
def test_the_field_is_of_the_form_that_was_asked_for(toy: Toy, decoder: str, kind: type) -> None:
    chosen = FieldConfig(decoder=decoder, decoder_width=16)  # type: ignore[arg-type]
    n_points = len(toy.reference.points)
    method = Field(replace(OPTIONS, field=chosen)).resolved_motion(n_points)
    assert method.options.field.n_parts == 8
    assert method.options.n_gaussians == n_points
    motion = method.make_motion(toy.reference)
    assert isinstance(motion, kind)
    assert motion.learns_reference


def test_neighbours_are_restrained_at_their_distances(toy: Toy) -> None:
    restraints = FieldRestraintsConfig(distance_weight=0.2, gradient_ratio=0.9)
    training = replace(OPTIONS.training, restraints=restraints)
    made = Field(replace(OPTIONS, training=training)).make_restraints(toy.reference)
    assert made.balance == 0.9
    points = toy.reference.points
    assert float(made.energy(points[None])) == pytest.approx(0.0, abs=1e-4)
    assert float(made.energy(1.5 * points[None])) > 1.0


def test_options_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="--regularise-with-model.*needs the bonds of a model"):
        replace(OPTIONS, regularise_with_model=True).require_sensible()
    with pytest.raises(InputError, match="--validation-fraction.*leaves too few images"):
        training = replace(OPTIONS.training, validation_fraction=0.6)
        replace(OPTIONS, training=training).require_sensible()
    OPTIONS.require_sensible()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (replace(OPTIONS, n_gaussians=0), "--n-gaussians"),
        (replace(OPTIONS, field=FieldConfig(fold_weight=-1.0)), "--fold-weight"),
        (
            replace(
                OPTIONS,
                training=FieldTrainingConfig(schedule=FieldScheduleConfig(largest_falls=-1)),
            ),
            "--largest-falls",
        ),
    ],
    ids=["gaussians", "fold", "falls"],
)
def test_numbers_that_cannot_be_meant_are_refused(options: FieldOptions, name: str) -> None:
    with pytest.raises(InputError, match=name):
        options.require_sensible()
