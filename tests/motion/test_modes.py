"""Normal modes: the Hessian against a slow one and ProDy's, no zero modes, turns that are rigid at
any angle, and chains that fall apart."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.transform import Rotation

from kinesphere.errors import InputError
from kinesphere.io.structure import read_model
from kinesphere.motion import modes as module
from kinesphere.motion.modes import (
    ModesMotion,
    NormalModes,
    RigidBlocks,
    elastic_network,
    finite_translation,
    normal_modes,
    stretching,
)

DATA = Path(module.__file__).parents[1] / "data"
# ProDy 2.6.1: ANM().buildHessian(coordinates, cutoff=15.0, gamma=1.0), then calcModes(20), on the
# central atoms of the bundled structures
# fmt: off
PRODY_EIGENVALUES = {
    "1ake": (
        0.931144954, 1.0964577, 1.47700255, 1.61994317, 1.90298093, 2.02105503, 2.24550657,
        2.41987413, 2.69376742, 2.71451438, 2.80448977, 3.09412152, 3.16058997, 3.3195503,
        3.49233327, 3.55790723, 3.68070629, 3.80007856, 3.91789308, 3.98796042,
    ),
    "4ake": (
        0.0306094954, 0.0771705631, 0.163352028, 0.267258746, 0.466202734, 0.699968874,
        0.924439511, 1.0149848, 1.22179618, 1.56360643, 1.59294401, 1.67653519, 1.86469235,
        1.98343866, 2.13161327, 2.15521192, 2.16594186, 2.2150156, 2.45146979, 2.49835688,
    ),
}
# fmt: on
# The same with cutoff=12.0 and a stiffness of (3.8 Å / distance)²
PRODY_WEIGHTED = {
    "1ake": (0.0428346186, 0.0527241209, 0.0841457429, 0.0913167947, 0.111769553, 0.115877918),
    "4ake": (0.00166571516, 0.00425571698, 0.00780488817, 0.0145937701, 0.0229851219, 0.03549964),
}


def adenylate_kinase(entry: str) -> np.ndarray:
    model = read_model(DATA / f"adenylate_kinase_{entry}.cif.gz")
    return model.positions_angstrom[model.centre_atom]


def compact_chain(n: int, seed: int = 0) -> np.ndarray:
    """Steps of 3.8 Å, no two residues within 3 Å, in a ball that they fill as densely as a protein.

    Where the walk has nowhere to go it takes ten steps back.
    """
    draw = np.random.default_rng(seed)
    radius = 3.6 * n ** (1 / 3)
    points = np.zeros((n, 3))
    i = 1
    while i < n:
        step = draw.normal(size=(100, 3))
        places = points[i - 1] + 3.8 * step / np.linalg.norm(step, axis=1, keepdims=True)
        apart = np.linalg.norm(places[:, None] - points[:i], axis=2).min(1) > 3.0
        free = np.flatnonzero(apart & (np.linalg.norm(places, axis=1) < radius))
        if free.size == 0:
            i = max(i - 10, 1)
        else:
            points[i] = places[free[0]]
            i += 1
    return points


def eigenvalues(points: np.ndarray, cutoff: float, power: float) -> np.ndarray:
    stretch = stretching(points, *elastic_network(points, cutoff, power)).toarray()
    return linalg.eigvalsh(stretch.T @ stretch)


def one_chain(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), dtype=np.int64)


def blocks_of(points: np.ndarray, length: int = 8, chain: np.ndarray | None = None) -> RigidBlocks:
    return RigidBlocks.of_chains(points, one_chain(points) if chain is None else chain, length)


def make_motion(points: np.ndarray, latent_dim: int = 2, **options: int) -> ModesMotion:
    chain = torch.zeros(len(points), dtype=torch.int64)
    return ModesMotion(torch.from_numpy(points), chain, latent_dim, **options).double().eval()


def prescribe(motion: ModesMotion, amplitude: torch.Tensor) -> None:
    """Make the decoder give these amplitudes in Å whatever the latent."""
    last = motion.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(amplitude / motion.scale)


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=2)


# The network


def test_hessian_is_the_sum_over_pairs() -> None:
    points = compact_chain(40)
    slow = np.zeros((120, 120))
    for i in range(40):
        for j in range(i):
            step = points[i] - points[j]
            length = np.linalg.norm(step)
            if length <= 12.0:
                part = (3.8 / length) ** 6 * np.outer(step, step) / length**2
                a, b = slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3)
                slow[a, a] += part
                slow[b, b] += part
                slow[a, b] -= part
                slow[b, a] -= part
    stretch = stretching(points, *elastic_network(points, 12.0)).toarray()
    np.testing.assert_allclose(stretch.T @ stretch, slow, atol=1e-12)


@pytest.mark.parametrize("entry", ["1ake", "4ake"])
def test_eigenvalues_are_those_of_prody(entry: str) -> None:
    points = adenylate_kinase(entry)
    plain, weighted = eigenvalues(points, 15.0, 0.0), eigenvalues(points, 12.0, 2.0)
    np.testing.assert_allclose(plain[6:26], PRODY_EIGENVALUES[entry], rtol=1e-6)
    np.testing.assert_allclose(weighted[6:12], PRODY_WEIGHTED[entry], rtol=1e-6)


@pytest.mark.parametrize("gap", [15.0, 60.0, 200.0])
def test_chains_that_do_not_touch_are_joined_stiffly(gap: float) -> None:
    first, second = compact_chain(60, 1), compact_chain(60, 2)
    apart = first.max(0)[0] - second.min(0)[0] + gap
    points = np.concatenate([first, second + np.array([apart, 0.0, 0.0])])
    values = eigenvalues(points, 12.0, 6.0)
    assert np.abs(values[:6]).max() < 1e-12
    assert values[6] > 1e-9


def test_every_residue_of_a_stretched_chain_is_held() -> None:
    """A zigzag with springs to the next residues only: the six nearest hold it."""
    row = np.arange(50)
    zigzag = np.stack([3.3 * row, 0.9 * (-1.0) ** row, 0.5 * np.sin(0.7 * row)], 1)
    values = eigenvalues(zigzag, 4.0, 2.0)
    assert np.abs(values[:6]).max() < 1e-12
    assert values[6] > 1e-10


def test_a_spring_that_two_residues_in_one_place_would_have_is_harmless() -> None:
    points = compact_chain(40)
    points[20] = points[5]
    assert np.isfinite(eigenvalues(points, 12.0, 2.0)).all()


# Blocks


def test_blocks_end_with_their_chain_and_at_its_gaps() -> None:
    points = compact_chain(60)
    points[25:] += [40.0, 0.0, 0.0]
    chain = np.repeat([0, 1], [45, 15])
    blocks = blocks_of(points, 8, chain)
    ends = np.flatnonzero(np.diff(blocks.block))
    assert {24, 44} <= set(ends.tolist())
    assert np.bincount(blocks.block).min() >= 6
    assert np.bincount(blocks.block).max() <= 10
    owners = blocks.blend().toarray() > 0
    assert not (owners[:25].any(0) & owners[25:].any(0)).any()


@pytest.mark.parametrize("length", [1, 4, 8, 50])
def test_residues_are_shared_by_the_two_nearest_blocks(length: int) -> None:
    share = blocks_of(compact_chain(43), length).blend().toarray()
    np.testing.assert_allclose(share.sum(1), 1.0)
    assert (share >= 0).all()
    assert (np.count_nonzero(share, axis=1) <= 2).all()


def test_motions_of_blocks_are_orthonormal_and_rigid() -> None:
    blocks = blocks_of(compact_chain(50), 5)
    basis, twists = (matrix.toarray() for matrix in blocks.basis())
    np.testing.assert_allclose(basis.T @ basis, np.eye(60), atol=1e-12)
    twist = twists[:, 7].reshape(-1, 6)[blocks.block]
    lever = blocks.points - blocks.centres[blocks.block]
    moved = twist[:, 3:] + np.cross(twist[:, :3], lever)
    np.testing.assert_allclose(moved.ravel(), basis[:, 7], atol=1e-12)


def test_a_residue_alone_shifts_but_does_not_turn() -> None:
    points = compact_chain(21)
    blocks = blocks_of(points, 5, np.repeat([0, 1], [20, 1]))
    basis, twists = blocks.basis()
    assert basis.shape[1] == 4 * 6 + 3
    assert np.abs(twists.toarray()[-6:-3]).max() < 1e-12


# The modes


def test_modes_are_the_softest_internal_motions_of_the_blocks() -> None:
    points = compact_chain(64)
    blocks = blocks_of(points, 4)
    basis = blocks.basis()[0].toarray()
    stretch = stretching(points, *elastic_network(points, 12.0)).toarray() @ basis
    modes = normal_modes(blocks, 20, 12.0)
    np.testing.assert_allclose(
        modes.stiffness, linalg.eigvalsh(stretch.T @ stretch)[6:26], rtol=1e-9
    )


def displacements(blocks: RigidBlocks, modes: NormalModes) -> np.ndarray:
    """(n_modes, n_points, 3) of each mode, the blocks rigid."""
    twist = modes.twist[:, blocks.block]
    lever = blocks.points - blocks.centres[blocks.block]
    return twist[..., 3:] + np.cross(twist[..., :3], lever)


@pytest.mark.parametrize("largest_dense", [0, 10**6])
def test_modes_leave_the_molecule_where_it_is(
    largest_dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST_DENSE", largest_dense)
    blocks = blocks_of(compact_chain(300), 4)
    moved = displacements(blocks, normal_modes(blocks, 12, 12.0))
    np.testing.assert_allclose(moved.sum(1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.cross(blocks.points, moved).sum(1), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.square(moved).sum(2).mean(1), 1.0, rtol=1e-9)


def test_sparse_and_dense_solvers_find_the_same_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of(adenylate_kinase("1ake"), 4)
    dense = normal_modes(blocks, 20, 12.0)
    monkeypatch.setattr(module, "_LARGEST_DENSE", 0)
    sparse = normal_modes(blocks, 20, 12.0)
    np.testing.assert_allclose(sparse.stiffness, dense.stiffness, rtol=1e-7)
    pairs = zip(displacements(blocks, sparse), displacements(blocks, dense), strict=True)
    overlap = [abs((a * b).sum()) / len(blocks.points) for a, b in pairs]
    np.testing.assert_allclose(overlap, 1.0, atol=1e-6)


def test_softest_modes_hold_the_opening_of_adenylate_kinase() -> None:
    """Their share of the way from the closed crystal structure to the open one; 1 is all of it."""
    closed, opened = adenylate_kinase("1ake"), adenylate_kinase("4ake")
    turn, _ = Rotation.align_vectors(closed - closed.mean(0), opened - opened.mean(0))
    way = turn.apply(opened - opened.mean(0)) - (closed - closed.mean(0))
    blocks = blocks_of(closed)
    moved = displacements(blocks, normal_modes(blocks, 20, 12.0)).reshape(20, -1)
    overlap = moved @ way.ravel() / np.linalg.norm(way) / np.linalg.norm(moved, axis=1)
    assert np.sqrt(np.square(overlap).sum()) > 0.8


def test_springs_grow_until_chains_that_touch_at_one_pair_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = compact_chain(60, 1), compact_chain(60, 2)
    a, b = first[:, 0].argmax(), second[:, 0].argmin()
    points = np.concatenate([first, second + first[a] - second[b] + [11.9, 0.0, 0.0]])
    blocks = blocks_of(points, 8, np.repeat([0, 1], 60))
    links = [sum(i < 60 <= j for i, j in elastic_network(points, c)[0]) for c in (12.0, 15.0)]
    assert links[0] < 6 <= links[1]
    assert normal_modes(blocks, 20, 12.0).stiffness[0] > 1e-8
    monkeypatch.setattr(module, "_TRIES", 1)
    with pytest.raises(InputError, match=r"without hold\. Give a larger --cutoff-angstrom"):
        normal_modes(blocks, 20, 12.0)


@pytest.mark.parametrize("n_residues", [1, 3, 9])
def test_a_molecule_that_is_one_block_is_refused(n_residues: int) -> None:
    with pytest.raises(InputError, match=rf"{n_residues} residues are too few"):
        normal_modes(blocks_of(compact_chain(n_residues)), 20, 12.0)


def test_a_small_molecule_has_all_the_modes_there_are() -> None:
    blocks = blocks_of(compact_chain(30), 8)
    n_blocks = len(blocks.centres)
    assert len(normal_modes(blocks, 100, 12.0).stiffness) == 6 * n_blocks - 6


@pytest.mark.slow
def test_modes_of_a_large_complex_take_seconds() -> None:
    """7,000 residues in six balls that touch: the figures the documentation gives, with room to
    spare."""
    ball = compact_chain(1167)
    place = 1.8 * np.abs(ball).max() * np.array(list(np.ndindex(3, 2, 1)))
    points = (ball[None] + place[:, None]).reshape(-1, 3)
    blocks = blocks_of(points, 8, np.repeat(np.arange(6), 1167))
    began = time.process_time()
    modes = normal_modes(blocks, 20, 12.0)
    assert time.process_time() - began < 60.0
    assert modes.stiffness.shape == (20,)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4e6  # in kB


# The motion


def test_a_domain_turns_rigidly_by_60_degrees() -> None:
    """All blocks of the second half share a twist about the hinge; blended in between, they turn
    exactly."""
    points = compact_chain(120)
    blocks = blocks_of(points, 6)
    hinge, axis = points[60], np.array([0.6, 0.0, 0.8])
    turns = (np.arange(20) >= 10)[:, None]
    velocity = turns * np.cross(axis, blocks.centres - hinge)
    modes = NormalModes(np.ones(1), np.concatenate([turns * axis, velocity], 1)[None])
    motion = make_motion(points, 1, n_modes=1)
    twist = torch.from_numpy(module._twist_of_points(blocks, modes))
    motion.twist = torch.cat([motion.twist[:6], twist])
    angle = np.radians(60.0)
    prescribe(motion, angle * torch.eye(7, dtype=torch.float64)[6])
    moved = motion(torch.zeros(1, 1, dtype=torch.float64))[0].detach().numpy()
    domain = slice(64, 120)
    np.testing.assert_allclose(moved[:56], points[:56], atol=1e-9)
    np.testing.assert_allclose(distances(moved[domain]), distances(points[domain]), atol=1e-3)
    turned = hinge + Rotation.from_rotvec(angle * axis).apply(points[domain] - hinge)
    np.testing.assert_allclose(moved[domain], turned, atol=1e-3)


def test_large_amplitudes_of_a_mode_keep_bonds() -> None:
    """Straight lines break them: at 8 Å RMS adenylate kinase's softest mode turns by tens of
    degrees."""
    points = adenylate_kinase("4ake")
    motion = make_motion(points)
    prescribe(motion, 8.0 * torch.eye(len(motion.scale), dtype=torch.float64)[6])
    moved = motion(torch.zeros(1, 2, dtype=torch.float64))[0].detach().numpy()
    straight = points + 8.0 * motion.twist[6, :, 3:].numpy()

    def worst_bond(positions: np.ndarray) -> float:
        lengths = [np.linalg.norm(np.diff(p, axis=0), axis=1) for p in (positions, points)]
        return float(np.abs(lengths[0] - lengths[1]).max())

    assert worst_bond(moved) < 0.5 * worst_bond(straight)
    assert np.sqrt(np.square(straight - points).sum(1).mean()) == pytest.approx(8.0, rel=0.05)


def test_motions_of_the_whole_are_rigid_and_as_large_as_they_say() -> None:
    points = adenylate_kinase("1ake")
    motion = make_motion(points)
    prescribe(motion, torch.cat([torch.full((6,), 3.0), torch.zeros(len(motion.scale) - 6)]))
    moved = motion(torch.zeros(1, 2, dtype=torch.float64))[0].detach().numpy()
    np.testing.assert_allclose(distances(moved), distances(points), atol=1e-9)
    twist = motion.twist[:6, :, 3:].square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(twist, torch.ones(6, dtype=torch.float64))


def test_small_amplitudes_are_displacements_in_angstrom() -> None:
    motion = make_motion(adenylate_kinase("1ake"))
    amplitude = 1e-4 * torch.randn(len(motion.scale), dtype=torch.float64)
    prescribe(motion, amplitude)
    moved = motion(torch.zeros(1, 2, dtype=torch.float64))[0] - motion.reference
    linear = torch.einsum("n,npc->pc", amplitude, motion.twist[..., 3:])
    torch.testing.assert_close(moved, linear, atol=1e-6, rtol=0.0)


def test_translation_of_a_twist_is_that_of_the_matrix_exponential() -> None:
    for size in (0.0, 1e-8, 1e-3, 0.1, 0.70, 0.71, 2.0, 6.0):
        rotation = size * torch.nn.functional.normalize(torch.randn(3).double(), dim=0)
        velocity = torch.randn(3).double()
        generator = torch.zeros(4, 4, dtype=torch.float64)
        generator[:3, :3] = torch.linalg.cross(rotation.expand(3, 3), torch.eye(3).double()).T
        generator[:3, 3] = velocity
        exact = torch.linalg.matrix_exp(generator)[:3, 3]
        found = finite_translation(rotation, velocity)
        torch.testing.assert_close(found, exact, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("size", [0.0, 0.3, 0.70, 2.5])
def test_gradients_of_the_translation(size: float) -> None:
    rotation = size * torch.nn.functional.normalize(torch.randn(4, 3).double(), dim=1)
    velocity = torch.randn(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(finite_translation, (rotation.requires_grad_(), velocity))


def test_gradients_with_respect_to_the_latent() -> None:
    """Of places off the residues, which turn with them, and of the residues themselves."""
    points = adenylate_kinase("1ake")[:40]
    motion = make_motion(points, n_modes=6)
    with torch.no_grad():
        for parameter in motion.decoder.parameters():
            parameter.mul_(3.0)
    owner = torch.arange(0, 40, 13)
    atoms = torch.from_numpy(points)[owner] + torch.randn(len(owner), 3).double()
    z = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda latent: motion.move(latent, atoms, owner), (z,))
    assert torch.autograd.gradcheck(motion, (z,))


def test_reference_points_move_as_any_points_there() -> None:
    motion = make_motion(adenylate_kinase("1ake"))
    prescribe(motion, 2.0 * torch.randn(len(motion.scale)).double())
    z = torch.randn(2, 2, dtype=torch.float64)
    every = torch.arange(len(motion.reference))
    torch.testing.assert_close(motion(z), motion.move(z, motion.reference, every))
    chosen = motion.states(z)[torch.tensor([1])]
    torch.testing.assert_close(chosen.move_reference(), motion(z)[1:])


def test_nothing_moves_to_begin_with() -> None:
    motion = make_motion(adenylate_kinase("1ake"))
    moved = (motion(torch.randn(50, 2, dtype=torch.float64)) - motion.reference).detach()
    assert float(moved.norm(dim=2).max()) < 0.3
    assert float(moved.norm(dim=2).max()) > 0.0


def test_same_model_has_the_same_modes() -> None:
    points = adenylate_kinase("1ake")
    first, second = (make_motion(points) for _ in range(2))
    torch.testing.assert_close(first.twist, second.twist, atol=0.0, rtol=0.0)
    assert bool((first.scale[6:].diff() <= 0).all())
    assert float(first.scale.max()) == 1.0


def test_parts_are_those_that_move_alike() -> None:
    """Two balls on a hinge: no part has residues of both, but where the chain crosses."""
    ball = compact_chain(160)
    points = np.concatenate([ball - [40.0, 0, 0], ball[::-1] + np.array([40.0, 0.0, 0.0])])
    bridge = np.linspace(points[159], points[160], 22)[1:-1]
    bridge[:, 1:] += np.stack([(-1.0) ** np.arange(20), np.sin(np.arange(20))], 1)
    points = np.concatenate([points[:160], bridge, points[160:]])
    share = make_motion(points, n_modes=6).memberships()
    assert share.shape == (340, 21)
    torch.testing.assert_close(share.sum(1), torch.ones(340, dtype=torch.float64))
    left, right = share[:150].amax(0), share[190:].amax(0)
    assert float((left * right).max()) == 0.0
