"""What the motion brings to a map, how that compares with the truth, and how fast it is: data
folders × ways.

    OMP_NUM_THREADS=1 python benchmarks/accuracy/reconstruction.py ../shared/data/igg \
        --runs RUN --work /tmp/reconstruction

With the motion of finished runs (each on the data folder of the same place in the list) and with
the true motion (the oracle) from the same reference state: FSC of the maps to the true map of that
state, what part of the gap between consensus and oracle is closed, and what the half maps claim.
Then images a CPU-second of deformed backprojection on one thread, on the same folders and at 128
px. Writes results/reconstruction.csv and .md.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tyro
from scipy.spatial import cKDTree

from kinesphere import load
from kinesphere.evaluation.ideal import carry_along
from kinesphere.evaluation.truth import Truth, read_truth
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.particles import ParticleSet
from kinesphere.reconstruction.backprojection import HalfSums, Sweep, accumulate
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.job import reconstruct
from kinesphere.reconstruction.masks import edge_px, near_points, soft_edge
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.options import ReconstructionSettings
from kinesphere.reconstruction.problem import pose_problem
from kinesphere.runs.run import Run
from kinesphere.simulate.scattering import potential_map

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, kinesphere, markdown, write_csv

COLUMNS = (
    "data",
    "run",
    "map",
    "moving",
    "gap_closed",
    "moving_third",
    "moving_half",
    "whole",
    "claimed",
    "half_to_truth",
    "excess",
    "resolution",
)
SPEED_COLUMNS = (
    "data",
    "box",
    "voxels",
    "nodes",
    "images_per_second",
    "milliseconds_motion",
    "milliseconds_pull",
)
B_FACTOR_ANGSTROM2 = 60.0
_STATES_TRIED = 24


@dataclass(frozen=True)
class Options:
    """What to measure."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with particles.star, model.pdb or model.cif, consensus.mrc and truth.npz."""
    work: Path
    """Where reconstructions are kept; finished ones are not repeated."""
    runs: tuple[Path, ...] = ()
    """Finished runs on the same folders, in the same order. A folder may be named twice."""
    atoms: tuple[Path, ...] = ()
    """For these folders, in the same order: .npz files with the atoms of every true state,
    `positions` (n_states, n_atoms, 3) in the frame of the truth and `atomic_number`; where none is
    given, the model's atoms are carried along with the true CA traces, and side chains differ from
    the truth's."""
    iterations: int = 10
    """Conjugate-gradient iterations of the least-squares maps."""
    speed_images: int = 512
    """Images that the speed is measured on."""
    name: str = "reconstruction"
    """Name of the tables."""


@dataclass
class KnownRun:
    """A run that found the true motion, from a given state.

    Parameters
    ----------
    path, particles, centre_angstrom, config
        As of any run.
    states_angstrom, reference_angstrom
        (n_states, n_residues, 3) and (n_residues, 3), in the frame of the model.
    state
        (n,) what each image shows.
    """

    path: Path
    particles: ParticleSet
    centre_angstrom: np.ndarray
    states_angstrom: np.ndarray
    reference_angstrom: np.ndarray
    state: np.ndarray
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make what a run has of models and latents: two half sets, one truth."""
        half = self.particles.half
        self.latents = SimpleNamespace(mean=self.state[:, None].astype(np.float32), half=half)
        reference = torch.from_numpy(self.reference_angstrom - self.centre_angstrom).float()
        self.motions = dict.fromkeys((1, 2), SimpleNamespace(reference=reference))

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Move with the nearest residue."""
        owner = cKDTree(self.reference_angstrom).query(points)[1]
        moved: np.ndarray = (self.states_angstrom - self.reference_angstrom)[self.state[images]][
            :, owner
        ]
        return moved


@dataclass(frozen=True)
class Case:
    """A data folder, read.

    Attributes
    ----------
    folder
        Where it is.
    model, truth, consensus, particles
        What it holds; the truth matched to the model.
    nominal
        (n_residues, 3) Å, CA of the model for the truth's residues.
    atoms
        Positions and atomic numbers of all atoms in every true state, where they are known.
    """

    folder: Path
    model: AtomicModel
    truth: Truth
    nominal: np.ndarray
    rows: np.ndarray
    consensus: DensityMap
    particles: ParticleSet
    atoms: dict[str, np.ndarray] | None = None

    @classmethod
    def read(cls, folder: Path, atoms: Path | None = None) -> Case:
        """Read a folder."""
        model = read_model(
            next(path for path in (folder / "model.pdb", folder / "model.cif") if path.exists())
        )
        truth, rows = read_truth(folder / "truth.npz").match(model)
        particles = ParticleSet.read(folder / "particles.star")
        consensus, known = (
            read_map(folder / "consensus.mrc"),
            None if atoms is None else dict(np.load(atoms)),
        )
        return cls(
            folder, model, truth, model.centres_angstrom[rows], rows, consensus, particles, known
        )

    @property
    def nearest_state(self) -> int:
        """State that the nominal model is nearest to."""
        return int(((self.truth.ca_states - self.nominal) ** 2).sum((1, 2)).argmin())

    def known_run(self, reference: np.ndarray) -> KnownRun:
        """Pretend a run that found the truth, from a given reference state."""
        centre, states = self.consensus.centre_angstrom, self.truth.ca_states
        config = {"map": str(self.folder / "consensus.mrc")}
        return KnownRun(
            self.folder, self.particles, centre, states, reference, self.truth.state, config
        )

    def judge_of_state(self, state: int) -> Judge:
        """Judge by a state of the truth."""
        ca = self.truth.ca_states[state]
        if self.atoms is not None:
            return Judge.of_state(
                self, ca, self.atoms["positions"][state].astype(float), self.atoms["atomic_number"]
            )
        return Judge.of_state(self, ca, self.carried_to(ca), self.model.atomic_number)

    def judge_of_model(self) -> Judge:
        """Judge by the nominal model."""
        return Judge.of_state(
            self, self.nominal, self.model.positions_angstrom, self.model.atomic_number
        )

    def carried_to(self, ca: np.ndarray) -> np.ndarray:
        """Atoms of the model carried to other CA positions, (n_atoms, 3) Å in the frame of the
        model.
        """
        row_of_residue = np.full(self.model.n_residues, -1)
        row_of_residue[self.rows] = np.arange(len(self.rows))
        owner = row_of_residue[self.model.residue_index]
        lost = owner < 0
        owner[lost] = cKDTree(self.nominal).query(self.model.positions_angstrom[lost])[1]
        return carry_along(self.model.positions_angstrom, owner, self.nominal, ca[None])[0].astype(
            np.float64
        )


@dataclass(frozen=True)
class Judge:
    """The true map of one state, and masks of what moves and of all.

    Attributes
    ----------
    ca
        (n_residues, 3) Å, the state.
    true_map, moving, whole
        (n, n, n).
    """

    ca: np.ndarray
    true_map: np.ndarray
    moving: np.ndarray
    whole: np.ndarray

    @classmethod
    def of_state(
        cls, case: Case, ca: np.ndarray, atoms: np.ndarray, atomic_number: np.ndarray
    ) -> Judge:
        """Prepare for a state given by its CA and all its atoms, in the frame of the model."""
        grid = RenderGrid(case.consensus.box_px, case.consensus.pixel_size_angstrom)
        centre = case.consensus.centre_angstrom
        step = grid.pixel_size_angstrom
        true_map = potential_map(atoms - centre, atomic_number, grid.box, step, B_FACTOR_ANGSTROM2)
        travel = np.sqrt(((case.truth.ca_states[case.truth.state] - ca) ** 2).sum(2).mean(0))
        edge = edge_px(step)
        moving, whole = (
            soft_edge(near_points(points - centre, grid, 4.0), 0.0, edge)
            for points in (ca[travel >= 0.5 * travel.max()], ca)
        )
        return cls(ca, true_map, moving, whole)

    def score(self, density: np.ndarray) -> Row:
        """FSC to the truth: means over shells up to 0.9 of Nyquist, and at one third and one half
        of it.
        """
        n = density.shape[0]
        moving, whole = (
            fourier_shell_correlation(density * mask, self.true_map * mask)
            for mask in (self.moving, self.whole)
        )
        until = slice(1, round(0.45 * n) + 1)
        return {
            "moving": float(moving[until].mean()),
            "moving_third": float(moving[round(n / 6)]),
            "moving_half": float(moving[n // 4]),
            "whole": float(whole[until].mean()),
        }


def main(options: Options) -> None:
    """Score every map, measure the speed, and rewrite the tables."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    atoms = dict(zip(dict.fromkeys(options.data), options.atoms, strict=False))
    for folder, path in zip(options.data, options.runs, strict=True):
        case, run = Case.read(folder, atoms.get(folder)), load(path)
        rows += scores(
            case, run, path.name, options.work / folder.name / path.name, options.iterations
        )
        write_csv(RESULTS / f"{options.name}.csv", rows)
    speeds = [
        speed(Case.read(folder), options.speed_images)
        for folder in (*sorted(set(options.data)), large(options.work))
    ]
    write_csv(RESULTS / f"{options.name}_speed.csv", speeds)
    table = (
        f"{markdown(rows, COLUMNS)}\nOne thread, CPU seconds.\n\n{markdown(speeds, SPEED_COLUMNS)}"
    )
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def scores(case: Case, run: Run, name: str, work: Path, iterations: int) -> list[Row]:
    """Score the consensus, and maps without motion, with the run's and with the true one: by sums
    and by iterations.
    """
    solved = ReconstructionSettings(iterations=iterations)
    folder = made(run, ReconstructionSettings(), work / "run")
    judge = judge_of(case, read_map(folder / "map.mrc").data, fixed=run.method == "segments")
    known: Any = case.known_run(judge.ca)
    maps = {
        "homogeneous": made(run, ReconstructionSettings(homogeneous=True), work / "homogeneous"),
        "run": folder,
        f"run, {iterations} iterations": made(run, solved, work / "run-solved"),
        "oracle": made(known, ReconstructionSettings(), work / "oracle"),
        f"oracle, {iterations} iterations": made(known, solved, work / "oracle-solved"),
    }
    label = {"data": case.folder.name, "run": name}
    rows = [{**label, "map": "consensus.mrc", **judge.score(case.consensus.data)}]
    rows += [{**label, "map": key, **score_of(where, judge)} for key, where in maps.items()]
    least = rows[0]["moving"]
    most = next(row["moving"] for row in rows if row["map"] == "oracle")
    for row in rows:
        row["gap_closed"] = (row["moving"] - least) / (most - least)
    return rows


def made(run: Any, settings: ReconstructionSettings, folder: Path) -> Path:
    """Reconstruct, unless that is done already."""
    reconstruct(run, settings, folder)
    return folder


def judge_of(case: Case, density: np.ndarray, *, fixed: bool) -> Judge:
    """Judge a map by the state it shows: the nominal model's, or the true state that it agrees with
    best.
    """
    if fixed:
        return case.judge_of_model()
    step = max(case.truth.n_states // _STATES_TRIED, 1)
    found: dict[int, float] = {}
    for candidates in (range(0, case.truth.n_states, step), range(-step + 1, step)):
        start = max(found, key=found.__getitem__) if found else 0
        for state in {
            min(max(start + offset, 0), case.truth.n_states - 1) for offset in candidates
        }:
            found[state] = case.judge_of_state(state).score(density)["whole"]
    return case.judge_of_state(max(found, key=found.__getitem__))


def score_of(folder: Path, judge: Judge) -> Row:
    """Score the map of a reconstruction, and what its half maps claim against what they are."""
    mask = read_map(folder / "mask.mrc").data
    claimed = np.genfromtxt(folder / "fsc.csv", delimiter=",", names=True)["corrected"]
    halves = [read_map(folder / f"half{number}.mrc").data * mask for number in (1, 2)]
    to_truth = np.mean(
        [fourier_shell_correlation(half, judge.true_map * mask)[1:] for half in halves], axis=0
    )
    until = slice(0, round(0.9 * len(claimed)))
    return {
        **judge.score(read_map(folder / "map.mrc").data),
        # √FSC of the halves is what a half map's FSC to the truth is, where the halves share no
        # error
        "claimed": float(np.sqrt(np.clip(claimed[until], 0.0, 1.0)).mean()),
        "half_to_truth": float(np.clip(to_truth[until], 0.0, 1.0).mean()),
        # a half map's FSC to the other half above its FSC to the truth: what both have in common
        # and is wrong
        "excess": float((claimed - to_truth)[until].max()),
        "resolution": json.loads((folder / "summary.json").read_text())["resolution_angstrom"],
    }


def large(work: Path) -> Path:
    """Simulate images of 128 px, once."""
    folder = work / "simulated-128"
    if not (folder / "truth.npz").exists():
        kinesphere(
            "simulate",
            "--out",
            folder,
            "--n",
            "512",
            "--box",
            "128",
            "--pixel-size",
            "1.0",
            "--snr",
            "0.1",
        )
    return folder


def speed(case: Case, n_images: int) -> Row:
    """Time deformed backprojection with the known motion, reading and slice insertion included;
    fastest of three.
    """
    problem = pose_problem(
        case.known_run(case.truth.ca_states[case.nearest_state]), ReconstructionSettings()
    )
    rows = np.arange(min(n_images, len(case.particles)))
    power = noise_power(problem.particles, problem.loader, rows, 64)
    images = WeightedImages(problem.particles, problem.loader, power)
    sweep = Sweep(images, rows, DeformedProjector(problem.support), problem.motion)
    accumulate(
        Sweep(images, rows[:8], sweep.projector, problem.motion), HalfSums.empty(problem.support)
    )  # compiles
    seconds = []
    for _ in range(3):
        sums = HalfSums.empty(problem.support)
        started = time.process_time()
        accumulate(sweep, sums)
        seconds.append(time.process_time() - started)
    started = time.process_time()
    seen = problem.motion.seen(rows[:64], images.rotation(rows[:64]))
    motion = time.process_time() - started
    batch = images.batch(rows[:64])
    views = sweep.views(batch.rotation, seen)
    started = time.process_time()
    sweep.projector.backproject(batch.data, views)
    pull = time.process_time() - started
    return {
        "data": case.folder.name,
        "box": problem.grid.box,
        "voxels": problem.support.n_voxels,
        "nodes": problem.support.n_nodes,
        "images_per_second": len(rows) / min(seconds),
        "milliseconds_motion": 1e3 * motion / 64,
        "milliseconds_pull": 1e3 * pull / 64,
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
