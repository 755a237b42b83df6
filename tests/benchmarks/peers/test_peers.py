"""Comparison with other programs: what is paired with what, and what the tables say."""

import sys
from pathlib import Path

import cases
import peers
import pytest
from cases import CASES, Runner

BURN = "import sys, time\nwhile time.process_time() < float(sys.argv[1]) * float(sys.argv[2]): pass"


def burner(name: str, seconds_a_pass: float, images: float) -> Runner:
    """A program that takes a given time for each pass."""
    return Runner(
        name, lambda n, _: [sys.executable, "-c", BURN, str(n), str(seconds_a_pass)], 2, 12, images
    )


def row(**changes: object) -> dict:
    """One pair."""
    usual = {
        "case": CASES[0].name,
        "task": "segments",
        "box": 64,
        "points": 214,
        "peer": "cryosphere",
    }
    usual |= {"peer_version": "0.6.1", "kinesphere": "default", "peer_images_per_second": 200.0}
    return (
        usual
        | {"images_per_second": 1000.0, "ratio": 5.0, "peer_peak_gb": 0.9, "peak_gb": 0.5}
        | changes
    )


def test_a_program_five_times_as_fast_has_a_ratio_of_five(tmp_path: Path) -> None:
    (found,) = peers.pair(burner("other", 0.1, 100), [burner("default", 0.02, 100)], tmp_path)
    assert found["ratio"] == pytest.approx(5.0, rel=0.25)
    assert found["peer_images_per_second"] == pytest.approx(1000.0, rel=0.25)


def test_a_missing_program_is_told_not_raised(tmp_path: Path) -> None:
    (found,) = peers.measure_case(CASES[0], None, tmp_path, tmp_path)
    assert found["not_run"] == "no environment given"
    (found,) = peers.measure_case(CASES[0], tmp_path / "bin" / "python", tmp_path, tmp_path)
    assert "cryosphere is not installed" in found["not_run"]
    assert f"- {CASES[0].name}: cryosphere is not installed" in peers.describe([found])


def test_tables_take_medians_over_pairs() -> None:
    rows = [row(ratio=ratio) for ratio in (4.0, 9.0, 5.0)]
    (middle,) = peers.summary(rows)
    assert (middle["ratio"], middle["range"], middle["rounds"]) == (5.0, "4 to 9", 3)
    assert (
        "| segments | 64 | 214 | cryosphere | 200 | default | 1000 | 5 | 4 to 9 | 3 |"
        in peers.describe(rows)
    )


def test_what_is_measured_again_replaces_what_was_there_unless_kept() -> None:
    rows = [row(), row(case=CASES[2].name), row(case=CASES[0].name, not_run="no environment given")]
    assert peers.remaining(rows, {CASES[0].name}, keep=False) == [rows[1]]
    assert peers.remaining(rows, {CASES[0].name}, keep=True) == rows[:2]


def test_environments_are_named() -> None:
    assert peers.environments(["dynamight=/env/bin/python"]) == {
        "dynamight": Path("/env/bin/python")
    }
    with pytest.raises(SystemExit, match="relion"):
        peers.environments(["relion=/env/bin/python"])


def test_every_case_has_commands_and_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text('{"n_images": 500, "box": 64, "pixel_size": 1.5}')
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        peer = case.runner(tmp_path / "bin" / "python", tmp_path, tmp_path)
        assert peer.long > peer.short
        assert peer.images <= 500
        assert peer.command(peer.short, tmp_path) != peer.command(peer.long, tmp_path)
        if case.task != "backprojection":
            ours = cases.runners_of_kinesphere(case, tmp_path, tmp_path)
            assert [runner.name for runner in ours] == ["default", "vae, whole image"]
