"""The page that says how a simulated data set was made."""

from __future__ import annotations

from dataclasses import fields

from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.recipe import Recipe

_PAGE = """\
# Simulated particles

{origin} {n_residues} residues, {n_atoms} atoms; {n_states} states along {n_motions} motion(s).
Made by `kinesphere simulate`.

- `particles.star`, `particles.mrcs`: RELION 3.1, with poses, CTF and half sets. Poses are
  {poses}, CTFs exact. The noise has variance one.
- Potential: every atom of the files, electron scattering factors of Peng et al. (1996), one
  B-factor; projected in Fourier space, CTF applied in a box {padding} times larger.
- SNR: variance of the CTF-applied clean images over the whole box, mean over images,
  / variance of the noise.
- `model.cif`: the nominal model, in the frame of the map (box centre at box // 2 pixels).
- `consensus.mrc`: not a reconstruction but the mean of the states' potentials, without noise,
  low-pass filtered to {consensus:.3g} Å.
- `truth.npz`: `coordinate` (n, motions) and `state` (n,) of each image; `ca_states` (states,
  residues, 3) Å, `chain`, `resid`, `icode` of the central atoms of protein and nucleic
  residues; `state_coordinate` (states, motions).

| option | value |
| --- | --- |
{table}
"""


def describe(ensemble: Ensemble, recipe: Recipe, origin: str, consensus_angstrom: float) -> str:
    """Write the README of a data set.

    Parameters
    ----------
    ensemble, recipe
        What was simulated, and how.
    origin
        Sentence on where the structures are from.
    consensus_angstrom
        Low-pass filter of the consensus map.
    """
    poses = "exact"
    if recipe.pose_error_degrees or recipe.shift_error_px:
        poses = (
            f"wrong by {recipe.pose_error_degrees:g}° and {recipe.shift_error_px:g} px per "
            "axis (root mean square)"
        )
    return _PAGE.format(
        origin=origin,
        n_residues=len(ensemble.shown_residues),
        n_atoms=ensemble.model.n_atoms,
        n_states=ensemble.n_states,
        n_motions=ensemble.coordinate.shape[1],
        poses=poses,
        padding=recipe.padding,
        consensus=consensus_angstrom,
        table="\n".join(
            f"| {field.name} | {getattr(recipe, field.name)} |" for field in fields(recipe)
        ),
    )
