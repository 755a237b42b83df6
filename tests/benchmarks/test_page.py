"""The page of results: whole, self-contained, and true to the tables."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import page

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
