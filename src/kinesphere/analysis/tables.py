"""The files of RUN/analysis: tables, models, trajectories and the script that shows them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kinesphere.analysis.bodies import GroupMotion
from kinesphere.analysis.latent import Traversal
from kinesphere.analysis.statement import state
from kinesphere.analysis.summary import Analysis
from kinesphere.io.structure import AtomicModel, write_model
from kinesphere.runs.finished_run import FinishedRun
from kinesphere.runtime import atomic_write

Row = dict[str, Any]
DISTANCE_FIELDS = (
    "first_body",
    "second_body",
    "mean_angstrom",
    "std_angstrom",
    "p5_angstrom",
    "p50_angstrom",
    "p95_angstrom",
)
PALETTE = "#4668a8:#8fb9c9:#ece4d0:#e39a4f:#b0402a"
PDB_MAXIMUM_ATOMS = 99_999
PDB_MAXIMUM_RESIDUE_NUMBER = 9_999


def write_analysis(run: FinishedRun, analysis: Analysis, folder: Path) -> Path:
    """Write everything the analysis found.

    Parameters
    ----------
    run
        The run it belongs to.
    analysis
        What was found.
    folder
        Made where missing; files of an earlier analysis are replaced.

    Returns
    -------
    Path
        The ChimeraX script, to be opened first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    components = analysis.components
    bodies = analysis.bodies
    write_csv(folder / "components.csv", component_rows(analysis))
    write_csv(folder / "segments.csv", [group_row(group, "segment") for group in bodies.segments])
    write_csv(folder / "bodies.csv", [group_row(group, "body") for group in bodies.bodies])
    write_csv(folder / "clusters.csv", cluster_rows(run, analysis))
    write_csv(folder / "population.csv", population_rows(analysis))
    write_csv(folder / "distances.csv", distance_rows(analysis), DISTANCE_FIELDS)
    write_csv(folder / "residues.csv", residue_rows(run, analysis))
    write_csv(folder / "particles.csv", particle_rows(run, analysis))
    paths = []
    for number, traversal in enumerate(components.traversals, start=1):
        paths.append(write_trajectory(folder, run, traversal, number))
        write_csv(
            folder / f"pc{number}_nearest_particles.csv", nearest_rows(run, analysis, number - 1)
        )
    coloured = folder / "motion_coloured.cif"
    median = np.median(np.asarray(run.latents.mean), axis=0, keepdims=True)
    amplitude = analysis.ensemble.fluctuation_angstrom
    write_motion_coloured(coloured, run.model, np.asarray(run.decode_atoms(median))[0], amplitude)
    _write_text(
        folder / "summary.json", json.dumps(summary(analysis), indent=2, ensure_ascii=False) + "\n"
    )
    script = folder / "open_in_chimerax.cxc"
    top = max(float(np.percentile(amplitude, 98)), 0.1)
    _write_text(script, chimerax_script(coloured, paths, top, analysis.settings.frames))
    return script


def component_rows(analysis: Analysis) -> list[Row]:
    """One row a latent component, then one a principal motion of the structures."""
    components = analysis.components
    ensemble = analysis.ensemble
    rows = []
    for k, walk in enumerate(components.traversals):
        rows.append(
            {
                "kind": "latent",
                "component": k + 1,
                "variance_fraction": _number(components.latent.variance_fraction[k]),
                "p5": _number(walk.scores[0]),
                "p95": _number(walk.scores[-1]),
                "rms_displacement_end_to_end_angstrom": _number(components.motion_angstrom[k]),
                "signal_to_error": _number(components.signal_to_error[k]),
            }
        )
    low, high = np.percentile(ensemble.motions.scores_angstrom, [5, 95], axis=0)
    for k, fraction in enumerate(ensemble.motions.variance_fraction):
        rows.append(
            {
                "kind": "structure",
                "component": k + 1,
                "variance_fraction": _number(fraction),
                "p5": _number(low[k]),
                "p95": _number(high[k]),
                "rms_displacement_end_to_end_angstrom": _number(high[k] - low[k]),
                "signal_to_error": _main_ratio(analysis) if k == 0 else "",
            }
        )
    return rows


def group_row(group: GroupMotion, kind: str) -> Row:
    """Flatten the motion of a segment or body; angles in degrees, lengths in Å, numbers from 1."""
    turn = group.rotation
    seen = group.relative_rotation
    shift = group.relative_shift
    previous = group.previous_rotation
    row: Row = {kind: group.number + 1}
    if kind == "segment":
        row["body"] = group.body + 1
    return row | {
        "residues": group.ranges,
        "size": group.size,
        "rms_displacement_angstrom": _number(group.amplitude_angstrom),
        "rms_displacement_to_core_angstrom": _number(group.relative_amplitude_angstrom),
        "rotation_mean_angle_degrees": _number(turn.mean_angle_degrees),
        "rotation_std_degrees": _number(turn.std_degrees),
        "rotation_p5_degrees": _number(turn.percentiles_degrees[0]),
        "rotation_p50_degrees": _number(turn.percentiles_degrees[1]),
        "rotation_p95_degrees": _number(turn.percentiles_degrees[2]),
        "rotation_axis": _vector(turn.axis),
        "rotation_range_to_core_degrees": _number(seen.range_degrees),
        "rotation_axis_to_core": _vector(seen.axis),
        "shift_rms_to_core_angstrom": _number(shift.rms_angstrom),
        "shift_range_to_core_angstrom": _number(shift.range_angstrom),
        "shift_direction_to_core": _vector(shift.direction),
        f"rotation_range_to_previous_{kind}_degrees": ""
        if previous is None
        else _number(previous.range_degrees),
    }


def cluster_rows(run: FinishedRun, analysis: Analysis) -> list[Row]:
    """One row a cluster: the part of the images in it, and of the molecules (noise taken out, 90 %
    interval).

    `particle` is the row of its representative in the particle file, from 0.
    """
    clusters = analysis.clusters
    scores = analysis.components.latent.scores
    shares = analysis.population.clusters
    index = np.asarray(run.latents.index)
    return [
        {
            "cluster": k + 1,
            "size": int(size),
            "fraction": _number(size / analysis.n_particles),
            "population": _number(shares[k].value),
            "population_low": _number(shares[k].low),
            "population_high": _number(shares[k].high),
            "particle": int(index[representative]),
            **{f"pc{c + 1}": _number(value) for c, value in enumerate(scores[representative])},
        }
        for k, (size, representative) in enumerate(
            zip(clusters.size, clusters.representative, strict=True)
        )
    ]


def population_rows(analysis: Analysis) -> list[Row]:
    """One row a bin of the main motion: part of the images counted there, and of the molecules with
    its interval.
    """
    population = analysis.population
    edges = population.edges_angstrom
    names = (
        "from_angstrom",
        "to_angstrom",
        "counted",
        "population",
        "population_low",
        "population_high",
    )
    columns = (
        edges[:-1],
        edges[1:],
        population.counted,
        population.value,
        population.low,
        population.high,
    )
    return [
        dict(zip(names, map(_number, values), strict=True)) for values in zip(*columns, strict=True)
    ]


def distance_rows(analysis: Analysis) -> list[Row]:
    """One row a pair of bodies: the distance between their centroids over the sampled particles."""
    rows = []
    for (first, second), values in zip(
        analysis.bodies.pairs, analysis.bodies.distances_angstrom.T, strict=True
    ):
        numbers = [values.mean(), values.std(), *np.percentile(values, [5, 50, 95])]
        rows.append(
            dict(zip(DISTANCE_FIELDS, [first + 1, second + 1, *map(_number, numbers)], strict=True))
        )
    return rows


def residue_rows(run: FinishedRun, analysis: Analysis) -> list[Row]:
    """One row a residue: its segment, body and RMS displacement."""
    model = run.model
    bodies = analysis.bodies
    return [
        {
            "chain": str(model.chain[r]),
            "residue": int(model.residue_number[r]),
            "insertion_code": str(model.insertion_code[r]).strip(),
            "name": str(model.residue_name[r]),
            "segment": int(bodies.segment_label[r]) + 1,
            "body": int(bodies.body_label[r]) + 1,
            "rms_displacement_angstrom": _number(analysis.ensemble.fluctuation_angstrom[r]),
        }
        for r in range(model.n_residues)
    ]


def particle_rows(run: FinishedRun, analysis: Analysis) -> Iterable[Row]:
    """One row a particle: row in the particle file, half set, cluster, components and their
    errors.
    """
    latent = analysis.components.latent
    for i, particle in enumerate(np.asarray(run.latents.index)):
        row: Row = {
            "particle": int(particle),
            "half": int(run.latents.half[i]),
            "cluster": int(analysis.clusters.label[i]) + 1,
        }
        for c in range(latent.scores.shape[1]):
            row[f"pc{c + 1}"] = _number(latent.scores[i, c])
            row[f"pc{c + 1}_error"] = _number(latent.score_errors[i, c])
        if analysis.umap is not None:
            row |= {"umap1": _number(analysis.umap[i, 0]), "umap2": _number(analysis.umap[i, 1])}
        yield row


def nearest_rows(run: FinishedRun, analysis: Analysis, component: int) -> list[Row]:
    """One row a frame of a trajectory: where it lies, and the particle nearest to it."""
    walk = analysis.components.traversals[component]
    index = np.asarray(run.latents.index)
    return [
        {
            "frame": frame + 1,
            f"pc{component + 1}": _number(score),
            "particle": int(index[nearest]),
            "distance_in_standard_deviations": _number(distance),
        }
        for frame, (score, nearest, distance) in enumerate(
            zip(walk.scores, walk.nearest, walk.nearest_distance, strict=True)
        )
    ]


def summary(analysis: Analysis) -> Row:
    """Gather the result in numbers and sentences, ready for JSON."""
    ensemble = analysis.ensemble
    bodies = analysis.bodies
    statement = state(analysis)
    return {
        "n_particles": analysis.n_particles,
        "n_sampled": len(ensemble.images),
        "headline": statement.headline,
        "certainty": statement.certainty,
        "details": list(statement.details),
        "rms_motion_angstrom": _number(ensemble.rms_motion_angstrom),
        "main_motion_range_angstrom": _number(ensemble.main_range_angstrom),
        "main_motion_error_angstrom": _number(ensemble.main_error_angstrom),
        "main_motion_variance_fraction": _number(ensemble.motions.variance_fraction[0]),
        "latent_signal_to_error": [_number(value) for value in analysis.components.signal_to_error],
        "n_segments": len(bodies.segments),
        "n_bodies": len(bodies.bodies),
        "merging_tolerance_angstrom": _number(bodies.tolerance_angstrom),
        "bodies": [group.ranges for group in bodies.bodies],
        "hinges": [str(hinge) for hinge in bodies.hinges],
        "clashes_mean": _number(ensemble.clashes.mean()),
        "clashes_maximum": int(ensemble.clashes.max()),
        "clashes_in_model": ensemble.model_clashes,
        "seed": analysis.settings.seed,
    }


def write_csv(path: Path, rows: Iterable[Row], fields: Sequence[str] | None = None) -> None:
    """Write rows as CSV, the header from `fields` or else from the first row."""
    iterator = iter(rows)
    first = next(iterator, None)
    header = list(first) if first is not None else list(fields or ())
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        if first is not None:
            writer.writerow(first)
        writer.writerows(iterator)


def _main_ratio(analysis: Analysis) -> float | None:
    error = analysis.ensemble.main_error_angstrom
    return (
        _number(analysis.ensemble.motions.scores_angstrom[:, 0].std() / error)
        if error > 0
        else None
    )


def _number(value: Any) -> float | None:
    """Round to six significant digits and to a millionth; what is not finite has no value."""
    number = round(float(value), 6)
    return float(f"{number:.6g}") if np.isfinite(number) else None


def _vector(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def chimerax_script(
    coloured: Path, trajectories: list[Path], maximum_angstrom: float, frames: int
) -> str:
    """Write the commands of `open_in_chimerax.cxc`.

    Parameters
    ----------
    coloured
        The model with the RMS displacement in its B-factor column.
    trajectories
        Multi-model files, the main motion first; all are opened, the first is played.
    maximum_angstrom
        Upper end of the colours.
    frames
        Structures in each trajectory.

    Returns
    -------
    str
        File names are relative: ChimeraX looks for them beside the script. Syntax of `open …
        coordsets`, `coordset` and `color byattribute` as in the ChimeraX user guide
        (https://www.cgl.ucsf.edu/chimerax/docs/user/index.html).
    """
    first = 2
    lines = [
        "# Blue parts stay, red parts move; the trajectory plays back and forth.",
        (
            f"# To play another component: hide #{first} models; show #{first + 1} models; "
            f"coordset slider #{first + 1}"
        ),
        "close",
        "set bgColor white",
        f'open {_quoted(coloured.name)} id 1 name "coloured by motion"',
        *(
            f'open {_quoted(path.name)} coordsets true id {first + k} name "component {k + 1}"'
            for k, path in enumerate(trajectories)
        ),
        "hide atoms",
        "show cartoons",
        f"color byattribute bfactor #1 palette {PALETTE} range 0,{maximum_angstrom:.2f} target ac",
        f"color #{first} #7a8699 target ac",
        *(f"hide #{first + k} models" for k in range(1, len(trajectories))),
        "transparency #1 60 target c",
        "lighting soft",
        "view",
        f"coordset #{first} 1,{frames} loop 20 bounce true pauseFrames 3",
    ]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """Quote a file name that ChimeraX would otherwise cut at a space."""
    return f'"{name}"' if " " in name else name


def trajectory_suffix(model: AtomicModel) -> str:
    """Choose PDB, which every program reads, unless the model outgrows its columns."""
    fits = (
        model.n_atoms <= PDB_MAXIMUM_ATOMS
        and model.residue_number.max() <= PDB_MAXIMUM_RESIDUE_NUMBER
        and all(len(str(name)) <= 1 for name in np.unique(model.chain))
    )
    return ".pdb" if fits else ".cif"


def write_trajectory(folder: Path, run: FinishedRun, traversal: Traversal, number: int) -> Path:
    """Write all atoms along one traversal as a multi-model file.

    Parameters
    ----------
    folder
        Where to write `pc<number>_trajectory.pdb` (or `.cif`).
    run
        Decodes the latents.
    traversal
        The points of the component.
    number
        Of the component, from 1.

    Returns
    -------
    Path
        The file.
    """
    path = folder / f"pc{number}_trajectory{trajectory_suffix(run.model)}"
    write_model(path, run.model, np.asarray(run.decode_atoms(traversal.latents), np.float64))
    return path


def write_motion_coloured(
    path: Path,
    model: AtomicModel,
    positions: Float[np.ndarray, "atoms 3"],
    amplitude: Float[np.ndarray, " residues"],
) -> None:
    """Write a model whose B-factor column holds each residue's RMS displacement in Å.

    Parameters
    ----------
    path
        mmCIF or PDB by suffix.
    model
        Names and residues.
    positions
        (atoms, 3) in Å.
    amplitude
        (residues,) in Å.
    """
    coloured = replace(model, b_factor=np.asarray(amplitude, np.float64)[model.residue_index])
    write_model(path, coloured, np.asarray(positions, np.float64))
