"""Everything the page shows, as one JSON document: what was found in numbers, training curves, and
how arrays are written in it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere._version import __version__
from kinesphere.analysis.bodies import GroupMotion
from kinesphere.analysis.ensemble import chunks, decode_in_chunks, sample_images
from kinesphere.analysis.run_agreement import RunAgreement
from kinesphere.analysis.statement import state
from kinesphere.analysis.summary import Analysis
from kinesphere.io.selection import residue_number_label
from kinesphere.report.display import (
    Basis,
    DisplayAtoms,
    basis_of_run,
    breaks_after,
    choose_atoms,
    drawing_names,
    secondary_structure,
)
from kinesphere.report.evidence import sharpness, trust
from kinesphere.report.provenance import caveats, files_to_open, provenance_rows, settings_rows
from kinesphere.runs.finished_run import FinishedRun

SHOWN_PARTICLES = 3000
SHOWN_PARTICLES_LARGE = 800
LARGE_MODEL_ATOMS = 30_000
SHOWN_DISTANCES = 6
GAP_IN_NUMBERING = 10

Document = dict[str, Any]
# Counters and speeds; `shells` is used below.
LEFT_OUT = ("half", "epoch", "step", "shells", "seconds", "images_per_second", "pairs_per_image")
MEANING = {
    "log_likelihood": "of an image given the model; higher is better",
    "correlation": "of images and projections; higher is better",
    "divergence": "information (nats) that the latents carry about an image",
    "model_divergence": "information (nats) in the segmentation",
    "learning_rate": "step size of the optimiser",
    "loss": "what is minimised",
}
INT16_MAXIMUM = 32767


def payload(
    run: FinishedRun, analysis: Analysis, agreement: RunAgreement | None = None
) -> Document:
    """Gather the page's content.

    Parameters
    ----------
    run
        The finished run.
    analysis
        Of the same run.
    agreement
        What another run on the same particles finds, if there is one.

    Returns
    -------
    dict
        Ready for JSON; arrays encoded by `encode_array`.
    """
    atoms = choose_atoms(run)
    basis = basis_of_run(run, analysis, atoms)
    particles, error = _particles(run, analysis, atoms, basis)
    statement = state(analysis)
    return {
        "run": run.path.resolve().name,
        "version": __version__,
        "made": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "headline": statement.headline,
        "certainty": statement.certainty,
        "details": list(statement.details),
        "facts": _facts(analysis),
        "model": _model(run, analysis, atoms, basis, error),
        "paths": _paths(run, analysis, atoms, basis),
        "clusters": _clusters(run, analysis, atoms, basis),
        "particles": particles,
        "population": _population(analysis),
        "bodies": [_group(group) for group in analysis.bodies.bodies],
        "segments": [_group(group) for group in analysis.bodies.segments],
        "hinges": [{"row": hinge.row, "label": str(hinge)} for hinge in analysis.bodies.hinges],
        "distances": _distances(analysis),
        "tolerance": analysis.bodies.tolerance_angstrom,
        "clashes": {
            "mean": float(analysis.ensemble.clashes.mean()),
            "model": analysis.ensemble.model_clashes,
        },
        "sharpness": _sharpness(run, agreement),
        "agreement": None if agreement is None else _agreement(agreement),
        "trust": trust(run.path),
        "training": training_curves(run.metrics),
        "files": files_to_open(run, analysis),
        "provenance": provenance_rows(run, analysis),
        "settings": settings_rows(run),
        "caveats": caveats(run, analysis, error, atoms),
    }


def _facts(analysis: Analysis) -> list[Document]:
    """Give the few numbers that stand beside the headline."""
    ensemble = analysis.ensemble
    bodies = analysis.bodies.bodies
    facts = [{"value": f"{analysis.n_particles:,}", "label": "particle images"}]
    if len(bodies) > 1:
        turn = max(body.relative_rotation.range_degrees for body in bodies[1:])
        travel = max(body.relative_shift.range_angstrom for body in bodies[1:])
        facts.append({"value": f"{turn:.0f}°", "label": "largest turn of a body against the core"})
        facts.append({"value": f"{travel:.1f} Å", "label": "largest travel of a body’s centre"})
    facts.append(
        {
            "value": f"{ensemble.rms_motion_angstrom:.1f} Å",
            "label": "RMS displacement of all residues",
        }
    )
    facts.append(
        {
            "value": f"± {ensemble.main_error_angstrom:.1f} Å",
            "label": "error of one particle on the main motion",
        }
    )
    return facts


def _model(
    run: FinishedRun, analysis: Analysis, atoms: DisplayAtoms, basis: Basis, error: float
) -> Document:
    """Describe residues and drawn atoms."""
    model = run.model
    chains = list(dict.fromkeys(model.chain.tolist()))
    chain_number = {name: number for number, name in enumerate(chains)}
    return {
        "chains": chains,
        "chain": encode_array(
            np.array([chain_number[name] for name in model.chain.tolist()]), "i2"
        ),
        "labels": [residue_number_label(model, r) for r in range(model.n_residues)],
        "names": model.residue_name.tolist(),
        "kind": "".join(kind[0] for kind in model.residue_kind.tolist()),
        "structure": "".join(secondary_structure(model).tolist()),
        "body": encode_array(analysis.bodies.body_label, "i2"),
        "segment": encode_array(analysis.bodies.segment_label, "i2"),
        "amplitude": encode_array(analysis.ensemble.fluctuation_angstrom),
        "drawing_names": drawing_names(model)[atoms.residue].tolist(),
        "drawing_numbers": encode_array(_drawing_numbers(run, atoms), "i4"),
        "atom_names": [str(name).replace("*", "'") for name in atoms.name.tolist()],
        "atomic_numbers": encode_array(atoms.atomic_number, "u1"),
        "residue": encode_array(atoms.residue, "i4"),
        "trace": atoms.trace,
        "stride": atoms.stride,
        "mean": encode_array(basis.mean),
        "basis": [encode_scaled(vector) for vector in basis.vectors],
        "error": error,
    }


def _drawing_numbers(run: FinishedRun, atoms: DisplayAtoms) -> Int[np.ndarray, " p"]:
    """Give residues consecutive numbers, with a jump where the backbone is interrupted."""
    shown, inverse = np.unique(atoms.residue, return_inverse=True)
    breaks_before = np.concatenate([[0], np.cumsum(breaks_after(run.model))])[shown]
    step = np.where(np.diff(breaks_before, prepend=breaks_before[0]) > 0, GAP_IN_NUMBERING, 1)
    numbers: Int[np.ndarray, " p"] = np.cumsum(step)[inverse.reshape(-1)]
    return numbers


def _paths(
    run: FinishedRun, analysis: Analysis, atoms: DisplayAtoms, basis: Basis
) -> list[Document]:
    """Describe the traversals: structures as coefficients, and where they lie on the axes of the
    scatter plot.
    """
    components = analysis.components
    paths = []
    for k, walk in enumerate(components.traversals):
        scores = (walk.latents - components.latent.centre) @ components.latent.directions.T
        paths.append(
            {
                "motion": float(components.motion_angstrom[k]),
                "signal_to_error": _finite(components.signal_to_error[k]),
                "coefficients": encode_array(basis.coefficients(atoms.structures(walk.latents))),
                "columns": _columns(
                    scores, analysis.ensemble.motions.project(components.positions[k])
                ),
                "nearest": np.asarray(run.latents.index)[walk.nearest].tolist(),
            }
        )
    return paths


def _columns(scores: Float[np.ndarray, "m k"], motions: Float[np.ndarray, "m j"]) -> Document:
    columns = {f"pc{k + 1}": encode_array(scores[:, k]) for k in range(scores.shape[1])}
    return columns | {
        f"motion{k + 1}": encode_array(motions[:, k]) for k in range(min(2, motions.shape[1]))
    }


def _clusters(run: FinishedRun, analysis: Analysis, atoms: DisplayAtoms, basis: Basis) -> Document:
    """Describe each cluster by its representative particle."""
    rows = analysis.clusters.representative
    latents = np.asarray(run.latents.mean, float)[rows]
    motions = analysis.ensemble.motions.project(
        decode_in_chunks(run.decode, latents, run.model.n_residues)
    )
    return {
        "size": analysis.clusters.size.tolist(),
        "particle": np.asarray(run.latents.index)[rows].tolist(),
        "coefficients": encode_array(basis.coefficients(atoms.structures(latents))),
        "columns": _columns(analysis.components.latent.scores[rows], motions),
    }


def _particles(
    run: FinishedRun, analysis: Analysis, atoms: DisplayAtoms, basis: Basis
) -> tuple[Document, float]:
    """Describe a sample of the particles, and the largest RMS error with which the page draws one
    of them.
    """
    latents = np.asarray(run.latents.mean, float)
    latent = analysis.components.latent
    limit = SHOWN_PARTICLES_LARGE if run.model.n_atoms > LARGE_MODEL_ATOMS else SHOWN_PARTICLES
    rows = sample_images(len(latents), 1, analysis.settings.seed, limit=limit)
    coefficients = []
    motions = []
    error = 0.0
    for chunk in chunks(rows, run.model.n_atoms):
        drawn = atoms.structures(latents[chunk])
        coefficients.append(basis.coefficients(drawn))
        error = max(error, float(basis.rms_error(drawn).max()))
        centres = decode_in_chunks(run.decode, latents[chunk], run.model.n_residues)
        motions.append(analysis.ensemble.motions.project(centres))
    columns = _columns(latent.scores[rows], np.concatenate(motions))
    columns |= {"error1": encode_array(latent.score_errors[rows, 0])}
    if analysis.umap is not None:
        columns |= {f"umap{k + 1}": encode_array(analysis.umap[rows, k]) for k in range(2)}
    return {
        "total": len(latents),
        "index": encode_array(np.asarray(run.latents.index)[rows], "i4"),
        "cluster": encode_array(analysis.clusters.label[rows], "u1"),
        "columns": columns,
        "coefficients": encode_array(np.concatenate(coefficients)),
    }, error


def _population(analysis: Analysis) -> Document:
    ensemble = analysis.ensemble
    population = analysis.population
    return {
        "values": encode_array(ensemble.motions.scores_angstrom[:, 0]),
        "error": ensemble.main_error_angstrom,
        "explained": float(ensemble.motions.variance_fraction[0]),
        "edges": [float(x) for x in population.edges_angstrom],
        "molecules": [
            [float(x) for x in row] for row in (population.value, population.low, population.high)
        ],
    }


def _group(group: GroupMotion) -> Document:
    """Give one row of the tables of bodies and segments."""
    return {
        "number": group.number + 1,
        "body": group.body + 1,
        "residues": group.ranges,
        "size": group.size,
        "turn": group.relative_rotation.range_degrees,
        "axis": list(group.relative_rotation.axis),
        "travel": group.relative_shift.range_angstrom,
        "amplitude": group.relative_amplitude_angstrom,
        "previous_turn": None
        if group.previous_rotation is None
        else group.previous_rotation.range_degrees,
    }


def _distances(analysis: Analysis) -> list[Document]:
    """Give the distances between bodies that vary most."""
    values = analysis.bodies.distances_angstrom
    pairs = analysis.bodies.pairs
    order = np.argsort(-values.std(axis=0))[:SHOWN_DISTANCES] if len(pairs) else np.zeros(0, int)
    return [
        {"bodies": [pairs[p][0] + 1, pairs[p][1] + 1], "values": encode_array(values[:, p])}
        for p in order
    ]


def _sharpness(run: FinishedRun, agreement: RunAgreement | None) -> Document | None:
    """Describe the map of the run, else that of the run beside it, if either was reconstructed."""
    of_run = sharpness(run.path, str(run.provenance.get("method", "")))
    return of_run if of_run or agreement is None else sharpness(agreement.path, agreement.method)


def _agreement(agreement: RunAgreement) -> Document:
    """Give what another run finds in the same images, and a sentence on it."""
    places = f"places along the main motion correlate with r = {agreement.correlation:.3f}"
    if not np.isfinite(agreement.correlation):
        places = "places along the main motion do not correlate: one of the runs finds no motion"
    return {
        "method": agreement.method,
        "first": encode_array(agreement.first_angstrom),
        "second": encode_array(agreement.second_angstrom),
        "sentence": (
            f"A run of kinesphere {agreement.method} on the same particles moves the same atoms. "
            "One dot an image: "
            f"{places}. The structures differ by {agreement.difference_angstrom:.1f} Å RMS "
            "(median), each counted "
            "from its mean. Both runs read the same noise."
        ),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def training_curves(metrics: Mapping[str, Shaped[np.ndarray, " epochs"]]) -> dict[str, Any]:
    """Choose and prepare the curves.

    Parameters
    ----------
    metrics
        Columns of `metrics.csv`, one row an epoch.

    Returns
    -------
    dict
        `epoch` and `series`: those that change, with name, meaning and values. A log-likelihood at
        lower resolution sums over fewer Fourier shells and cannot be compared: those epochs are
        left out of its curve.
    """
    numeric = {
        name: np.asarray(values, float) for name, values in metrics.items() if _is_numeric(values)
    }
    n = max((len(values) for values in numeric.values()), default=0)
    epoch = numeric.get("epoch", np.arange(1.0, n + 1))
    if "shells" in numeric and "log_likelihood" in numeric:
        full = numeric["shells"] == numeric["shells"][-1:]
        numeric["log_likelihood"] = np.where(full, numeric["log_likelihood"], np.nan)
    chosen = {
        name: values
        for name, values in numeric.items()
        if name not in LEFT_OUT and _changes(values)
    }
    series = [
        {"name": name, "meaning": MEANING.get(name, ""), "values": _values(v)}
        for name, v in chosen.items()
    ]
    return {"epoch": epoch.tolist(), "series": series}


def _is_numeric(values: Shaped[np.ndarray, " epochs"]) -> bool:
    return np.asarray(values).dtype.kind in "fiub"


def _changes(values: Float[np.ndarray, " epochs"]) -> bool:
    return len(np.unique(values[np.isfinite(values)])) > 1


def _values(values: Float[np.ndarray, " epochs"]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def encode_array(array: Shaped[np.ndarray, "*shape"], dtype: str = "f4") -> dict[str, Any]:
    """Encode an array for JSON.

    Parameters
    ----------
    array
        Any numbers.
    dtype
        `f4`, `i2`, `i4` or `u1`.

    Returns
    -------
    dict
        `dtype`, `shape` and `data`.
    """
    packed = np.ascontiguousarray(array, np.dtype(f"<{dtype}"))
    return {
        "dtype": dtype,
        "shape": list(packed.shape),
        "data": base64.b64encode(packed.tobytes()).decode("ascii"),
    }


def encode_scaled(array: Shaped[np.ndarray, "*shape"]) -> dict[str, Any]:
    """Encode real numbers as 16-bit integers with one scale; the error is at most 1/65534 of the
    largest entry.
    """
    largest = float(np.abs(array).max(initial=0.0)) or 1.0
    return {
        **encode_array(np.round(array / largest * INT16_MAXIMUM), "i2"),
        "scale": largest / INT16_MAXIMUM,
    }
