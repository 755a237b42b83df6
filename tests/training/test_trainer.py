"""Training: finds the motion it was shown, survives what is not finite, and goes on exactly where
it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kinesphere.errors import NumericalError
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.inference.draws import Draws
from kinesphere.inference.likelihood import Likelihood
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.runtime import InterruptedRunError, Interrupts
from kinesphere.training.trainer import Trainer

MakeToy = Callable[..., Any]


def correlation(found: torch.Tensor, truth: torch.Tensor) -> float:
    """|Pearson r|: the sign of a latent axis means nothing."""
    return abs(float(torch.corrcoef(torch.stack([found, truth]))[0, 1]))


@pytest.mark.parametrize("objective", ["gaussian", "profiled"])
def test_latents_follow_the_hinge_angle(make_toy: MakeToy, objective: str) -> None:
    """256 images at a signal-to-noise ratio of 1 per coefficient, random poses; nothing is told but
    the structure."""
    toy = make_toy(n_images=256, noise=1.0)
    trainer = toy.trainer(
        objective=objective,
        n_nodes=10,
        schedule=SegmentsScheduleConfig(epochs=8, learning_rate=3e-3),
    )
    trainer.fit()
    posterior = trainer.infer()
    assert correlation(posterior.mean[:, 0], toy.angle_radians) > 0.9
    assert float(posterior.std.mean()) < 0.5
    # the hinge is found too: the halves of the chain move apart, and each as one
    moved = trainer.motion.eval()(torch.tensor([[-1.0], [1.0]])).detach()
    half = len(toy.reference.points) // 2
    for part in (slice(0, half), slice(half, None)):
        inside = (
            torch.cdist(moved[0, part], moved[0, part])
            - torch.cdist(moved[1, part], moved[1, part])
        ).abs()
        across = (
            torch.cdist(moved[0, :half], moved[0, half:])
            - torch.cdist(moved[1, :half], moved[1, half:])
        ).abs()
        assert float(inside.mean()) < 0.35 * float(across.mean())


def test_encoder_reads_the_angle_off_one_view(make_toy: MakeToy) -> None:
    toy = make_toy(n_images=512, noise=1.0, one_view=True)
    schedule = SegmentsScheduleConfig(epochs=8, learning_rate=2e-3, patience=100)
    trainer = toy.trainer(inference="vae", seed=2, schedule=schedule)
    trainer.fit()
    assert correlation(trainer.infer().mean[:, 0], toy.angle_radians) > 0.9


def test_encoder_may_see_more_shells_than_a_coarse_stage_has(toy: Any) -> None:
    schedule = SegmentsScheduleConfig(epochs=6, coarse_epochs=2, patience=100)
    trainer = toy.trainer(inference="vae", encoder_shells=10, schedule=schedule)
    trainer.fit()
    assert [row["shells"] for row in trainer.progress.history] == [6, 6, 13, 13, 13, 13]


def test_priors_are_weighted_as_the_evidence_bound_has_them(toy: Any) -> None:
    """Per image: its own KL term whole, and its share of the segmentation's, which all images have
    in common."""
    trainer = toy.trainer(inference="vae")
    batch, draws = trainer.observations.batch(torch.arange(7)), Draws(trainer.generator, 7)
    likelihood = Likelihood(trainer.forward, trainer.model.objective, trainer.signal)
    prepared = likelihood.prepare(batch)
    proposal = trainer.compare(prepared, likelihood, draws).proposal
    mean, log_std = trainer.latents._infer(prepared)
    latent = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(proposal.divergence, latent)
    expected = latent.mean() + trainer.motion.divergence() / len(trainer.observations)
    torch.testing.assert_close(trainer._prior(proposal, draws), expected)


def test_log_likelihood_rises_and_noise_is_found(make_toy: MakeToy) -> None:
    toy = make_toy(n_images=192, noise=1.5)
    trainer = toy.trainer(
        schedule=SegmentsScheduleConfig(epochs=8, coarse_epochs=0, learning_rate=3e-3)
    )
    trainer.fit()
    rise = [row["log_likelihood"] for row in trainer.progress.history]
    assert rise[-1] > rise[0] + 1.0
    counts = toy.observations.band.sum_by_shell(torch.ones(len(toy.observations.band)))

    def mean_noise(signal: SignalAndNoise) -> float:
        return float((signal.variance[0] * counts)[1:].sum() / counts[1:].sum())

    at_rest, found = (
        mean_noise(SignalAndNoise.estimate(trainer.statistics_at_rest)),
        mean_noise(trainer.signal),
    )
    assert (
        0.98 * toy.noise_power < found < 1.12 * toy.noise_power
    )  # what is not yet explained counts as noise
    assert found < at_rest


def test_history_is_complete(toy: Any) -> None:
    trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=6, coarse_epochs=2, patience=100))
    reported: list[dict[str, float]] = []
    steps: list[int] = []
    trainer.fit(report=reported.append, advance=steps.append)
    assert reported == trainer.progress.history
    assert [row["epoch"] for row in reported] == [1, 2, 3, 4, 5, 6]
    assert [row["shells"] for row in reported] == [6, 6, 13, 13, 13, 13]
    assert sum(steps) == 6 * len(toy.observations)
    assert trainer.progress.step == 18
    assert all(1.0 <= row["pairs_per_image"] <= 4.0 for row in reported)
    assert all(math.isfinite(value) for row in reported for value in row.values())


def test_stops_early_when_nothing_improves(toy: Any) -> None:
    trainer = toy.trainer(
        schedule=SegmentsScheduleConfig(epochs=30, coarse_epochs=0, patience=2, tolerance=1e6)
    )
    trainer.fit()
    assert len(trainer.progress.history) == 3


def test_a_last_batch_of_one_image_is_an_ordinary_batch(make_toy: MakeToy) -> None:
    toy = make_toy(n_images=33)
    for inference in ("marginal", "vae"):
        trainer = toy.trainer(inference=inference, schedule=SegmentsScheduleConfig(epochs=1))
        trainer.fit()
        assert trainer.infer().mean.shape == (33, 1)


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything learnt, the optimiser's memory and the noise model."""
    tensors = {f"motion.{k}": v for k, v in trainer.motion.state_dict().items()}
    tensors |= {f"latents.{k}": v for k, v in trainer.latents.state_dict().items()}
    for number, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
    return tensors | {"scale": trainer.signal.scale, "variance": trainer.signal.variance}


def interrupt_after(trainer: Trainer, n_steps: int) -> None:
    """Train, with a SIGTERM during step `n_steps`."""
    flag, done = Interrupts(), [0]

    def count(_images: int) -> None:
        done[0] += 1
        if done[0] == n_steps:
            flag.signal_number = 15

    with pytest.raises(InterruptedRunError) as stopped:
        trainer.fit(flag, advance=count)
    assert stopped.value.exit_code == 143
    assert trainer.progress.step == n_steps


@pytest.mark.parametrize(
    "n_steps", [1, 3, 5, 9], ids=["first", "end-of-epoch", "mid-coarse", "end-of-coarse"]
)
@pytest.mark.parametrize("inference", ["marginal", "vae"])
def test_killed_and_resumed_equals_uninterrupted(
    make_toy: MakeToy, inference: str, n_steps: int, checkpoints: Path
) -> None:
    """Bit for bit on the CPU: parameters, optimiser, noise, history; three steps an epoch, three
    epochs coarse."""
    toy = make_toy(n_images=80)
    schedule = SegmentsScheduleConfig(epochs=9, coarse_epochs=3, patience=100)
    options = {"inference": inference, "schedule": schedule, "n_nodes": 6}
    whole = toy.trainer(**options)
    whole.fit()
    interrupt_after(toy.trainer(**options, checkpoints=checkpoints), n_steps)
    resumed = toy.trainer(**options, seed=0, checkpoints=checkpoints)
    resumed.resume()
    assert resumed.progress.step == n_steps
    resumed.fit()
    expected, found = snapshot(whole), snapshot(resumed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=0, rtol=0, msg=key)
    timing = {"seconds", "images_per_second", "learning_rate"}
    for before, after in zip(whole.progress.history, resumed.progress.history, strict=True):
        assert all(before[name] == after[name] for name in before.keys() - timing)
    first, second = whole.infer(), resumed.infer()
    torch.testing.assert_close(first.mean, second.mean, atol=0, rtol=0)


def test_killed_between_epochs_equals_uninterrupted(make_toy: MakeToy, checkpoints: Path) -> None:
    """As after a power cut: the last checkpoint is the end of an epoch, and nobody was asked."""
    toy = make_toy(n_images=80)
    options = {"schedule": SegmentsScheduleConfig(epochs=6, patience=100), "n_nodes": 6}
    whole = toy.trainer(**options)
    whole.fit()

    class PowerCutError(Exception):
        pass

    def cut(metrics: dict[str, float]) -> None:
        if metrics["epoch"] == 3:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        toy.trainer(**options, checkpoints=checkpoints).fit(report=cut)
    resumed = toy.trainer(**options, checkpoints=checkpoints)
    resumed.resume()
    resumed.fit()
    for key, value in snapshot(whole).items():
        torch.testing.assert_close(snapshot(resumed)[key], value, atol=0, rtol=0, msg=key)


def test_a_finished_run_has_nothing_to_resume(toy: Any, checkpoints: Path) -> None:
    trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=1), checkpoints=checkpoints)
    trainer.fit()
    again = toy.trainer(schedule=SegmentsScheduleConfig(epochs=1), checkpoints=checkpoints)
    again.resume()
    before = snapshot(again)
    again.fit()
    for key, value in before.items():
        torch.testing.assert_close(snapshot(again)[key], value, atol=0, rtol=0)


def test_same_seed_same_result_and_another_seed_another(toy: Any) -> None:
    results = []
    for seed in (3, 3, 4):
        trainer = toy.trainer(seed=seed, schedule=SegmentsScheduleConfig(epochs=2))
        trainer.fit()
        results.append(trainer.infer().mean)
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)
    assert not torch.allclose(results[0], results[2])


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: Callable[[int], bool]) -> None:
    """Make the likelihood of chosen steps not a number."""
    healthy, step = Likelihood.pairs, [0]

    def pairs(self: Likelihood, *arguments: Any) -> Any:
        value, factor = healthy(self, *arguments)
        step[0] += 1
        return (value * math.nan, factor * math.nan) if bad_steps(step[0]) else (value, factor)

    monkeypatch.setattr(Likelihood, "pairs", pairs)


@pytest.mark.parametrize("bad", [1, 2, 7], ids=["first", "second", "later"])
def test_a_batch_that_is_not_finite_is_survived(
    toy: Any, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """Neither parameters nor noise estimate nor metrics remember it."""
    poison(monkeypatch, lambda step: step == bad)
    trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=6))
    trainer.fit()
    assert trainer.progress.bad_steps == 0
    assert all(bool(torch.isfinite(value).all()) for value in snapshot(trainer).values())
    assert all(math.isfinite(value) for row in trainer.progress.history for value in row.values())


def test_eleven_bad_batches_in_a_row_are_an_error(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, lambda step: 4 <= step <= 14)
    trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=30, patience=100))
    with pytest.raises(NumericalError, match="11 steps in a row"):
        trainer.fit()
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainer.motion.parameters())


def test_ten_bad_batches_in_a_row_are_not(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, lambda step: 4 <= step <= 13)
    trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=8, patience=100))
    trainer.fit()
    assert trainer.progress.finished
    assert all(math.isfinite(value) for row in trainer.progress.history for value in row.values())


@pytest.mark.slow
def test_a_hundred_initialisations_stay_finite(make_toy: MakeToy) -> None:
    """Fifty steps each, in one to three dimensions, at ten times the default learning rates, from
    scattered starts."""
    toy = make_toy(n_images=40, noise=3.0)
    schedule = SegmentsScheduleConfig(
        epochs=5,
        coarse_epochs=1,
        learning_rate=1e-2,
        segmentation_learning_rate=1e-1,
        warm_up_steps=1,
        patience=100,
    )
    for seed in range(100):
        trainer = toy.trainer(
            inference=("marginal", "vae")[seed % 2],
            latent_dim=1 + seed % 3,
            n_segments=2 + seed % 9,
            seed=seed,
            n_nodes=4,
            n_draws=2,
            batch_size=4,
            schedule=schedule,
        )
        with torch.no_grad():
            for parameter in trainer.motion.structural_parameters():
                parameter.add_(2 * torch.randn_like(parameter))
        trainer.fit()
        assert trainer.progress.step == 50
        assert all(bool(torch.isfinite(value).all()) for value in snapshot(trainer).values()), seed
        assert all(math.isfinite(row["log_likelihood"]) for row in trainer.progress.history), seed
