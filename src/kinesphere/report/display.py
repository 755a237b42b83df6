"""What the page's viewer draws: few atoms, and a short basis from which it builds the structure of
any particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.analysis.ensemble import Decoder, decode_in_chunks, sample_images
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


@dataclass(frozen=True)
class DisplayAtoms:
    """Which atoms are drawn and how.

    `points` are rows of what `decode` returns; `trace` draws a tube through the centres instead of
    a ribbon, through one residue of every `stride`.
    """

    decode: Decoder
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
