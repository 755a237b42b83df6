"""Processes measured from outside, and rates and exponents from what they used."""

import math
import sys
from pathlib import Path

import pytest
from process import ProcessError, Used, exponent, measure, rate


def test_start_up_cancels_out_of_a_rate() -> None:
    start_up, seconds_an_image = 7.5, 0.02
    short, long = (Used(start_up + n * seconds_an_image, 1.0) for n in (100, 400))
    assert rate(short, long, 300) == pytest.approx(50.0)


def test_no_rate_where_noise_hides_the_work() -> None:
    assert math.isnan(rate(Used(3.0, 1.0), Used(2.9, 1.0), 100))


def test_exponents_of_power_laws() -> None:
    sizes = [200, 1000, 3000, 8000]
    assert exponent(sizes, [0.3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [2.0] * 4) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(exponent([64], [1.0]))


def test_a_process_is_charged_with_its_time_and_memory(tmp_path: Path) -> None:
    burn = "import time\nheld = bytearray(150_000_000)\nwhile time.process_time() < 0.3: pass"
    idle = measure([sys.executable, "-c", "pass"], tmp_path / "idle.log")
    busy = measure([sys.executable, "-c", burn], tmp_path / "busy.log")
    assert 0.3 <= busy.cpu_seconds < 1.5
    assert busy.peak_gb - idle.peak_gb == pytest.approx(0.15, abs=0.02)


def test_libraries_get_one_thread(tmp_path: Path) -> None:
    measure(
        [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"], tmp_path / "log"
    )
    assert (tmp_path / "log").read_text().strip() == "1"


def test_a_failure_says_what_the_program_said(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="ended with 3: no such thing"):
        measure(
            [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"], tmp_path / "log"
        )
