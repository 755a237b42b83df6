"""Show what a particle file holds: optics, poses, CTF, half sets, contrast, what looks odd."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from kinesphere.particles import Inspection

LARGEST_NUMBER_OF_GROUPS = 12
WIDEST_CHARACTERS = 110


@dataclass(frozen=True)
class InspectOptions:
    """Options of `kinesphere inspect`."""

    particles: tyro.conf.Positional[Path]
    """RELION STAR file (3.0 to 5) or cryoSPARC .cs file."""
    passthrough: Path | None = None
    """cryoSPARC passthrough file with the columns that the .cs file lacks."""
    pixel_size: float | None = None
    """Pixel size of the images in Å, where the file's is missing or wrong."""
    contrast_images: int = 1000
    """Images to estimate the contrast sign from; 0 leaves the images unread."""
    json: bool = False
    """Print one JSON object instead of the tables."""


def run(options: InspectOptions) -> None:
    """Read the file and print what was found to standard output."""
    from kinesphere.particles import ParticleSet, inspect_particles

    particles = ParticleSet.read(
        options.particles, passthrough=options.passthrough, pixel_size_angstrom=options.pixel_size
    )
    inspection = inspect_particles(particles, options.contrast_images)
    # The findings are the command's result, so they go to standard output and not to the console of
    # messages.
    output = Console()
    if options.json:
        output.out(
            json.dumps(asdict(inspection), indent=2, allow_nan=False, ensure_ascii=False),
            highlight=False,
        )
        return
    output.width = min(output.width, WIDEST_CHARACTERS)
    output.print(_page(inspection))


def _page(inspection: Inspection) -> Panel:
    parts: list[Table | Text] = [
        _overview(inspection),
        Text(),
        _optics_table(inspection.optics_groups),
    ]
    if inspection.warnings:
        parts += [Text(), _warning_list(inspection.warnings)]
    return Panel(
        Group(*parts),
        title=f"[bold]{escape(Path(inspection.file['path']).name)}[/bold]",
        subtitle=escape(inspection.file["format"]),
        title_align="left",
        subtitle_align="right",
        padding=(1, 2),
        box=box.ROUNDED,
    )


def _overview(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("Particles", f"{inspection.file['n_particles']:,}")
    table.add_row("Images", _images_line(inspection))
    table.add_row("Poses", _poses_line(inspection.poses))
    table.add_row("CTF", _ctf_line(inspection.ctf))
    table.add_row("Half sets", _halves_line(inspection.halves))
    table.add_row("Contrast", _contrast_line(inspection))
    return table


def _mark(*, good: bool) -> str:
    return "[green]✓[/green]" if good else "[yellow]✗[/yellow]"


def _images_line(inspection: Inspection) -> str:
    images = inspection.images
    n_missing, n_stacks = images["n_missing_stacks"], images["n_stacks"]
    stacks = f"{n_stacks:,} stack" + ("s" if n_stacks > 1 else "")
    found = f"all {stacks} found" if n_stacks > 1 else "stack found"
    missing = f"{n_missing:,} of {stacks} missing" if n_stacks > 1 else "stack missing"
    state = missing if n_missing else found
    return f"{_mark(good=not n_missing)} {images['n_distinct']:,} distinct, {state}"


def _poses_line(poses: dict[str, Any]) -> str:
    if not poses["present"]:
        return f"{_mark(good=False)} none"
    rms, largest = poses["shift_rms_angstrom"], poses["shift_max_angstrom"]
    if not largest:
        return f"{_mark(good=True)} orientations; all shifts are zero"
    return f"{_mark(good=True)} orientations and shifts (rms {rms:.1f} Å, largest {largest:.1f} Å)"


def _ctf_line(ctf: dict[str, Any]) -> str:
    if not ctf["present"]:
        return f"{_mark(good=False)} none"
    low, middle, high = (ctf[f"defocus_{name}_angstrom"] / 1e4 for name in ("min", "median", "max"))
    line = f"{_mark(good=True)} defocus {low:.2f} to {high:.2f} µm (median {middle:.2f}), "
    line += f"astigmatism {ctf['astigmatism_median_angstrom']:.0f} Å"
    first, last = ctf["phase_shift_min_degrees"], ctf["phase_shift_max_degrees"]
    if first == last == 0:
        return line
    return line + (
        f", phase shift {first:.0f}°"
        if first == last
        else f", phase shift {first:.0f} to {last:.0f}°"
    )


def _halves_line(halves: dict[str, int]) -> str:
    if not halves["1"] and not halves["2"]:
        return "none in the file; a seeded split will be drawn and recorded where one is needed"
    rest = f", {halves['none']:,} in neither" if halves["none"] else ""
    return f"{_mark(good=not halves['none'])} {halves['1']:,} and {halves['2']:,}{rest}"


def _contrast_line(inspection: Inspection) -> str:
    if inspection.contrast is None:
        missing = inspection.images["n_missing_stacks"] == inspection.images["n_stacks"]
        return "not estimated: the images are missing" if missing else "not estimated"
    return f"{_mark(good=inspection.contrast['sign'] > 0)} {inspection.contrast['statement']}"


def _optics_table(groups: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("optics group", no_wrap=True, max_width=24)
    for title in (
        "particles",
        "box\npx",
        "pixel\nÅ",
        "Nyquist\nÅ",
        "voltage\nkV",
        "Cs\nmm",
        "amplitude\ncontrast",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for group in groups[:LARGEST_NUMBER_OF_GROUPS]:
        table.add_row(
            escape(group["name"]),
            f"{group['n_particles']:,}",
            str(group["box_px"] or "?"),
            *(
                _number(group[name])
                for name in ("pixel_size_angstrom", "nyquist_angstrom", "voltage_kv")
            ),
            *(_number(group[name]) for name in ("spherical_aberration_mm", "amplitude_contrast")),
        )
    if len(groups) > LARGEST_NUMBER_OF_GROUPS:
        table.add_row(
            f"… and {len(groups) - LARGEST_NUMBER_OF_GROUPS} more groups (--json lists all)"
        )
    return table


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _warning_list(warnings: list[str]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="yellow")
    table.add_column(overflow="fold")
    for warning in warnings:
        table.add_row("!", escape(warning))
    return table
