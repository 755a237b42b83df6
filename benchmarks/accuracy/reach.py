"""How near normal modes can come to the true structure farthest from the model, without any images.

    python benchmarks/accuracy/reach.py ../shared/data/adk ../shared/data/igg

Amplitudes of the softest modes, and of turns and shifts of the whole, are fitted to the structure
by least squares. Writes results/modes_reach.csv and .md.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, model_of, write_csv

from kinesphere.analysis.rigid import superpose
from kinesphere.evaluation.truth import read_truth
from kinesphere.io.structure import read_model
from kinesphere.methods.modes import ModesConfig
from kinesphere.motion.modes import ModesMotion, finite_translation
from kinesphere.motion.reference import build_reference

_WHOLE = 6  # turns and shifts of the molecule come first
_STATES = 100


@dataclass(frozen=True)
class Options:
    """What to fit."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with model.pdb or model.cif and truth.npz."""
    modes: tuple[int, ...] = (10, 20, 40, 80)
    """Numbers of modes."""


def main(options: Options) -> None:
    """Fit on every set, and write the tables."""
    rows = [reach(data, options.modes) for data in options.data]
    write_csv(RESULTS / "modes_reach.csv", rows)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    table = (
        "RMSD in Å to the true structure farthest from the model, after superposition and with the "
        "best amplitudes; CPU-seconds for all modes. "
        f"`straight`: displaced along the same modes, as many as there are, instead of turned.\n\n"
        f"{markdown(rows, tuple(rows[0]))}\n"
    )
    (RESULTS / "modes_reach.md").write_text(table, encoding="utf-8")
    print(f"{table}\nMost memory: {peak_gb:.2f} GB")


def reach(data: Path, numbers: tuple[int, ...]) -> Row:
    """Fit the amplitudes of so many modes to the farthest true structure of a set."""
    model = read_model(model_of(data))
    truth, residues = read_truth(data / "truth.npz").match(model)
    reference = build_reference(model, np.zeros(3), source=str(data))
    row_of_residue = {residue: row for row, residue in enumerate(reference.residue.tolist())}
    rows = torch.tensor([row_of_residue[residue] for residue in residues.tolist()])
    chosen = ModesConfig(n_modes=max(numbers))
    started = time.process_time()
    motion = ModesMotion(reference.points, reference.domains, 1, **vars(chosen))
    seconds = time.process_time() - started
    points = motion.reference[rows]
    target, unmoved = farthest(truth.ca_states, points.double().numpy())
    found = {f"modes_{n}": fit(motion.twist[: n + _WHOLE, rows], points, target) for n in numbers}
    return {
        "data": data.name,
        "residues": len(reference.points),
        "unmoved": unmoved,
        **found,
        "straight": straight_fit(motion.twist[: max(numbers) + _WHOLE, rows], points, target),
        "seconds": seconds,
    }


def farthest(states: np.ndarray, points: np.ndarray) -> tuple[torch.Tensor, float]:
    """Find the state whose RMSD from some points is largest, superposed on them."""
    some = states[:: max(1, len(states) // _STATES)].astype(np.float64)
    placed = superpose(points, some).undo(some)
    rmsd = np.sqrt(np.square(placed - points).sum(2).mean(1))
    worst = int(rmsd.argmax())
    return torch.from_numpy(placed[worst]).float(), float(rmsd[worst])


def straight_fit(twist: torch.Tensor, points: torch.Tensor, target: torch.Tensor) -> float:
    """Fit straight displacements along some twists (n, p, 6); RMSD."""
    straight = twist[..., 3:].flatten(1).T
    wanted = (target - points).flatten()[:, None]
    left = straight @ torch.linalg.lstsq(straight, wanted).solution - wanted
    return float(left.reshape(-1, 3).square().sum(1).mean().sqrt())


def fit(twist: torch.Tensor, points: torch.Tensor, target: torch.Tensor) -> float:
    """Fit the amplitudes of some twists (n, p, 6), from the best straight displacement on; RMSD."""
    straight = twist[..., 3:].flatten(1).T
    start = torch.linalg.lstsq(straight, (target - points).flatten()[:, None]).solution[:, 0]
    amplitude = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([amplitude], max_iter=200, line_search_fn="strong_wolfe")

    def squared() -> torch.Tensor:
        turned = torch.einsum("n,npc->pc", amplitude, twist)
        moved = points + finite_translation(turned[:, :3], turned[:, 3:])
        return (moved - target).square().sum(1).mean()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = squared()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(squared().detach().sqrt())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
