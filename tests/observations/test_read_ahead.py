"""Training from a file: the same as from memory to the last bit, stopped or not, in memory that
stays flat."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.observations.coefficient_file import scratch_writer
from kinesphere.observations.coefficients import HalfCoefficients, to_half
from kinesphere.observations.observations import Observations
from kinesphere.observations.read_ahead import serve

MakeToy = Callable[..., Any]
N_IMAGES = 400


@pytest.fixture(scope="module")
def exact(make_toy: MakeToy) -> Any:
    """Images that four windows are needed for, in float32."""
    return make_toy(n_images=N_IMAGES)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 128 images."""
    monkeypatch.setattr("kinesphere.observations.order.WINDOW_BYTES", 1)


def _in_memory(toy: Any) -> Any:
    return replace(
        toy,
        observations=replace(
            toy.observations, data=HalfCoefficients(*to_half(toy.observations.data))
        ),
    )


def _on_disk(toy: Any, folder: Path) -> Any:
    with scratch_writer(folder, *toy.observations.data.shape) as writer:
        writer.write(toy.observations.data)
        return replace(toy, observations=replace(toy.observations, data=writer.finish()))


def _result(trainer: Any) -> dict[str, torch.Tensor]:
    posterior = trainer.infer()
    state = {f"motion.{key}": value.detach() for key, value in trainer.motion.state_dict().items()}
    return state | {
        "mean": posterior.mean,
        "covariance": posterior.covariance,
        "noise": trainer.signal.variance,
    }


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=0, rtol=0, msg=key)


@pytest.mark.parametrize("first", [0, 3, 9])
def test_serves_what_the_images_are(
    exact: Any, tmp_path: Path, small_windows: None, first: int
) -> None:
    observations, band = _on_disk(exact, tmp_path).observations, exact.observations.band.coarser(7)
    half = observations.subset(torch.arange(1, N_IMAGES, 2))
    for images in (observations, half):
        batches = torch.randperm(len(images)).split(21)
        served = list(serve(images, batches, band, first=first))
        assert len(served) == len(batches) - first
        for batch, rows in zip(served, batches[first:], strict=True):
            expected = images.batch(rows, band)
            assert torch.equal(batch.index, rows)
            assert torch.equal(batch.data, expected.data)
            assert torch.equal(batch.rotation, expected.rotation)


@pytest.mark.parametrize("inference", ["marginal", "vae"])
def test_training_from_disk_equals_training_from_memory(
    exact: Any, tmp_path: Path, small_windows: None, inference: str
) -> None:
    options = {
        "inference": inference,
        "schedule": SegmentsScheduleConfig(epochs=3, coarse_epochs=1, patience=100),
    }
    results = []
    for toy in (_in_memory(exact), _on_disk(exact, tmp_path)):
        trainer = toy.trainer(**options)
        trainer.fit()
        results.append(_result(trainer))
    _assert_same(results[1], results[0])


def test_training_in_float16_is_training_but_for_rounding(exact: Any) -> None:
    means = []
    for toy in (exact, _in_memory(exact)):
        trainer = toy.trainer(schedule=SegmentsScheduleConfig(epochs=3))
        trainer.fit()
        means.append(trainer.infer().mean)
    assert not torch.equal(*means)
    assert float((means[0] - means[1]).square().mean().sqrt()) < 0.02 * float(means[0].std())


def test_stopped_and_continued_equals_uninterrupted(
    exact: Any, tmp_path: Path, small_windows: None
) -> None:
    class StopError(Exception):
        pass

    toy, schedule = (
        _on_disk(exact, tmp_path),
        SegmentsScheduleConfig(epochs=3, coarse_epochs=1, patience=100),
    )
    whole = toy.trainer(schedule=schedule)
    whole.fit()
    stopped = toy.trainer(schedule=schedule, checkpoints=tmp_path / "checkpoints")

    def stop_within_an_epoch(_: int) -> None:
        if stopped.progress.step == 18:
            stopped.save()
            raise StopError

    with pytest.raises(StopError):
        stopped.fit(advance=stop_within_an_epoch)
    assert 0 < stopped.progress.batch < 13
    resumed = toy.trainer(schedule=schedule, checkpoints=tmp_path / "checkpoints")
    resumed.resume()
    resumed.fit()
    _assert_same(_result(resumed), _result(whole))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_a_gpu_are_those_in_memory(exact: Any) -> None:
    images, rows = (
        _in_memory(exact).observations.subset(torch.arange(0, N_IMAGES, 3)),
        torch.tensor([5, 0, 99]),
    )
    there, here = images.to("cuda").batch(rows, device="cuda"), images.batch(rows)
    assert there.data.device.type == "cuda"
    assert torch.equal(there.data.cpu(), here.data)
    assert torch.equal(there.rotation.cpu(), here.rotation)


def test_leaving_a_pass_early_ends_its_reader(exact: Any, tmp_path: Path) -> None:
    served = serve(_on_disk(exact, tmp_path).observations, torch.arange(N_IMAGES).split(10))
    next(served)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    served.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_a_fault_of_the_reader_is_raised_where_the_batch_is_asked_for(
    exact: Any, tmp_path: Path
) -> None:
    observations = _on_disk(exact, tmp_path).observations
    with pytest.raises((IndexError, RuntimeError)):
        list(serve(observations, [torch.tensor([0, 1]), torch.tensor([N_IMAGES])]))


def test_windows_are_read_before_they_are_used_and_let_go_after(
    exact: Any, small_windows: None
) -> None:
    class Recorder:
        """Stands for a file; remembers what is asked of it."""

        def __init__(self) -> None:
            self.asked: list[int] = []
            self.n_let_go = 0

        def read_ahead(self, rows: torch.Tensor) -> None:
            assert bool((rows.diff() > 0).all())
            self.asked += rows.tolist()

        def let_go(self) -> None:
            self.n_let_go += 1

    recorder, half = Recorder(), _in_memory(exact).observations.data
    observations: Observations = replace(exact.observations, data=replace(half, pages=recorder))
    rows = torch.randperm(N_IMAGES)
    for number, _ in enumerate(serve(observations, rows.split(32), window=128)):
        assert set(rows[: 32 * (number + 1)].tolist()) <= set(recorder.asked)
    assert sorted(recorder.asked) == list(range(N_IMAGES))  # each once
    assert recorder.n_let_go == 4 + 1


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc"
)
def test_memory_does_not_follow_the_number_of_images(tmp_path: Path) -> None:
    """Passes over 69 MB and 207 MB of images in windows of 9 MB; in a process of its own, away from
    other tests."""
    answer = subprocess.run(
        [sys.executable, "-c", _GROWTH, tmp_path], capture_output=True, check=True
    )
    assert int(answer.stdout) < 40e6


_GROWTH = """
import sys
from pathlib import Path
import torch
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.observations.coefficient_file import scratch_writer
from kinesphere.observations.observations import Observations
from kinesphere.observations.order import order_of_epoch
from kinesphere.observations.read_ahead import serve

torch.set_num_threads(1)
n, window = 12288, 512
band = FourierBand.of_grid(RenderGrid(104, 1.0))
with scratch_writer(Path(sys.argv[1]), n, len(band)) as writer:
    for _ in range(n // 128):
        writer.write(torch.randn(128, len(band), dtype=torch.complex64))
    data = writer.finish()
ctf = CtfParameters(*(torch.ones(n) for _ in range(9)))
group = torch.zeros(n, dtype=torch.int64)
observations = Observations(data, torch.eye(3).expand(n, 3, 3), ctf, group, band)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def peak(n):
    batches = order_of_epoch(n, window, 0, 0).split(64)
    return max(resident() for _ in serve(observations, batches, window=window))

few = peak(n // 3)
print(peak(n) - few)
"""
