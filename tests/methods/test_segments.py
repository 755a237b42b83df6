"""The method of cryoSPHERE: as many segments as were asked for, or as the chain is long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.fake_run import helix_bundle
from helpers.toy import Toy
from kinesphere.errors import InputError
from kinesphere.methods.segments import (
    Segments,
    SegmentsConfig,
    SegmentsOptions,
    SegmentsScheduleConfig,
    SegmentsTrainingConfig,
)

OPTIONS = SegmentsOptions(particles=Path("p.star"), model=Path("m.pdb"))


@pytest.mark.parametrize(("n_residues", "n_segments"), [(10, 4), (160, 10), (2000, 32), (5000, 78)])
def test_a_segment_has_sixteen_residues_within_reason(n_residues: int, n_segments: int) -> None:
    filled = Segments(OPTIONS).resolved_motion(n_residues)
    assert filled.options.segments.n_segments == n_segments
    five = Segments(replace(OPTIONS, segments=SegmentsConfig(n_segments=5)))
    assert five.resolved_motion(n_residues).options == five.options


def test_the_motion_has_those_segments_and_stays_in_the_models_domains(toy: Toy) -> None:
    method = Segments(replace(OPTIONS, segments=SegmentsConfig(n_segments=5)))
    motion = method.make_motion(toy.reference)
    assert motion.latent_dim == OPTIONS.training.latents.n_dimensions
    assert motion.memberships().shape == (len(toy.reference.points), 5)
    named = {id(parameter) for parameter in motion.structural_parameters()}
    assert 0 < len(named) < len(list(motion.parameters()))
    assert torch.equal(motion.reference, toy.reference.points)


def test_copies_in_the_model_share_what_is_learnt_of_their_boundaries() -> None:
    """A bundle of four chains of two helices, all alanine and numbered from 1."""
    model = helix_bundle(chains="AABBCCDD")
    method = Segments(replace(OPTIONS, segments=SegmentsConfig(n_segments=12)))
    segmentation = method.make_motion(
        method.make_reference(model, model.positions_angstrom.mean(0))
    ).segmentation
    assert (segmentation.n_segments, segmentation.mean.shape) == (12, (3, 3))
    ranged = Segments(replace(method.options, ranges=("A:1-18", "C:1-18")))
    reference = ranged.make_reference(model, model.positions_angstrom.mean(0))
    assert reference.copies is not None
    families = [int(reference.copies.family[i]) for i in range(0, model.n_residues, 18)]
    assert families == [0, 1, 2, 2, 0, 1, 2, 2]


def test_boundaries_learn_at_their_own_rate() -> None:
    schedule = SegmentsScheduleConfig(learning_rate=1e-3, segmentation_learning_rate=0.05)
    assert schedule.structural_learning_rate == 0.05


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (replace(OPTIONS, segments=SegmentsConfig(n_segments=0)), "--n-segments"),
        (
            replace(
                OPTIONS,
                training=SegmentsTrainingConfig(
                    schedule=SegmentsScheduleConfig(segmentation_learning_rate=0.0)
                ),
            ),
            "--segmentation-learning-rate",
        ),
    ],
    ids=["segments", "rate"],
)
def test_numbers_that_cannot_be_meant_are_refused(options: SegmentsOptions, name: str) -> None:
    with pytest.raises(InputError, match=name):
        options.require_sensible()
