"""Motion along the lowest normal modes of an elastic network of the atomic model, which turns
instead of stretching where it goes far.

Residue centres are joined by springs (Atilgan et al. 2001) that weaken with distance (Hinsen et al.
2000), and a few consecutive residues at a time are rigid blocks (Durand et al. 1994; Tama et al.
2000), which makes the eigenproblem of a ribosome one of seconds. A mode gives each block an
instantaneous rigid motion, its twist. As in the non-linear rigid blocks of Hoffmann & Grudinin
(2017), a residue follows the exponential of its twist, here of the sum of the twists of all modes
times their amplitudes: residues that share a twist move as one rigid body, exactly, however far
they turn. Between the middles of two blocks the twist, not the motion, goes over from one to the
other in even steps, so that neither a shared turn nor a hinge is bent by the blending.

Settled by measurement (docs/modes.md): the softest 20 modes of springs of the inverse sixth power
of the length hold more of an antibody's motion than those of equal springs or of the inverse square
(on three other molecules the law matters little), and change bonds least. Blocks of 8 residues keep
bonds better than blocks of 4 at the same number of modes; blocks of 12 lock the antibody's linkers.
A hundred modes, since an enzyme's opening is found to 1.3 Å with as many, to 1.9 Å with 40.

References
----------
Atilgan et al. (2001) Biophys. J. 80, 505. Durand et al. (1994) Biopolymers 34, 759. Hinsen et al.
(2000) Chem. Phys. 261, 25. Hoffmann & Grudinin (2017) J. Chem. Theory Comput. 13, 2123. Tama et al.
(2000) Proteins 41, 1. Yang, Song & Jernigan (2009) PNAS 106, 12347.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import linalg, sparse
from scipy.cluster.hierarchy import fcluster, ward
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu
from scipy.spatial import cKDTree
from torch import Tensor, nn

from kinesphere.errors import InputError
from kinesphere.kernels.composition import compose_two
from kinesphere.motion.base import Motion, RigidStates, first_layer, latent_network

_LONGEST_BOND_ANGSTROM = 9.0  # of residue centres: a longer step is a gap in the chain
_SHORTEST_SPRING_ANGSTROM = 1.0
_UNIT_SPRING_ANGSTROM = 3.8  # a spring of this length has stiffness 1
_FEWEST_SPRINGS = 6  # three residues either way hold a stretched-out chain
_POINTS_OF_A_JOINT = 4
_SMALLEST_LEVER = 0.1  # turns about an axis that the residues lie on nearly mean nothing
_LARGEST_DENSE = 600  # columns: below, all eigenvectors at once take no longer
_RELATIVE_SHIFT = 1e-8  # of the same: makes the Hessian invertible
_FREE = 1e-12  # of the mean stiffness of a coordinate: no resistance
_GROWTH = 1.25
_TRIES = 4
_SMALLEST_SCALE = 0.1  # stiffer modes than this learn too slowly to be of use
_RESIDUES_A_PART = 16
_FEWEST_PARTS = 4
_MOST_PARTS = 32
_N_WHOLE = 6


@dataclass(frozen=True)
class NormalModes:
    """The softest internal motions of an elastic network of rigid blocks.

    Parameters
    ----------
    stiffness
        (n_modes,) eigenvalues of the Hessian in units of a spring of 3.8 Å, ascending; the six of
        the molecule as a whole, which are zero, are left out.
    twist
        (n_modes, n_blocks, 6) the rigid motion of each block: rotation vector in radians, then the
        translation of its centre in Å, for a mode whose RMS displacement of residues is 1 Å.
    """

    stiffness: Float[np.ndarray, " n"]
    twist: Float[np.ndarray, "n b 6"]


@dataclass(frozen=True)
class RigidBlocks:
    """A chain cut into blocks of consecutive residues.

    Parameters
    ----------
    points
        (n_points, 3) residue centres in Å.
    block
        (n_points,) block of each, from 0 and ascending.
    stretch
        (n_points,) unbroken piece of chain that each is in; no block reaches over an end.
    """

    points: Float[np.ndarray, "p 3"]
    block: Int[np.ndarray, " p"]
    stretch: Int[np.ndarray, " p"]

    @classmethod
    def of_chains(
        cls, points: Float[np.ndarray, "p 3"], chain: Int[np.ndarray, " p"], length: int
    ) -> RigidBlocks:
        """Cut each unbroken piece of chain into blocks of about `length` residues."""
        far = np.linalg.norm(np.diff(points, axis=0), axis=1) > _LONGEST_BOND_ANGSTROM
        stretch = np.concatenate([[0], np.cumsum(far | (np.diff(chain) != 0))])
        size = np.bincount(stretch)
        count = np.maximum(np.round(size / length).astype(np.int64), 1)
        within = np.arange(len(points)) - (np.cumsum(size) - size)[stretch]
        before = (np.cumsum(count) - count)[stretch]
        return cls(points, before + within * count[stretch] // size[stretch], stretch)

    @property
    def centres(self) -> Float[np.ndarray, "b 3"]:
        """(n_blocks, 3) centroid of each block."""
        sums = np.stack([np.bincount(self.block, axis) for axis in self.points.T], 1)
        return sums / np.bincount(self.block)[:, None]

    def basis(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Give all motions in which the blocks are rigid.

        Returns
        -------
        csr_array
            (3 · n_points, n_columns) orthonormal displacements. A block has six, fewer where its
            residues lie on a line and a turn about it would move nothing.
        csr_array
            (6 · n_blocks, n_columns) the twists that make them.
        """
        lever = self.points - self.centres[self.block]
        first = np.flatnonzero(np.diff(self.block, prepend=-1))
        displacements, twists = [], []
        for rows in np.split(_rigid_motions(lever), first[1:]):
            left, size, right = np.linalg.svd(rows.reshape(-1, 6), full_matrices=False)
            kept = size > _SMALLEST_LEVER * size[0]
            displacements.append(left[:, kept])
            twists.append(right[kept].T / size[kept])
        basis = sparse.csr_array(sparse.block_diag(displacements))
        return basis, sparse.csr_array(sparse.block_diag(twists))

    def blend(self) -> sparse.csr_array:
        """Share each residue out over the two blocks whose middles it lies between along its chain.

        A step from one block's motion to the next between two residues would break the bond.

        Returns
        -------
        csr_array
            (n_points, n_blocks), rows adding up to 1.
        """
        n_points = len(self.points)
        row = np.arange(n_points)
        size = np.bincount(self.block)
        middle = np.cumsum(size) - 0.5 * (size + 1)
        own = self.block
        towards = own + np.where(row < middle[own], -1, 1)
        stretch = self.stretch[np.cumsum(size) - 1]
        inside = (towards >= 0) & (towards < len(size))
        other = np.where(inside, towards, own)
        other = np.where(stretch[other] == self.stretch, other, own)
        gap = np.abs(middle[other] - middle[own])
        share = np.where(gap > 0, np.abs(row - middle[own]) / np.maximum(gap, 1.0), 0.0)
        weights = np.concatenate([1.0 - share, share])
        places = (np.concatenate([row, row]), np.concatenate([own, other]))
        return sparse.csr_array((weights, places), shape=(n_points, len(size)))


def elastic_network(
    points: Float[np.ndarray, "p 3"], cutoff_angstrom: float, power: float = 6.0
) -> tuple[Int[np.ndarray, "s 2"], Float[np.ndarray, " s"]]:
    """Join points by springs so that nothing can move without resistance.

    Every pair within the cutoff has a spring, and every point at least six. Pieces that are still
    apart (chains that do not touch, say) are joined where they come closest.

    Parameters
    ----------
    points
        (n_points, 3) in Å.
    cutoff_angstrom
        Longest spring.
    power
        Stiffness falls as this power of the length: 0 in the anisotropic network model (Atilgan et
        al.), 2 in the parameter-free one (Yang et al.), 6 after Hinsen et al.

    Returns
    -------
    pairs
        (n_springs, 2) numbers of the points, each pair once.
    stiffness
        (n_springs,) 1 at 3.8 Å, and beyond the cutoff as at it.
    """
    tree = cKDTree(points)
    near = tree.query_pairs(cutoff_angstrom, output_type="ndarray")
    n_nearest = min(_FEWEST_SPRINGS + 1, len(points))
    nearest = tree.query(points, range(1, n_nearest + 1))[1]
    few = np.bincount(near.ravel(), minlength=len(points)) < _FEWEST_SPRINGS
    pairs = _unique_pairs(near, _spokes(np.flatnonzero(few), nearest[few]))
    while True:
        ones = np.ones(len(pairs))
        graph = sparse.coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=2 * (len(points),))
        n_pieces, piece = connected_components(graph, directed=False)
        if n_pieces == 1:
            break
        pairs = _unique_pairs(pairs, _joint(points, piece == np.bincount(piece).argmin()))
    length = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    # a spring that joins pieces far apart is no weaker than the longest of the others
    length = length.clip(_SHORTEST_SPRING_ANGSTROM, cutoff_angstrom)
    return pairs, (_UNIT_SPRING_ANGSTROM / length) ** power


def _joint(
    points: Float[np.ndarray, "p 3"], piece: Bool[np.ndarray, " p"]
) -> Int[np.ndarray, "s 2"]:
    """Join one piece to the others: the four of its points that are nearest to them, each to its
    four nearest of theirs.

    Four points, not one, or the piece could turn about it.
    """
    inside, outside = np.flatnonzero(piece), np.flatnonzero(~piece)
    n_nearest = min(_POINTS_OF_A_JOINT, len(outside))
    distance, nearest = cKDTree(points[outside]).query(points[inside], range(1, n_nearest + 1))
    closest = np.argsort(distance[:, 0], kind="stable")[:_POINTS_OF_A_JOINT]
    return _spokes(inside[closest], outside[nearest[closest]])


def _spokes(hub: Int[np.ndarray, " h"], ends: Int[np.ndarray, "h e"]) -> Int[np.ndarray, "s 2"]:
    return np.stack([np.repeat(hub, ends.shape[1]), ends.ravel()], axis=1)


def _unique_pairs(*pairs: Int[np.ndarray, "_ 2"]) -> Int[np.ndarray, "s 2"]:
    """Put lists of pairs together, each once and none of a point with itself."""
    ordered = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return ordered[ordered[:, 0] != ordered[:, 1]]


def stretching(
    points: Float[np.ndarray, "p 3"],
    pairs: Int[np.ndarray, "s 2"],
    stiffness: Float[np.ndarray, " s"],
) -> sparse.csr_array:
    """Give B of the Hessian H = BᵀB: by how much, times the root of its stiffness, each spring
    lengthens.

    Returns
    -------
    csr_array
        (n_springs, 3 · n_points).
    """
    step = points[pairs[:, 1]] - points[pairs[:, 0]]
    length = np.linalg.norm(step, axis=1, keepdims=True)
    along = np.sqrt(stiffness)[:, None] * step / np.maximum(length, 1e-6)
    axis = np.arange(3)
    column = np.concatenate([3 * pairs[:, :1] + axis, 3 * pairs[:, 1:] + axis], axis=1)
    row = np.repeat(np.arange(len(pairs)), 6)
    values = np.concatenate([-along, along], axis=1).ravel()
    return sparse.csr_array((values, (row, column.ravel())), shape=(len(pairs), points.size))


def normal_modes(
    blocks: RigidBlocks, n_modes: int, cutoff_angstrom: float, power: float = 6.0
) -> NormalModes:
    """Find the softest internal motions of an elastic network of rigid blocks.

    The six motions of the molecule as a whole are known without any computation and are projected
    out, so that none of them can pass for an internal one. Where something else meets no resistance
    (two chains that touch at a single pair of residues swing freely), the springs are made longer.

    Parameters
    ----------
    blocks
        The chain in rigid blocks.
    n_modes
        How many; fewer are returned where the blocks have no more.
    cutoff_angstrom, power
        See `elastic_network`.

    Raises
    ------
    InputError
        If the model is too small to have internal motions, or parts of it still swing freely.
    """
    basis, twists = blocks.basis()
    lever = blocks.points - blocks.points.mean(0)
    whole = linalg.orth(basis.T @ _rigid_motions(lever).reshape(-1, 6))
    n_internal = basis.shape[1] - whole.shape[1]
    if n_internal < 1:
        problem = f"{len(blocks.points)} residues are too few to move against each other"
        raise InputError("the model", problem, "Give a larger molecule")
    for cutoff in cutoff_angstrom * _GROWTH ** np.arange(_TRIES):
        network = elastic_network(blocks.points, float(cutoff), power)
        stretch = stretching(blocks.points, *network) @ basis
        vectors = _softest(stretch, whole, min(n_modes, n_internal))
        stiffness = np.square(stretch @ vectors).sum(0)
        if stiffness.min() > _FREE * np.square(stretch.data).sum() / basis.shape[1]:
            break
    else:
        problem = f"springs of {cutoff_angstrom:g} Å leave parts of it without hold"
        raise InputError("the model", problem, "Give a larger --cutoff-angstrom")
    scale = len(blocks.points) ** 0.5  # a unit vector's RMS displacement is 1/√n_points
    twist = scale * (twists @ vectors).T.reshape(vectors.shape[1], -1, 6)
    return NormalModes(stiffness, twist)


def _softest(
    stretch: sparse.csr_array, whole: Float[np.ndarray, "c 6"], n_modes: int
) -> Float[np.ndarray, "c n"]:
    """Give the eigenvectors of BᵀB of the smallest eigenvalues, ascending, orthogonal to `whole`.

    By Lanczos iterations on the inverse, in which the softest are the largest; from a fixed start,
    so that the same model has the same modes.
    """
    hessian = (stretch.T @ stretch).tocsc()
    size = hessian.shape[0]
    if size <= max(_LARGEST_DENSE, 4 * n_modes):
        above = hessian.diagonal().sum()  # above all eigenvalues: so the rigid motions come last
        return linalg.eigh(
            hessian.toarray() + above * whole @ whole.T, subset_by_index=(0, n_modes - 1)
        )[1]
    shift = _RELATIVE_SHIFT * hessian.diagonal().mean()
    factors = splu(
        hessian + shift * sparse.eye_array(size, format="csc"),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )

    def internal(vector: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
        return vector - whole @ (whole.T @ vector)

    inverse = LinearOperator(
        hessian.shape, lambda vector: internal(factors.solve(internal(vector))), dtype=np.float64
    )
    start = np.random.default_rng(0).standard_normal(size)
    values, vectors = eigsh(inverse, n_modes, which="LA", v0=internal(start))
    return vectors[:, np.argsort(-values)]


def _rigid_motions(lever: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3 6"]:
    """Displacement of points by a unit turn about each axis through zero, and a unit shift along
    it.
    """
    unit = np.broadcast_to(np.eye(3), (len(lever), 3, 3))
    turns = np.cross(unit, lever[:, None]).swapaxes(1, 2)
    return np.concatenate([turns, unit], axis=2)


class ModesMotion(Motion):
    """Motion along normal modes: a network maps z to the amplitudes of the softest modes, and of
    the six motions of the whole.

    The whole moves too because images are aligned on whatever part of the molecule dominates them,
    while internal modes keep its centre and its axes where they are.

    Parameters
    ----------
    reference
        (n_points, 3) residue centres of the nominal model in Å, box centre at zero.
    chain
        (n_points,) integer label: no rigid block reaches from one chain into the next.
    latent_dim
        Number of latent dimensions.
    n_modes
        Number of modes.
    cutoff_angstrom
        Longest spring of the elastic network.
    block_length
        Residues a rigid block.
    decoder_width
        Width of the two hidden layers of the decoder network.
    """

    twist: Tensor
    scale: Tensor
    part: Tensor

    def __init__(
        self,
        reference: Float[Tensor, "p 3"],
        chain: Int[Tensor, " p"],
        latent_dim: int,
        *,
        n_modes: int = 100,
        cutoff_angstrom: float = 12.0,
        block_length: int = 8,
        decoder_width: int = 128,
    ) -> None:
        super().__init__(reference, latent_dim)
        points = reference.detach().cpu().double().numpy()
        blocks = RigidBlocks.of_chains(points, chain.cpu().numpy(), block_length)
        modes = normal_modes(blocks, n_modes, cutoff_angstrom)
        # amplitudes at one temperature, the softest mode's 1
        softness = np.sqrt(modes.stiffness[0] / modes.stiffness).clip(_SMALLEST_SCALE)
        twist = np.concatenate([_whole_twists(points), _twist_of_points(blocks, modes)])
        scale = np.concatenate([np.ones(_N_WHOLE), softness])
        self.register_buffer("twist", torch.from_numpy(twist).to(reference))  # (n, p, 6)
        self.register_buffer("scale", torch.from_numpy(scale).to(reference))
        self.register_buffer("part", torch.from_numpy(_parts(blocks, modes, softness)))
        self.decoder = latent_network(latent_dim, decoder_width, len(scale))

    @property
    def latent_layer(self) -> nn.Linear:
        """See `Motion.latent_layer`."""
        return first_layer(self.decoder)

    def amplitudes(self, z: Float[Tensor, "k d"]) -> Float[Tensor, "k n"]:
        """RMS displacement in Å along the six motions of the whole and each mode at z, where
        displacements are small.
        """
        return self.scale * self.decoder(z)

    def transforms(
        self, z: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, "k p 3"], Float[Tensor, "k p 3"]]:
        """Rotation vectors (radians) and translations (Å) of every residue at z: those of the
        exponential of its twist, about where it is in the reference.
        """
        twist = (self.amplitudes(z) @ self.twist.flatten(1)).unflatten(1, (-1, 6))
        rotation, velocity = twist[..., :3], twist[..., 3:]
        return rotation, finite_translation(rotation, velocity)

    def move(
        self, z: Float[Tensor, "k d"], points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """Move points rigidly with the residues they belong to."""
        return self.states(z).move(points, owner)

    def states(self, z: Float[Tensor, "k d"]) -> ModeStates:
        """See `Motion.states`."""
        return ModeStates(self, z, *self.transforms(z))

    def memberships(self) -> Float[Tensor, "p m"]:
        """Parts of the molecule that move alike in the modes, one for each residue: rows of 0 and
        1.
        """
        return nn.functional.one_hot(self.part).to(self.reference)


class ModeStates(RigidStates):
    """The rigid motions of all residues at latent positions, about where they are in the
    reference.
    """

    def move(
        self, points: Float[Tensor, "q 3"], owner: Int[Tensor, " q"]
    ) -> Float[Tensor, "k q 3"]:
        """See `Motion.move`."""
        whole = points.new_ones(len(points), 1)
        return compose_two(
            points, whole, owner[:, None], self.rotation, self.translation, self.motion.reference
        )

    def move_reference(self) -> Float[Tensor, "k p 3"]:
        """See `States.move_reference`: what a residue turns about only moves along."""
        return self.motion.reference + self.translation


def finite_translation(
    rotation: Float[Tensor, "*k 3"], velocity: Float[Tensor, "*k 3"]
) -> Float[Tensor, "*k 3"]:
    """Where the exponential of a twist takes the place at which it is given: V(ω) v.

    V = 1 + (1 − cos θ)/θ² [ω]× + (θ − sin θ)/θ³ [ω]×², with θ = |ω|: velocity v turns with the body
    while it moves for a unit of time.
    """
    squared = rotation.square().sum(-1, keepdim=True)
    small = squared < 0.5
    series = 1 / 6 - squared / 120 + squared**2 / 5040 - squared**3 / 362880
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    third = torch.where(small, series, (1.0 - torch.sin(angle) / angle) / safe)
    half = 0.5 * torch.sqrt(squared + 1e-12)
    second = 0.5 * (torch.sin(half) / half) ** 2
    turned = torch.linalg.cross(rotation, velocity)
    return velocity + second * turned + third * torch.linalg.cross(rotation, turned)


def _whole_twists(points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "6 p 6"]:
    """Twists at each point of turns and shifts of the molecule along the axes, each of 1 Å RMS."""
    lever = points - points.mean(0)
    turn = np.broadcast_to(np.eye(3, 6), (len(points), 3, 6))
    twist = np.concatenate([turn, _rigid_motions(lever)], axis=1)  # (p, 6, 6): twist, motion
    rms = np.sqrt(np.square(twist[:, 3:]).sum(1).mean(0))
    return np.moveaxis(twist / np.maximum(rms, 1e-6), 2, 0)


def _twist_of_points(blocks: RigidBlocks, modes: NormalModes) -> Float[np.ndarray, "n p 6"]:
    """Twist of each residue at its own place, blended from those of its two blocks."""
    blend = blocks.blend().tocoo()
    point, block = blend.coords
    lever = blocks.points[point] - blocks.centres[block]
    twist = np.empty((len(modes.stiffness), len(blocks.points), 6))
    for of_mode, of_points in zip(modes.twist, twist, strict=True):
        rotation = of_mode[block, :3]
        at_point = np.concatenate(
            [rotation, of_mode[block, 3:] + np.cross(rotation, lever)], axis=1
        )
        for i in range(6):
            of_points[:, i] = np.bincount(point, blend.data * at_point[:, i], len(blocks.points))
    return twist


def _parts(
    blocks: RigidBlocks, modes: NormalModes, softness: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " p"]:
    """Put blocks whose twists are alike, mode by mode, into one part (Ward's clustering).

    Twists are compared at one place, the centre of the molecule, where those of a rigid body are
    equal; a turn counts as far as it moves the molecule's ends.
    """
    n_points = len(blocks.points)
    lever = blocks.points - blocks.points.mean(0)
    radius = np.sqrt(np.square(lever).sum(1).mean())
    rotation, velocity = modes.twist[..., :3], modes.twist[..., 3:]
    at_centre = velocity - np.cross(rotation, blocks.centres - blocks.points.mean(0))
    alike = softness[:, None, None] * np.concatenate([radius * rotation, at_centre], axis=2)
    n_parts = min(max(n_points // _RESIDUES_A_PART, _FEWEST_PARTS), _MOST_PARTS)
    label = fcluster(ward(alike.swapaxes(0, 1).reshape(alike.shape[1], -1)), n_parts, "maxclust")
    _, of_point = np.unique(label[blocks.block], return_inverse=True)
    return of_point.astype(np.int64)
