"""What the page's viewer draws: few atoms, a short basis from which it builds the structure of any
particle, and where helices and strands are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from kinesphere.analysis.ensemble import Decode, decode_in_chunks, sample_images
from kinesphere.analysis.summary import Analysis
from kinesphere.io.structure import AtomicModel
from kinesphere.runs.finished_run import FinishedRun

RIBBON_MAXIMUM_RESIDUES = 4000
TRACE_MAXIMUM_POINTS = 3000
LIGAND_MAXIMUM_ATOMS = 600
MAXIMUM_RANK = 16
BASIS_BYTES = 1_500_000
TOLERANCE_ANGSTROM = 0.1
TRAINING_STRUCTURES = 300
PROTEIN_ATOMS = ("CA", "O")
NUCLEIC_ATOMS = ("P", "OP2", "O5'", "C5'", "O3'")
CHAIN_STEP_ANGSTROM = 4.3
SHORTEST_HELIX = 5
SHORTEST_STRAND = 4
HELIX = {
    "d2": (5.5, 0.5),
    "d3": (5.3, 0.5),
    "d4": (6.4, 0.6),
    "angle": (89.0, 12.0),
    "dihedral": (50.0, 20.0),
}
STRAND = {
    "d2": (6.7, 0.6),
    "d3": (9.9, 0.9),
    "d4": (12.4, 1.1),
    "angle": (124.0, 14.0),
    "dihedral": (-170.0, 45.0),
}


@dataclass(frozen=True)
class DisplayAtoms:
    """Which atoms are drawn and how.

    `points` are rows of what `decode` returns; `trace` draws a tube through the centres instead of
    a ribbon, through one residue of every `stride`.
    """

    decode: Decode
    n_decoded: int
    points: Int[np.ndarray, " p"]
    residue: Int[np.ndarray, " p"]
    name: Shaped[np.ndarray, " p"]
    atomic_number: Int[np.ndarray, " p"]
    trace: bool
    stride: int

    def structures(self, latents: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m p 3"]:
        """Decode the drawn points, (m, p, 3) float32 in Å."""
        return decode_in_chunks(self.decode, latents, self.n_decoded, self.points)


@dataclass(frozen=True)
class Basis:
    """Structures as `mean + coefficients · vectors`.

    Rigid rotations about a fixed axis span two vectors exactly, so a handful is enough for many
    segments.
    """

    mean: Float[np.ndarray, "p 3"]
    vectors: Float[np.ndarray, "k p 3"]

    def coefficients(self, structures: Float[np.ndarray, "m p 3"]) -> Float[np.ndarray, "m k"]:
        """Project structures on the basis, (m, k) in Å RMS."""
        flat = (structures - self.mean).reshape(len(structures), -1)
        return flat @ self.vectors.reshape(len(self.vectors), -1).T / len(self.mean)

    def rms_error(self, structures: Float[np.ndarray, "m p 3"]) -> Float[np.ndarray, " m"]:
        """Give what the basis leaves out of each structure, (m,) RMS in Å."""
        rebuilt = self.mean + np.einsum("mk,kpx->mpx", self.coefficients(structures), self.vectors)
        return np.sqrt(np.mean(np.sum((structures - rebuilt) ** 2, axis=2), axis=1))


def choose_atoms(run: FinishedRun) -> DisplayAtoms:
    """Choose what to draw: ribbon atoms, or a thinned trace of the centres where the model is large
    or has no more.
    """
    model = run.model
    ribbon = _ribbon_atoms(model)
    polymer = np.flatnonzero(model.residue_kind != "other")
    oxygens = np.count_nonzero(np.isin(model.atom_name[ribbon], ("O", "OP2", "O1P", "O5'")))
    if len(polymer) <= RIBBON_MAXIMUM_RESIDUES and oxygens >= 0.8 * len(polymer):
        return DisplayAtoms(
            decode=run.decode_atoms,
            n_decoded=model.n_atoms,
            points=ribbon,
            residue=model.residue_index[ribbon],
            name=model.atom_name[ribbon],
            atomic_number=model.atomic_number[ribbon],
            trace=False,
            stride=1,
        )
    stride = -(-len(polymer) // TRACE_MAXIMUM_POINTS)
    residue = polymer[::stride]
    return DisplayAtoms(
        decode=run.decode,
        n_decoded=model.n_residues,
        points=residue,
        residue=residue,
        name=np.full(len(residue), "CA"),
        atomic_number=np.full(len(residue), 6),
        trace=True,
        stride=stride,
    )


def fit_basis(structures: Float[np.ndarray, "m p 3"]) -> Basis:
    """Find the shortest basis that reproduces structures to 0.1 Å RMS, or as well as the page's
    size allows.

    Parameters
    ----------
    structures
        (m, p, 3) in Å, of the kind that will be shown.

    Returns
    -------
    Basis
        Vectors scaled to Σ|vector|² = p.
    """
    m, p, _ = structures.shape
    mean = structures.mean(axis=0, dtype=np.float64)
    flat = (structures - mean).reshape(m, -1)
    _, singular, axes = np.linalg.svd(flat, full_matrices=False)
    allowed = min(MAXIMUM_RANK, max(2, BASIS_BYTES // (6 * p)), len(singular))
    left_out = np.sqrt(np.maximum(np.sum(singular**2) - np.cumsum(singular**2), 0) / (m * p))
    enough = np.flatnonzero(left_out <= TOLERANCE_ANGSTROM / 2)
    rank = min(allowed, int(enough[0]) + 1 if len(enough) else allowed)
    return Basis(mean, (axes[:rank] * np.sqrt(p)).reshape(rank, p, 3))


def basis_of_run(run: FinishedRun, analysis: Analysis, atoms: DisplayAtoms) -> Basis:
    """Fit the basis to the ends and middles of all components and to a sample of the particles."""
    mean = np.asarray(run.latents.mean, float)
    rows = sample_images(
        len(mean), atoms.n_decoded, analysis.settings.seed, limit=TRAINING_STRUCTURES
    )
    walks = np.concatenate([walk.latents for walk in analysis.components.traversals])
    return fit_basis(atoms.structures(np.concatenate([walks, mean[rows]])))


def _ribbon_atoms(model: AtomicModel) -> Int[np.ndarray, " p"]:
    """Rows of the atoms that a cartoon is drawn through, and of small numbers of ligand atoms."""
    kind = model.residue_kind[model.residue_index]
    nucleic_name = np.char.replace(model.atom_name, "*", "'")
    base = np.where(
        _is_purine(model)[model.residue_index], nucleic_name == "N1", nucleic_name == "N3"
    )
    chosen = (
        (kind == "protein") & np.isin(model.atom_name, PROTEIN_ATOMS) & (model.atomic_number > 1)
    )
    chosen |= (kind == "nucleic") & (np.isin(nucleic_name, (*NUCLEIC_ATOMS, "O2P")) | base)
    ligand = (kind == "other") & (model.atomic_number > 1)
    if np.count_nonzero(ligand) <= LIGAND_MAXIMUM_ATOMS:
        chosen |= ligand
    return np.flatnonzero(chosen)


def _is_purine(model: AtomicModel) -> Shaped[np.ndarray, " residues"]:
    """Tell which nucleotides have an N9 atom."""
    purine = np.zeros(model.n_residues, bool)
    purine[model.residue_index[model.atom_name == "N9"]] = True
    return purine


def drawing_names(model: AtomicModel) -> Shaped[np.ndarray, " residues"]:
    """Name residues so that the viewer, which knows standard nucleotides only, draws modified ones
    as well.
    """
    nucleic = np.where(_is_purine(model), "A", "U")
    return np.where(
        model.residue_kind == "nucleic",
        nucleic,
        np.where(model.residue_kind == "protein", "ALA", "LIG"),
    )


def secondary_structure(model: AtomicModel) -> Shaped[np.ndarray, " residues"]:
    """Assign helices and strands with the CA criteria of P-SEA.

    Parameters
    ----------
    model
        Its central atoms are used; only protein residues can be assigned.

    Returns
    -------
    ndarray
        (residues,) `h`, `s` or `c`.

    References
    ----------
    Labesse et al. (1997) Comput. Appl. Biosci. 13, 291-295, doi:10.1093/bioinformatics/13.3.291:
    distances to the second, third and fourth residue, angle of three and dihedral of four
    successive CA atoms (table 1), without its extension of the ends.
    """
    code = np.full(model.n_residues, "c")
    for start, stop in _continuous_runs(model):
        geometry = _geometry(model.centres_angstrom[start:stop])
        helix = _runs_of(
            _matches(geometry, HELIX, ("d3", "d4"), ("angle", "dihedral")), SHORTEST_HELIX
        )
        strand = _runs_of(
            _matches(geometry, STRAND, ("d2", "d3", "d4"), ("angle", "dihedral")), SHORTEST_STRAND
        )
        code[start:stop][strand] = "s"
        code[start:stop][helix] = "h"
    return code


def breaks_after(model: AtomicModel) -> Bool[np.ndarray, " residues"]:
    """Tell after which residues the backbone is interrupted: a new chain, another kind, or a
    missing stretch.
    """
    centre = model.centres_angstrom
    n = model.n_residues
    broken = np.ones(n, bool)
    step = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    reach = np.where(
        model.residue_kind[:-1] == "protein", CHAIN_STEP_ANGSTROM, 2 * CHAIN_STEP_ANGSTROM
    )
    same = (model.chain[1:] == model.chain[:-1]) & (
        model.residue_kind[1:] == model.residue_kind[:-1]
    )
    broken[:-1] = ~same | (step > reach) | (model.residue_kind[:-1] == "other")
    return broken


def _continuous_runs(model: AtomicModel) -> list[tuple[int, int]]:
    """Stretches of protein without a gap, as half-open ranges of residue rows."""
    stops = np.flatnonzero(breaks_after(model)) + 1
    starts = np.concatenate([[0], stops[:-1]])
    protein = model.residue_kind[starts] == "protein"
    return [(int(a), int(b)) for a, b in zip(starts[protein], stops[protein], strict=True)]


def _geometry(ca: Float[np.ndarray, "n 3"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Distances, angles and dihedrals that start at each residue (the angle is centred); NaN where
    the run ends.
    """
    n = len(ca)
    values = {name: np.full(n, np.nan) for name in HELIX}
    for step in (2, 3, 4):
        if n > step:
            values[f"d{step}"][: n - step] = np.linalg.norm(ca[step:] - ca[:-step], axis=1)
    bond = np.diff(ca, axis=0)
    if n > 2:
        cosine = (
            -np.sum(bond[:-1] * bond[1:], axis=1)
            / np.linalg.norm(bond[:-1], axis=1)
            / np.linalg.norm(bond[1:], axis=1)
        )
        values["angle"][1:-1] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    if n > 3:
        left, right = np.cross(bond[:-2], bond[1:-1]), np.cross(bond[1:-1], bond[2:])
        axis = bond[1:-1] / np.linalg.norm(bond[1:-1], axis=1, keepdims=True)
        sine = np.sum(np.cross(left, right) * axis, axis=1)
        values["dihedral"][1 : n - 2] = np.degrees(np.arctan2(sine, np.sum(left * right, axis=1)))
    return values


def _matches(
    geometry: dict[str, Float[np.ndarray, " n"]],
    target: dict[str, tuple[float, float]],
    distances: tuple[str, ...],
    angles: tuple[str, ...],
) -> Bool[np.ndarray, " n"]:
    """Find residues whose distances all fit, or whose angles all fit."""
    return np.all([_near(geometry, target, name) for name in distances], axis=0) | np.all(
        [_near(geometry, target, name) for name in angles], axis=0
    )


def _near(
    geometry: dict[str, Float[np.ndarray, " n"]], target: dict[str, tuple[float, float]], name: str
) -> Bool[np.ndarray, " n"]:
    centre, tolerance = target[name]
    difference = geometry[name] - centre
    if name == "dihedral":
        difference = (difference + 180) % 360 - 180
    return np.abs(np.nan_to_num(difference, nan=np.inf)) <= tolerance


def _runs_of(mask: Bool[np.ndarray, " n"], shortest: int) -> Bool[np.ndarray, " n"]:
    """Keep the stretches of True that are long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    kept = np.zeros_like(mask)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        kept[start:stop] = stop - start >= shortest
    return kept
