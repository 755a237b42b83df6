"""Which parts of the molecule move as one, and how they move against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kinesphere.analysis.rigid import (
    RigidFit,
    RotationStatistics,
    ShiftStatistics,
    rotation_statistics,
    shift_statistics,
    superpose,
)
from kinesphere.io.selection import format_residues, residue_number_label
from kinesphere.io.structure import AtomicModel

FLOOR_ANGSTROM = 0.5
FRACTION_OF_MOTION = 1 / 3
MERGING_POINTS = 500_000


@dataclass(frozen=True)
class GroupMotion:
    """How one group of residues (a segment or a body) moves.

    `rotation` is about the population mean in the frame of the poses; `relative_rotation` and
    `relative_shift` are seen from the core, the body that is held still; so is
    `relative_amplitude_angstrom`, the RMS displacement of the residues. `previous_rotation` is seen
    from the group before it in the list.
    """

    number: int
    residues: Int[np.ndarray, " r"]
    ranges: str
    body: int
    amplitude_angstrom: float
    relative_amplitude_angstrom: float
    rotation: RotationStatistics
    relative_rotation: RotationStatistics
    relative_shift: ShiftStatistics
    previous_rotation: RotationStatistics | None

    @property
    def size(self) -> int:
        """Number of residues."""
        return len(self.residues)


@dataclass(frozen=True)
class Hinge:
    """Two residues that follow each other in a chain and belong to different bodies (numbers from
    1).
    """

    chain: str
    before: str
    after: str
    bodies: tuple[int, int]
    row: int

    def __str__(self) -> str:
        return f"{self.chain}:{self.before}/{self.after}"


def segment_of_residue(
    memberships: Float[np.ndarray, "residues segments"],
) -> Int[np.ndarray, " residues"]:
    """Give each residue its segment (the largest membership), numbered from 0 by first appearance,
    none empty.
    """
    winner = memberships.argmax(axis=1)
    _, first, inverse = np.unique(winner, return_index=True, return_inverse=True)
    rank: Int[np.ndarray, " s"] = np.argsort(np.argsort(first))
    return rank[inverse.reshape(-1)]


def default_tolerance(
    reference: Float[np.ndarray, "residues 3"], positions: Float[np.ndarray, "m residues 3"]
) -> float:
    """Choose how much two segments may move against each other and still count as one body, in Å.

    A third of the RMS motion within the molecule, never less than 0.5 Å: below that, no boundary is
    worth showing.
    """
    fit = superpose(reference, positions)
    residual = positions - fit.apply(reference)
    return max(
        FLOOR_ANGSTROM, FRACTION_OF_MOTION * float(np.sqrt(np.mean(np.sum(residual**2, axis=2))))
    )


def merge_into_bodies(
    reference: Float[np.ndarray, "residues 3"],
    positions: Float[np.ndarray, "m residues 3"],
    segment: Int[np.ndarray, " residues"],
    tolerance_angstrom: float,
) -> Int[np.ndarray, " residues"]:
    """Merge the segments that move together, whether or not they follow each other in the chain.

    Parameters
    ----------
    reference
        (residues, 3) one real structure of the ensemble in Å; a mean would be shrunk by rotations.
    positions
        (m, residues, 3) the ensemble.
    segment
        (residues,) segment of each residue, from 0.
    tolerance_angstrom
        Segments are one body when one rigid motion explains each of them within this RMS deviation.

    Returns
    -------
    ndarray
        (residues,) body of each residue. Body 0 is the core: held still, it leaves the rest of the
        molecule the least motion. The others follow by size. Pairs are merged greedily, the most
        rigid first.
    """
    step = max(1, len(positions) * len(reference) // MERGING_POINTS)
    sample = positions[::step]
    groups = [[np.flatnonzero(segment == s)] for s in range(segment.max() + 1)]
    cost = np.full((len(groups), len(groups)), np.inf)
    for a in range(len(groups)):
        for b in range(a):
            cost[a, b] = _worst_deviation(reference, sample, groups[a] + groups[b])
    while np.min(cost) <= tolerance_angstrom:
        a, b = divmod(int(np.argmin(cost)), len(groups))
        groups[b] += groups[a]
        groups[a] = []
        cost[a, :] = cost[:, a] = np.inf
        for other in range(len(groups)):
            if other != b and groups[other]:
                cost[max(b, other), min(b, other)] = _worst_deviation(
                    reference, sample, groups[b] + groups[other]
                )
    return _label_from_core(
        reference, sample, [np.concatenate(members) for members in groups if members]
    )


def describe_groups(
    model: AtomicModel,
    reference: Float[np.ndarray, "residues 3"],
    positions: Float[np.ndarray, "m residues 3"],
    group: Int[np.ndarray, " residues"],
    body: Int[np.ndarray, " residues"],
) -> tuple[GroupMotion, ...]:
    """Describe the motion of every group of residues.

    The rotations are fitted to the decoded residue centres, so they are those of the structures
    shown, for any motion model.

    Parameters
    ----------
    model
        The model the residues belong to.
    reference
        (residues, 3) one structure of the ensemble in Å.
    positions
        (m, residues, 3) the ensemble.
    group
        (residues,) group of each residue, from 0.
    body
        (residues,) body of each residue; body 0 is the core.

    Returns
    -------
    tuple of GroupMotion
        In the order of the group numbers.
    """
    core = _fit(reference, positions, np.flatnonzero(body == 0))
    described: list[GroupMotion] = []
    previous: RigidFit | None = None
    for number in range(group.max() + 1):
        residues = np.flatnonzero(group == number)
        fit = _fit(reference, positions, residues)
        described.append(
            _describe(
                model, positions, residues, number, int(body[residues[0]]), fit, core, previous
            )
        )
        previous = fit
    return tuple(described)


def centroid_distances(
    positions: Float[np.ndarray, "m residues 3"], group: Int[np.ndarray, " residues"]
) -> tuple[list[tuple[int, int]], Float[np.ndarray, "m pairs"]]:
    """Measure the distances between the centroids of groups in every structure.

    Parameters
    ----------
    positions
        (m, residues, 3) in Å.
    group
        (residues,) group of each residue, from 0.

    Returns
    -------
    list of (int, int), ndarray
        The pairs of groups, and (m, pairs) distances in Å.
    """
    n = int(group.max()) + 1
    centroid = np.stack(
        [positions[:, group == g].mean(axis=1, dtype=np.float64) for g in range(n)], axis=1
    )
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n)]
    if not pairs:
        return [], np.zeros((len(positions), 0))
    return pairs, np.stack(
        [np.linalg.norm(centroid[:, a] - centroid[:, b], axis=1) for a, b in pairs], axis=1
    )


def find_hinges(model: AtomicModel, body: Int[np.ndarray, " residues"]) -> tuple[Hinge, ...]:
    """Find where the chain passes from one body to another."""
    changes = np.flatnonzero((body[1:] != body[:-1]) & (model.chain[1:] == model.chain[:-1]))
    return tuple(
        Hinge(
            str(model.chain[row]),
            residue_number_label(model, int(row)),
            residue_number_label(model, int(row) + 1),
            (int(body[row]) + 1, int(body[row + 1]) + 1),
            int(row),
        )
        for row in changes
    )


def _fit(
    reference: Float[np.ndarray, "residues 3"],
    positions: Float[np.ndarray, "m residues 3"],
    residues: Int[np.ndarray, " r"],
) -> RigidFit:
    return superpose(reference[residues], positions[:, residues])


def _describe(
    model: AtomicModel,
    positions: Float[np.ndarray, "m residues 3"],
    residues: Int[np.ndarray, " r"],
    number: int,
    body: int,
    fit: RigidFit,
    core: RigidFit,
    previous: RigidFit | None,
) -> GroupMotion:
    return GroupMotion(
        number=number,
        residues=residues,
        ranges=format_residues(model, residues),
        body=body,
        amplitude_angstrom=_rms_displacement(positions[:, residues]),
        relative_amplitude_angstrom=_rms_displacement(core.undo(positions[:, residues])),
        rotation=rotation_statistics(fit.rotation),
        relative_rotation=rotation_statistics(core.rotation.transpose(0, 2, 1) @ fit.rotation),
        relative_shift=shift_statistics(core.undo(fit.centroid[:, None])[:, 0]),
        previous_rotation=None
        if previous is None
        else rotation_statistics(previous.rotation.transpose(0, 2, 1) @ fit.rotation),
    )


def _worst_deviation(
    reference: Float[np.ndarray, "residues 3"],
    positions: Float[np.ndarray, "m residues 3"],
    members: list[Int[np.ndarray, " _"]],
) -> float:
    """Fit the union rigidly and give the RMS deviation of its worst member, so that a large core
    hides no one.
    """
    worst = 0.0
    fit = _fit(reference, positions, np.concatenate(members))
    for residues in members:
        residual = positions[:, residues] - fit.apply(reference[residues])
        worst = max(worst, float(np.mean(np.sum(residual**2, axis=2))))
    return float(np.sqrt(worst))


def _label_from_core(
    reference: Float[np.ndarray, "residues 3"],
    positions: Float[np.ndarray, "m residues 3"],
    groups: list[Int[np.ndarray, " _"]],
) -> Int[np.ndarray, " residues"]:
    """Label the residues of each group, the core with 0, the others by size."""
    left_motion = [
        _rms_displacement(_fit(reference, positions, residues).undo(positions))
        for residues in groups
    ]
    core = groups[int(np.argmin(left_motion))]
    label = np.zeros(len(reference), int)
    for number, residues in enumerate(
        sorted(groups, key=lambda rows: (rows is not core, -len(rows), rows.min()))
    ):
        label[residues] = number
    return label


def _rms_displacement(positions: Float[np.ndarray, "m r 3"]) -> float:
    """Give the RMS distance of residues from their mean positions."""
    deviation = positions - positions.mean(axis=0, dtype=np.float64)
    return float(np.sqrt(np.mean(np.sum(deviation**2, axis=2))))
