"""`kinesphere report` writes the page, and the tables that it shows."""

from __future__ import annotations

from pathlib import Path

from kinesphere.cli import main as cli


def test_report_writes_the_page_and_the_tables(run_folder: Path) -> None:
    assert cli.main(["report", str(run_folder), "--frames", "3"]) == 0
    assert (run_folder / "report.html").stat().st_size > 600_000
    assert (run_folder / "analysis" / "bodies.csv").is_file()
