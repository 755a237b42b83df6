"""What the motion brings to a map, how that compares with the truth, and how fast it is: data folders × ways.

    OMP_NUM_THREADS=1 python benchmarks/reconstruction.py ../shared/data/igg --work /tmp/reconstruction

With the true motion (the oracle), and with that of finished runs where `--runs` names any (each for the data folder of
the same place in the list): FSC of the maps to the true map of the state that is reconstructed, and what the half maps
claim. Then images a CPU-second of deformed backprojection on one thread, on the same folders and at 128 px.
Writes results/reconstruction.csv and .md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tyro
from bench import RESULTS, Row, kinesphere, markdown, write_csv
from scipy.spatial import cKDTree

from kinesphere import load
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.inference.run import Run
from kinesphere.io.mrc import DensityMap, read_map
from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.particles import ParticleSet
from kinesphere.reconstruction.backprojection import HalfSums, Sweep, accumulate
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.images import WeightedImages, noise_power
from kinesphere.reconstruction.job import reconstruct
from kinesphere.reconstruction.masks import edge_px, near_points, soft_edge
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.problem import ReconstructionSettings, pose_problem
from kinesphere.simulate.scattering import potential_map
from kinesphere.validation.ideal import carry_along
from kinesphere.validation.truth import Truth, read_truth

COLUMNS = ("data", "map", "moving", "moving_third", "moving_half", "whole", "claimed", "half_to_truth", "resolution")
SPEED_COLUMNS = ("data", "box", "voxels", "nodes", "images_per_second", "milliseconds_motion", "milliseconds_pull")
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
    """Finished runs on the same folders, in the same order: their motion is used, too. A folder may be named twice."""
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
        moved: np.ndarray = (self.states_angstrom - self.reference_angstrom)[self.state[images]][:, owner]
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
    """

    folder: Path
    model: AtomicModel
    truth: Truth
    nominal: np.ndarray
    rows: np.ndarray
    consensus: DensityMap
    particles: ParticleSet

    @classmethod
    def read(cls, folder: Path) -> Case:
        """Read a folder."""
        model = read_model(next(path for path in (folder / "model.pdb", folder / "model.cif") if path.exists()))
        truth, rows = read_truth(folder / "truth.npz").match(model)
        particles = ParticleSet.read(folder / "particles.star")
        return cls(
            folder, model, truth, model.centres_angstrom[rows], rows, read_map(folder / "consensus.mrc"), particles
        )

    @property
    def nearest_state(self) -> int:
        """State that the nominal model is nearest to."""
        return int(((self.truth.ca_states - self.nominal) ** 2).sum((1, 2)).argmin())

    def known_run(self, state: int) -> KnownRun:
        """Pretend a run that found the truth."""
        centre, states = self.consensus.centre_angstrom, self.truth.ca_states
        config = {"map": str(self.folder / "consensus.mrc")}
        return KnownRun(self.folder, self.particles, centre, states, states[state], self.truth.state, config)

    def atoms_in(self, ca: np.ndarray) -> np.ndarray:
        """Atoms of the model carried to other CA positions, (n_atoms, 3) Å in the frame of the model."""
        row_of_residue = np.full(self.model.n_residues, -1)
        row_of_residue[self.rows] = np.arange(len(self.rows))
        owner = row_of_residue[self.model.residue_index]
        lost = owner < 0
        owner[lost] = cKDTree(self.nominal).query(self.model.positions_angstrom[lost])[1]
        return carry_along(self.model.positions_angstrom, owner, self.nominal, ca[None])[0].astype(np.float64)


@dataclass(frozen=True)
class Judge:
    """The true map of one state, and masks of what moves and of all.

    Attributes
    ----------
    true_map, moving, whole
        (n, n, n).
    """

    true_map: np.ndarray
    moving: np.ndarray
    whole: np.ndarray

    @classmethod
    def of_state(cls, case: Case, ca: np.ndarray, atoms: np.ndarray) -> Judge:
        """Prepare for a state given by its CA and all its atoms, in the frame of the model."""
        grid = RenderGrid(case.consensus.box_px, case.consensus.pixel_size_angstrom)
        centre = case.consensus.centre_angstrom
        true_map = potential_map(
            atoms - centre, case.model.atomic_number, grid.box, grid.pixel_size_angstrom, B_FACTOR_ANGSTROM2
        )
        travel = np.sqrt(((case.truth.ca_states[case.truth.state] - ca) ** 2).sum(2).mean(0))
        edge = edge_px(grid.pixel_size_angstrom)
        moving, whole = (
            soft_edge(near_points(points - centre, grid, 4.0), 0.0, edge)
            for points in (ca[travel >= 0.5 * travel.max()], ca)
        )
        return cls(true_map, moving, whole)

    def score(self, density: np.ndarray) -> Row:
        """FSC to the truth: means over shells up to 0.9 of Nyquist, and at one third and one half of it."""
        n = density.shape[0]
        moving, whole = (
            fourier_shell_correlation(density * mask, self.true_map * mask) for mask in (self.moving, self.whole)
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
    seen: set[Path] = set()
    for number, folder in enumerate(options.data):
        case = Case.read(folder)
        state = case.truth.ca_states[case.nearest_state]
        judge = Judge.of_state(case, state, case.atoms_in(state))
        if folder not in seen:
            rows.append({"data": folder.name, "map": "consensus.mrc", **judge.score(case.consensus.data)})
            rows += scores(case.known_run(case.nearest_state), folder.name, "oracle", judge, options)
        if number < len(options.runs):
            run = load(options.runs[number])
            rows += scores(run, folder.name, run.method, judge_of(case, run, options.work), options)
        seen.add(folder)
        write_csv(RESULTS / f"{options.name}.csv", rows)
    speeds = [speed(Case.read(folder), options.speed_images) for folder in (*sorted(seen), large(options.work))]
    write_csv(RESULTS / f"{options.name}_speed.csv", speeds)
    table = f"{markdown(rows, COLUMNS)}\nOne thread, CPU seconds.\n\n{markdown(speeds, SPEED_COLUMNS)}"
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def judge_of(case: Case, run: Run, work: Path) -> Judge:
    """Judge a run's maps by the state they show best: the nominal model's for segments, one that a field has learnt."""
    folder = work / case.folder.name / f"{run.method}-{run.method}"
    reconstruct(run, ReconstructionSettings(), folder)
    density = read_map(folder / "map.mrc").data
    states = case.truth.ca_states[:: max(case.truth.n_states // _STATES_TRIED, 1)]
    judges = [Judge.of_state(case, case.nominal, case.model.positions_angstrom)]
    judges += [Judge.of_state(case, ca, case.atoms_in(ca)) for ca in states]
    return max(judges, key=lambda judge: judge.score(density)["whole"])


def scores(run: Any, data: str, motion: str, judge: Judge, options: Options) -> list[Row]:
    """Reconstruct without motion, with it, and by least squares."""
    ways = {
        "homogeneous": ReconstructionSettings(homogeneous=True),
        motion: ReconstructionSettings(),
        f"{motion}, {options.iterations} iterations": ReconstructionSettings(iterations=options.iterations),
    }
    rows = []
    for name, settings in ways.items():
        folder = options.work / data / f"{motion}-{name}".replace(", ", "-").replace(" ", "-")
        summary = reconstruct(run, settings, folder)
        mask = read_map(folder / "mask.mrc").data
        claimed = np.genfromtxt(folder / "fsc.csv", delimiter=",", names=True)["corrected"]
        half = fourier_shell_correlation(read_map(folder / "half1.mrc").data * mask, judge.true_map * mask)[1:]
        until = slice(0, round(0.9 * len(half)))
        rows.append(
            {
                "data": data,
                "map": name,
                **judge.score(read_map(folder / "map.mrc").data),
                # √FSC of the halves is what a half map's FSC to the truth is, where the halves share no error
                "claimed": float(np.sqrt(np.clip(claimed[until], 0.0, 1.0)).mean()),
                "half_to_truth": float(np.clip(half[until], 0.0, 1.0).mean()),
                "resolution": summary["resolution_angstrom"],
            }
        )
    return rows


def large(work: Path) -> Path:
    """Simulate images of 128 px, once."""
    folder = work / "simulated-128"
    if not (folder / "truth.npz").exists():
        kinesphere("simulate", "--out", folder, "--n", "512", "--box", "128", "--pixel-size", "1.0", "--snr", "0.1")
    return folder


def speed(case: Case, n_images: int) -> Row:
    """Time deformed backprojection with the known motion, reading and slice insertion included; fastest of three."""
    problem = pose_problem(case.known_run(case.nearest_state), ReconstructionSettings())
    rows = np.arange(min(n_images, len(case.particles)))
    power = noise_power(problem.particles, problem.loader, rows, 64)
    images = WeightedImages(problem.particles, problem.loader, power)
    sweep = Sweep(images, rows, DeformedProjector(problem.support), problem.motion)
    accumulate(Sweep(images, rows[:8], sweep.projector, problem.motion), HalfSums.empty(problem.support))  # compiles
    seconds = []
    for _ in range(3):
        sums = HalfSums.empty(problem.support)
        started = time.process_time()
        accumulate(sweep, sums)
        seconds.append(time.process_time() - started)
    started = time.process_time()
    displacement = problem.motion.at(rows[:64])
    motion = time.process_time() - started
    batch = images.batch(rows[:64])
    views = sweep.views(batch.rotation, displacement)
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
