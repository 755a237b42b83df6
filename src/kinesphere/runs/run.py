"""A finished run, loaded: latents, structures and displacements on request."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.config import load_document
from kinesphere.errors import InputError
from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.inference.decoder import Decoder
from kinesphere.inference.likelihood import Likelihood
from kinesphere.inference.objective import GaussianLikelihood
from kinesphere.io.checkpoint import load_checkpoint
from kinesphere.io.mrc import DensityMap
from kinesphere.io.structure import AtomicModel
from kinesphere.methods.base import MethodOptions
from kinesphere.methods.molecule import Molecule
from kinesphere.methods.registry import method_of
from kinesphere.motion.base import Motion, Unmodelled
from kinesphere.motion.pseudo_atoms import Solid
from kinesphere.motion.reference import Reference
from kinesphere.observations.observations import Observations
from kinesphere.observations.prepare import prepare_images
from kinesphere.particles import ParticleSet
from kinesphere.runs.carried_model import CarriedModel, find_state
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.halves import images_of_model, model_keys, model_of_image
from kinesphere.runs.run_folder import checkpoint_folder, read_metrics

_STRUCTURES_AT_ONCE = 256


class Run:
    """A finished run; lengths in Å, structures in the frame of the input model.

    Parameters
    ----------
    path
        The run folder.

    Raises
    ------
    InputError
        If the folder holds no finished run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        document = load_document(self.path / "run.yaml")
        self.config: dict[str, Any] = document["config"]
        self.provenance: dict[str, Any] = {k: v for k, v in document.items() if k != "config"}
        self.centre_angstrom = np.array(document["frame"]["centre_angstrom"], dtype=np.float64)
        self.latents = LatentTable.load(self.path / "latents.npz")
        self.method = method_of(self.path, document).with_latent_dim(self.latents.mean.shape[1])

    @cached_property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Columns of `metrics.csv`."""
        return read_metrics(self.path / "metrics.csv")

    @cached_property
    def particles(self) -> ParticleSet:
        """The particles, with their latents among the columns."""
        return ParticleSet.read(self.path / "particles.star")

    @property
    def options(self) -> MethodOptions:
        """What the run was asked for, numbers filled in, as the method takes it."""
        return self.method.options

    @cached_property
    def molecule(self) -> Molecule:
        """What the run moves, as it was before training."""
        return self.method.load(self.path, self.centre_angstrom)

    @property
    def reference(self) -> Reference:
        """The molecule as motion and renderer see it."""
        return self.molecule.reference

    @cached_property
    def carried_model(self) -> CarriedModel:
        """The atoms that move with the motion: the molecule's own, or those of another model."""
        reference = self.reference
        atoms = {
            half: motion.at_rest(reference.atoms).detach() for half, motion in self.motions.items()
        }
        return CarriedModel(self.molecule.model, atoms, reference.atom_owner, {})

    @cached_property
    def model(self) -> AtomicModel:
        """The atoms that are moved: of the nominal model, or pseudo-atoms."""
        return self.carried_model.model

    def with_model(self, model: AtomicModel) -> Run:
        """Return the same run, carrying another model along.

        A run whose reference is an atomic model takes it to be in that model's state. Pseudo-atoms
        stand for a map: there the state that the model shows is found by density, and the model
        pulled back from it (`carried_model.states`).

        Parameters
        ----------
        model
            Atomic model in the frame of the run's own model or map.

        Returns
        -------
        Run
            Whose structures are those of `model`.
        """
        local = torch.as_tensor(
            model.positions_angstrom - self.centre_angstrom, dtype=torch.float32
        )
        owner = self._nearest(local)
        atoms = dict.fromkeys(self.motions, local)
        states = {}
        for half, decoder in self.decoders.items():
            if decoder.motion.learns_reference:
                rows = images_of_model(half, self.latents.half)
                candidates = self.latents.mean[rows].astype(np.float64)
                atoms[half], states[half] = find_state(
                    decoder, candidates, model, self.centre_angstrom
                )
        other = copy.copy(self)
        vars(other).update(carried_model=CarriedModel(model, atoms, owner, states), model=model)
        return other

    @cached_property
    def decoders(self) -> dict[int, Decoder]:
        """What turns latents into Gaussians, as trained: by half set, or one under 0."""
        halves = model_keys(two_models=self.options.training.halves)
        return {half: self._load_decoder(half) for half in halves}

    @cached_property
    def motions(self) -> dict[int, Motion]:
        """The trained motion models: by half set, or one under 0."""
        return {half: decoder.motion for half, decoder in self.decoders.items()}

    def _load_decoder(self, half: int) -> Decoder:
        motion = self.method.make_motion(self.reference)
        tensors, _ = load_checkpoint(checkpoint_folder(self.path, half))
        prefix = "motion."
        motion.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        return Decoder(motion, self.reference).eval()

    def observations(
        self, rows: Int[np.ndarray, " k"], advance: Callable[[int], None] | None = None
    ) -> Observations:
        """Prepare some of the images as they were for training; their order is that of `rows`."""
        images = replace(self.options.training.images, coefficients="exact", cache=None)
        return prepare_images(self.particles[rows], images, self.path, advance)

    def likelihood(self, half: int, band: FourierBand) -> Likelihood:
        """Return the Gaussian likelihood of a trained model, with the signal scale and noise power
        it was left with.

        Parameters
        ----------
        half
            A key of `motions`.
        band
            The band of the images, as `observations` prepares them.
        """
        forward = self.method.make_forward(self.reference, band, torch.device("cpu"))
        tensors, _ = load_checkpoint(checkpoint_folder(self.path, half))
        signal = SignalAndNoise(tensors["signal.scale"], tensors["signal.variance"])
        return Likelihood(forward, GaussianLikelihood(), signal)

    def consensus(self) -> tuple[DensityMap, Solid, Bool[np.ndarray, "n n n"]]:
        """Read the consensus map the run began with; also where it is molecule: coarsely, and on
        its own grid.
        """
        density, solid = self.method.consensus(self.path)
        scale = density.pixel_size_angstrom / solid.step_angstrom
        offset = np.rint((np.arange(density.box_px) - density.box_px // 2) * scale).astype(int)
        cell = (offset + len(solid.inside) // 2).clip(0, len(solid.inside) - 1)
        return density, solid, solid.inside[np.ix_(cell, cell, cell)]

    def motion_of(self, image: int) -> tuple[Motion, Float[Tensor, " d"]]:
        """Return the motion model of an image's half set, and the image's latent position."""
        (model,) = model_of_image(self.latents.half[[image]], self.motions)
        return self.motions[int(model)], _tensor(self.latents.mean[image])

    @property
    def motion(self) -> Motion:
        """The motion model, of half set 1 where there are two."""
        return next(iter(self.motions.values()))

    @property
    def unmodelled(self) -> Unmodelled:
        """How far molecules stray from the kind of motion that was fitted."""
        return self.motion.unmodelled

    @property
    def memberships(self) -> Float[np.ndarray, "residues segments"]:
        """Soft assignment of residues to segments; what is no polymer has the row of the residue it
        rides with.
        """
        with torch.no_grad():
            of_point = self.motion.memberships().numpy()
        return of_point[self.carried_model.owner.numpy()[self.model.centre_atom]]

    def decode(
        self, z: Float[np.ndarray, "m d"], half: int | None = None
    ) -> Float[np.ndarray, "m residues 3"]:
        """Centres of all residues at latent positions z, by the model of a half set where there are
        two.
        """
        return self._decode(z, half, torch.as_tensor(self.model.centre_atom))

    def decode_atoms(
        self, z: Float[np.ndarray, "m d"], half: int | None = None
    ) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms at latent positions z."""
        return self._decode(z, half, torch.arange(self.model.n_atoms))

    def structures(self, images: ArrayLike) -> Float[np.ndarray, "m atoms 3"]:
        """All atoms of the molecules in these images (rows of the particle set)."""
        return (
            self._of_images(images, self.carried_model.atoms, self.carried_model.owner)
            + self.centre_angstrom
        )

    def residues(self, images: ArrayLike) -> Float[np.ndarray, "m residues 3"]:
        """Residue centres of the molecules in these images."""
        chosen = torch.as_tensor(self.model.centre_atom)
        centres = {half: atoms[chosen] for half, atoms in self.carried_model.atoms.items()}
        return (
            self._of_images(images, centres, self.carried_model.owner[chosen])
            + self.centre_angstrom
        )

    def displacements(
        self, points: Float[np.ndarray, "p 3"], images: ArrayLike
    ) -> Float[np.ndarray, "m p 3"]:
        """How far points of the nominal model's frame move in these images; a point rides with its
        nearest residue.
        """
        local = torch.as_tensor(np.asarray(points) - self.centre_angstrom, dtype=torch.float32)
        owner = self._nearest(local)
        return self._of_images(images, dict.fromkeys(self.motions, local), owner) - local.numpy()

    def _nearest(self, local: Float[Tensor, "p 3"]) -> Int[Tensor, " p"]:
        """Residue (or pseudo-atom) of the reference that each point is nearest to."""
        return torch.from_numpy(cKDTree(self.reference.points.numpy()).query(local.numpy())[1])

    def _decode(
        self, z: Float[np.ndarray, "m d"], half: int | None, chosen: Tensor
    ) -> NDArray[np.float64]:
        which = next(iter(self.motions)) if half is None else half
        atoms = self.carried_model.atoms[which][chosen]
        owner = self.carried_model.owner[chosen]
        return self._move(z, atoms, owner, self.motions[which]) + self.centre_angstrom

    def _of_images(
        self, images: ArrayLike, points: Mapping[int, Tensor], owner: Tensor
    ) -> NDArray[np.float64]:
        """Move points, given in the reference of each half set, as in some images."""
        chosen: NDArray[np.int64] = np.atleast_1d(np.asarray(images))
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self.latents.index)):
            problem = (
                f"there is no particle {int(chosen.max())}: the run has {len(self.latents.index)}"
            )
            raise InputError(self.path, problem, "Rows count from 0")
        moved = np.empty((len(chosen), len(owner), 3))
        for half, motion in self.motions.items():
            rows = images_of_model(half, self.latents.half[chosen])
            if rows.size:
                moved[rows] = self._move(
                    self.latents.mean[chosen[rows]], points[half], owner, motion
                )
        return moved

    @torch.no_grad()
    def _move(
        self, z: NDArray[np.floating], points: Tensor, owner: Tensor, motion: Motion
    ) -> NDArray[np.float64]:
        parts = [
            motion.move(part, points, owner).numpy()
            for part in _tensor(z).split(_STRUCTURES_AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, len(points), 3))


def _tensor(z: ArrayLike) -> Tensor:
    return torch.as_tensor(np.asarray(z), dtype=torch.float32)
