"""The page of results: whole, self-contained, and true to the tables."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import page
import pytest
from charts import DotRow, Scale, Series, dot_rows, lines
from scaling import findings, fitted

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
VOID = {"meta"}


class Balanced(HTMLParser):
    """Collects anchors, and fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.links = [], set(), set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids.add(named.get("id"))
        self.links.add(named.get("href"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids.add(dict(attrs).get("id"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_page_of_the_committed_tables_is_whole_and_needs_nothing_else() -> None:
    text = page.page(RESULTS)
    found = Balanced()
    found.feed(text)
    assert found.open == []
    assert {link.removeprefix("#") for link in found.links - {None}} <= found.ids
    assert "http" not in text
    assert "<script" not in text
    for section in page.SECTIONS:
        assert (section.key in found.ids) == (RESULTS / f"{section.tables[0]}.csv").exists()


def test_ratios_and_what_was_not_run_are_on_the_page(tmp_path: Path) -> None:
    usual = {
        "case": "a",
        "task": "segments",
        "box": 64,
        "points": 214,
        "peer": "cryosphere",
        "kinesphere": "default",
    }
    usual |= {
        "peer_images_per_second": 200.0,
        "images_per_second": 1000.0,
        "peer_peak_gb": 0.9,
        "peak_gb": 0.5,
    }
    pairs = [{**usual, "ratio": ratio, "not_run": ""} for ratio in (4.0, 5.5, 7.0)]
    write(
        tmp_path / "peers.csv",
        [*pairs, {**usual, "case": "cryostar-x", "ratio": "", "not_run": "<no> environment"}],
    )
    text = page.page(tmp_path)
    assert "<strong>×5.5</strong>" in text
    assert text.count('class="dot"') == 3
    assert "not run: cryostar-x: &lt;no&gt; environment" in text


def test_sections_without_tables_are_left_out_and_unknown_tables_listed(tmp_path: Path) -> None:
    write(tmp_path / "new_thing.csv", [{"size": 1, "speed": 2.0}])
    text = page.page(tmp_path)
    assert "Beside other programs" not in text
    assert "<summary>new thing</summary>" in text


def test_a_scale_places_values_and_ticks() -> None:
    scale = Scale(1.0, 1000.0, 0.0, 300.0)
    assert [scale(value) for value in (1, 10, 1000)] == pytest.approx([0, 100, 300])
    assert scale.ticks == [1, 10, 100, 1000]
    assert Scale(0.0, 1.0, 100.0, 0.0, is_log=False)(0.25) == 75.0


def test_lines_leave_out_what_is_undefined() -> None:
    gap = Series("a", 1, [1, 10, 100], [1.0, float("nan"), 100.0])
    assert lines([gap], "title", "x").count("<circle") == 2
    assert not lines([Series("a", 1, [], [])], "title", "x")


def test_dots_outside_the_axis_stay_on_its_ends() -> None:
    drawn = dot_rows([DotRow("a", "b", [0.5, 5000.0], 1)], (1, 1000), "×")
    assert drawn.count('class="dot" style="left:0.0%"') == 1
    assert drawn.count('class="dot" style="left:100.0%"') == 1


def test_a_cost_for_every_image_alike_has_exponent_one_along_images_and_none_along_the_box() -> (
    None
):
    images = [
        {"phase": "field", "axis": "images", "size": n, "images_per_second": 500.0, "peak_gb": 0.5}
        for n in (500, 2000, 8000)
    ]
    box = [
        {
            "phase": "field",
            "axis": "box",
            "size": n,
            "images_per_second": 500.0 * (64 / n) ** 2,
            "peak_gb": n / 64,
        }
        for n in (32, 64, 128)
    ]
    along_images, along_box = fitted(images + box)
    assert along_images["cpu_exponent"] == pytest.approx(1.0)
    assert along_images["memory_exponent"] == pytest.approx(0.0, abs=1e-9)
    assert along_box["cpu_exponent"] == pytest.approx(2.0)
    assert along_box["memory_exponent"] == pytest.approx(1.0)
    assert findings(images + box) == [
        "Cost grows no faster than the number of images: exponents 1.00 to 1.00.",
        "Peak memory changes by +0.00 GB from 500 to 8,000 images at most, of field.",
    ]


def test_a_cost_that_grows_with_the_square_of_the_molecule_is_called_so() -> None:
    points = [
        {
            "phase": "field",
            "axis": "points",
            "size": n,
            "images_per_second": 1e8 / n**2,
            "peak_gb": 0.5,
        }
        for n in (200, 1000, 8000)
    ]
    (said,) = findings(points)
    assert (
        said == "Cost grows faster than the residues or Gaussians: exponent 2.00 at most, of field."
    )
