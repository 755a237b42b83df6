"""What a method inherits: its files, its latents, its forward model, and how it is asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.toy import Toy
from kinesphere.config import save_yaml
from kinesphere.errors import InputError
from kinesphere.inference.encoder import VariationalLatents
from kinesphere.inference.latents import MarginalLatents
from kinesphere.inference.options import LatentsConfig
from kinesphere.methods.field import Field
from kinesphere.methods.segments import Segments, SegmentsOptions

PARTICLES, MAP, MODEL = Path("particles.star"), Path("map.mrc"), Path("model.pdb")


@pytest.fixture
def method() -> Segments:
    return Segments(SegmentsOptions(particles=PARTICLES, model=MODEL))


def with_latents(method: Segments, **latents: object) -> Segments:
    chosen = LatentsConfig(**latents)  # type: ignore[arg-type]
    return method.with_options(training=replace(method.options.training, latents=chosen))


def test_files_are_recorded_in_one_order_and_those_not_given_are_left_out() -> None:
    options = SegmentsOptions(particles=PARTICLES, model=MODEL, map=MAP)
    assert options.input_files == (PARTICLES, MODEL, MAP)
    assert replace(options, map=None).input_files == (PARTICLES, MODEL)
    assert options.atomic_model == MODEL


def test_a_method_takes_the_model_only_where_it_cannot_do_without() -> None:
    assert Segments.from_files(PARTICLES, MAP, MODEL).options.atomic_model == MODEL
    assert Field.from_files(PARTICLES, MAP, MODEL).options.atomic_model is None


def test_options_are_changed_in_a_copy(method: Segments) -> None:
    other = method.with_options(map=MAP)
    assert (other.options.map, method.options.map) == (MAP, None)
    assert type(other) is Segments


def test_what_run_yaml_records_makes_the_method_again(method: Segments, tmp_path: Path) -> None:
    resolved = method.resolved(200, 5000)
    save_yaml(resolved.options, tmp_path / "run.yaml", method="segments")
    assert Segments.from_yaml(tmp_path / "run.yaml").options == resolved.options


def test_latents_are_inferred_as_was_asked(method: Segments, toy: Toy) -> None:
    band = toy.observations.band
    marginal = with_latents(method, latent_dim=3, n_nodes=20, n_draws=2).make_latents(band)
    assert isinstance(marginal, MarginalLatents)
    assert (marginal.nodes.shape, marginal.n_draws) == ((20, 3), 2)
    assert with_latents(method, latent_dim=1).make_latents(band).nodes.shape == (16, 1)
    encoder = with_latents(method, inference="vae", encoder_shells=4).make_latents(band)
    assert isinstance(encoder, VariationalLatents)
    assert encoder.n_coefficients == len(band.coarser(4))


def test_the_total_intensity_does_not_depend_on_the_molecule(method: Segments, toy: Toy) -> None:
    cpu = torch.device("cpu")
    heavy = replace(toy.reference, amplitude=7.0 * toy.reference.amplitude)
    one, two = (
        method.make_forward(reference, toy.observations.band, cpu)
        for reference in (toy.reference, heavy)
    )
    points = toy.reference.beads[None, :, :2]
    torch.testing.assert_close(one.structure_factor(points), two.structure_factor(points))


def test_a_motion_of_residues_has_nothing_to_say_of_the_space_between(method: Segments) -> None:
    with pytest.raises(InputError, match="moves residues, not the space around them"):
        method.consensus(Path("run"))


def test_by_default_there_is_nothing_to_warn_of_or_to_record(method: Segments) -> None:
    assert method.warning() is None
    assert method.provenance() == {}
