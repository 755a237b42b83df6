"""How near volumes on the latent space are to the truth, against the consensus map: quartiles of
the first axis.

    OMP_NUM_THREADS=1 python benchmarks/accuracy/volumes.py ../shared/data/adk \
        --runs RUN --work /tmp/volumes

The true volume of a quartile is the mean of the potentials of the states that its images show,
atoms of the model carried along with the true CA traces. FSC within the molecule, mean over shells
up to 0.9 of Nyquist and up to a third of it (`third`), of the kernel's and the decoder's volume at
the quartile's median, and of the consensus map of all images. Options are the command's defaults
but for `--steps 4`. Writes results/volumes.csv and .md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from kinesphere import load
from kinesphere.analysis.latent import latent_components
from kinesphere.io.mrc import read_map
from kinesphere.reconstruction.fsc import fourier_shell_correlation, mean_fsc
from kinesphere.volumes.job import make_volumes
from kinesphere.volumes.options import VolumeSettings
from reconstruction import Case, Judge

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, write_csv

N_PARTS = 4
NAMES = ("consensus", "kernel", "decoder")
COLUMNS = ("data", "run", "quartile", *NAMES, *(f"{name}_third" for name in NAMES))


@dataclass(frozen=True)
class Options:
    """What to measure."""

    data: tyro.conf.Positional[Path]
    """Folder with particles.star, model.pdb or model.cif, consensus.mrc and truth.npz."""
    runs: tuple[Path, ...]
    """Finished runs on it."""
    work: Path
    """Where volumes are kept."""


def main(options: Options) -> None:
    """Score the volumes of every quartile and rewrite the table."""
    torch.set_num_threads(1)
    case = Case.read(options.data)
    maps = {state: case.judge_of_state(state) for state in np.unique(case.truth.state)}
    rows = [
        row for path in options.runs for row in scores(case, maps, path, options.work / path.name)
    ]
    write_csv(RESULTS / "volumes.csv", rows)
    table = markdown(rows, COLUMNS)
    (RESULTS / "volumes.md").write_text(table, encoding="utf-8")
    print(table)


def scores(case: Case, maps: dict[int, Judge], path: Path, work: Path) -> list[Row]:
    """Score the volumes of one run."""
    run = load(path)
    summary = make_volumes(run, VolumeSettings(steps=N_PARTS), work)
    half = run.latents.half if len(run.motions) > 1 else np.ones(len(run.latents.half))
    first = np.flatnonzero(half == 1)
    score = latent_components(run.latents.mean[first], run.latents.covariance[first]).scores[:, 0]
    part = np.searchsorted(np.quantile(score, np.arange(1, N_PARTS) / N_PARTS), score)
    rows: list[Row] = []
    for number in range(N_PARTS):
        state, count = np.unique(case.truth.state[first[part == number]], return_counts=True)
        truth = np.average([maps[s].true_map for s in state], axis=0, weights=count)
        mask = np.max([maps[s].whole for s in state], axis=0)
        row: Row = {"data": case.folder.name, "run": path.name, "quartile": number + 1}
        files = {method: f"{method}_{number + 1:02d}" for method in ("kernel", "decoder")}
        for method, name in files.items():
            row[f"{method}_half_sets"] = next(
                v["mean_fsc"] for v in summary["volumes"] if v["name"] == name
            )
        densities = {"consensus": case.consensus.data}
        densities |= {method: read_map(work / f"{name}.mrc").data for method, name in files.items()}
        for name, density in densities.items():
            curve = fourier_shell_correlation(density * mask, truth * mask)
            n = len(density)
            row[name] = mean_fsc(curve)
            row[f"{name}_third"] = float(curve[1 : round(n / 6) + 1].mean())
        rows.append(row)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options))
