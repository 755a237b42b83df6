"""The page is whole, small, safe, and in a browser the molecule moves and nothing complains."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kinesphere.analysis.summary import Analysis, AnalysisSettings, analyse
from kinesphere.report.page import script_safe, write_report


def slide(browser: Any, position: int) -> tuple[str, str]:
    """Move the slider; give the checksum of the coordinates and the picture."""
    browser.evaluate(
        f"(() => {{ const s = document.getElementById('position'); s.value = {position};"
        " s.dispatchEvent(new Event('input')); })()"
    )
    checksum = browser.evaluate("document.getElementById('molecule').dataset.structure")
    return checksum, browser.evaluate("document.querySelector('#molecule canvas').toDataURL()")


def test_the_page_says_what_moves_without_scripts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert '<h1 id="headline">Residues A:73-108 turn by 41° and travel' in text
    assert "2,000" in text
    assert "kinesphere segments particles.star --model model.pdb --out run" in text
    assert "One model was trained on all images." in text


def test_the_page_is_one_small_file_that_asks_for_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "@import" not in own
    assert "url(" not in own


def test_names_cannot_break_out_of_the_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "first <script>" not in text
    assert "first &lt;script&gt; &amp; run" in text
    assert script_safe('{"a":"</script>"}') == '{"a":"\\u003c/script>"}'


@pytest.mark.oracle
def test_the_molecule_moves_with_the_slider_and_by_itself(browser: Any) -> None:
    browser.wait_for("document.getElementById('play').getAttribute('aria-pressed') === 'true'")
    first = browser.evaluate("document.getElementById('molecule').dataset.structure")
    browser.wait_for(f"document.getElementById('molecule').dataset.structure !== '{first}'")
    (start, picture_of_start), (end, picture_of_end) = slide(browser, 0), slide(browser, 1000)
    assert start != end
    assert picture_of_start != picture_of_end
    assert slide(browser, 0) == (start, picture_of_start)


@pytest.mark.oracle
def test_the_viewer_draws_the_decoded_structures(
    browser: Any, run: Any, analysis: Analysis
) -> None:
    basis = np.array(browser.evaluate("K.model.basis.map((v) => Array.from(v))"))
    mean = np.array(browser.evaluate("Array.from(K.model.mean)"))

    def drawn(state: str) -> np.ndarray:
        coefficients = browser.evaluate(f"Array.from({state}.coefficients)")
        return (mean + np.array(coefficients) @ basis).reshape(-1, 3)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.sum((first - second) ** 2, axis=1))))

    rows = np.isin(run.model.atom_name, ("CA", "O"))
    end = run.decode_atoms(analysis.components.traversals[0].latents[-1:])[0][rows]
    assert difference(drawn("K.stateOnPath(0, 1)"), end) < 0.1
    image = browser.evaluate("K.particles.index[7]")
    assert (
        difference(drawn("K.stateOfParticle(7)"), run.structures(np.array([image]))[0][rows]) < 0.15
    )
    assert difference(drawn("K.stateOfParticle(7)"), end) > 0.3


@pytest.mark.oracle
def test_a_click_on_a_particle_shows_its_structure(browser: Any) -> None:
    click = (
        "(() => { const c = document.getElementById('scatter'); const r = "
        "c.getBoundingClientRect();"
        " for (let x = 0.3; x < 0.9; x += 0.02) c.dispatchEvent(new MouseEvent('click',"
        " { clientX: r.left + x * r.width, clientY: r.top + 0.55 * r.height, bubbles: true "
        "})); })()"
    )
    before, _ = slide(browser, 500)
    browser.evaluate(click)
    assert re.match(
        r"Particle image|Cluster", browser.evaluate("document.getElementById('shown').textContent")
    )
    assert browser.evaluate("document.getElementById('molecule').dataset.structure") != before
    browser.evaluate(
        "document.getElementById('scatter').dispatchEvent(new KeyboardEvent('keydown', { key: "
        "'ArrowRight' }))"
    )
    assert browser.evaluate("document.getElementById('molecule').dataset.position") == "particle"


@pytest.mark.oracle
def test_no_error_is_logged_and_nothing_is_fetched(browser: Any) -> None:
    for colour in ("amplitude", "segment", "chain", "body"):
        browser.evaluate(
            f"(() => {{ const c = document.getElementById('colour'); c.value = '{colour}';"
            " c.dispatchEvent(new Event('change')); })()"
        )
    assert browser.problems == []
    assert [
        url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))
    ] == []


@pytest.mark.oracle
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(
    page: Path, browse: Callable[..., Any], width: int
) -> None:
    with browse(page, width=width, dark=width == 390) as browser:
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.problems == []


@pytest.mark.oracle
def test_a_model_of_central_atoms_only_is_drawn(
    run: Any, browse: Callable[..., Any], tmp_path: Path
) -> None:
    model = run.model.select(np.isin(np.arange(run.model.n_atoms), run.model.centre_atom))
    latents = replace(
        run.latents, mean=run.latents.mean[:, :1], covariance=run.latents.covariance[:, :1, :1]
    )
    bare = replace(
        run, model=model, latents=latents, hinges=run.hinges[:1], metrics={}, path=tmp_path
    )
    page = write_report(bare, analyse(bare, AnalysisSettings(frames=3)), tmp_path / "report.html")
    blank = (
        "(() => { const c = document.createElement('canvas'); const m = "
        "document.querySelector('#molecule canvas');"
    )
    blank += " c.width = m.width; c.height = m.height; return c.toDataURL(); })()"
    with browse(page) as browser:
        _, picture = slide(browser, 300)
        assert picture != browser.evaluate(blank)
        assert browser.problems == []


def test_a_still_molecule_and_one_body_make_a_page(run: Any, tmp_path: Path) -> None:
    still = replace(run, hinges=())
    path = write_report(still, analyse(still, AnalysisSettings(frames=2)), tmp_path / "report.html")
    assert "Nothing moves noticeably" in path.read_text(encoding="utf-8")


def test_two_half_sets_show_the_first(run: Any, fake: ModuleType, tmp_path: Path) -> None:
    from kinesphere.runs.first_half import one_latent_space

    latents = replace(run.latents, half=1 + np.arange(len(run.latents.half)) % 2)
    shown = one_latent_space(replace(run, latents=latents))
    analysis = analyse(shown, AnalysisSettings(frames=2))
    assert analysis.n_particles == 1000
    assert np.array_equal(shown.structures(np.array([3])), run.structures(np.array([6])))
    text = write_report(shown, analysis, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "shows half set 1" in text
