"""Train DynaMight, or backproject with it, for a number of passes on one CPU thread; run by
DynaMight's own Python.

    OMP_NUM_THREADS=1 PYTHON_OF_DYNAMIGHT benchmarks/peers/run_dynamight.py DATA --task train
    --gaussians 500 --passes 2

`train` calls the program's `train_epoch` with one of its two half-set models and all images, in the
regime after its warm-up (all losses, all optimisers), with the network sizes of its command. What
its command does besides in every epoch (validation, calibration, figures) is left out, and images
are read once, not in every pass: both to its advantage. `backproject` calls
`backproject_single_image` in the loop of its command, which itself insists on a GPU, with a network
of the program's size. Half precision, meant for a GPU, is replaced by single: on a CPU that is
faster. DATA is a folder made by data.py. Networks have their initial weights: what a step
costs does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch

_LATENT_DIMENSIONS = 6
_SOFT_EDGE_ANGSTROM = 20


def main() -> None:
    """Do as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=("train", "backproject"), default="train")
    parser.add_argument("--gaussians", type=int, default=500)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--images", type=int, help="use so many of the images; all, where not given"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    without_viewers()
    particles = Particles(options.data, options.batch, options.images)
    {"train": train, "backproject": backproject}[options.task](particles, options)


def without_viewers() -> None:
    """Put mocks in the place of what only draws: a package that needs a GPU, and the program's own
    windows.
    """
    for name in ("tsnecuda", "dynamight.evaluation"):
        sys.modules[name] = MagicMock()


class Particles:
    """The images with their poses, read and prepared as the program does."""

    def __init__(self, data: Path, batch_size: int, n_images: int | None) -> None:
        from dynamight.data.dataloaders.relion import RelionDataset
        from dynamight.data.handlers.particle_image_preprocessor import ParticleImagePreprocessor

        star = RelionDataset(
            str((data / "particles.star").resolve()), circular_mask_thickness=_SOFT_EDGE_ANGSTROM
        )
        self.dataset = star.make_particle_dataset()
        self.dataset.preload_images()
        self.box, self.pixel_size = star.box_size, star.pixel_spacing_angstroms
        n_images = n_images or len(self.dataset)
        some = torch.utils.data.Subset(self.dataset, range(n_images))
        self.loader = torch.utils.data.DataLoader(some, batch_size=batch_size, shuffle=True)
        self.angles = torch.nn.Parameter(torch.tensor(self.dataset.part_rotation).float())
        self.shifts = torch.nn.Parameter(-torch.tensor(self.dataset.part_translation).float())
        self.preprocessor = ParticleImagePreprocessor()
        self.preprocessor.initialize_from_stack(
            stack=next(iter(self.loader))["image"],
            circular_mask_radius=star.particle_diameter / (2 * self.pixel_size),
            circular_mask_thickness=_SOFT_EDGE_ANGSTROM / self.pixel_size,
        )
        self.preprocessor.set_device("cpu")
        self.about = json.loads((data / "about.json").read_text())
        self.map = data / "consensus.mrc"


def make_decoder(particles: Particles, n_gaussians: int) -> Any:
    """Make the decoder of the program's command, its Gaussians where the map is dense."""
    import mrcfile
    from dynamight.models.blocks import LinearBlock
    from dynamight.models.decoder import DisplacementDecoder
    from dynamight.models.utils import initialize_points_from_volume
    from dynamight.utils import utils_new as utils

    volume = torch.tensor(mrcfile.read(particles.map))
    points = initialize_points_from_volume(
        volume.movedim(0, 2).movedim(0, 1),
        threshold=utils.compute_threshold(volume, 99),
        n_points=n_gaussians,
    )
    decoder = DisplacementDecoder(
        particles.box,
        particles.pixel_size,
        "cpu",
        _LATENT_DIMENSIONS,
        n_gaussians,
        n_classes=1,
        n_layers=8,
        n_neurons_per_layer=32,
        block=LinearBlock,
        pos_enc_dim=10,
        grid_oversampling_factor=utils.calculate_grid_oversampling_factor(particles.box),
        model_positions=points,
    )
    decoder.warmup = False
    for parameter in (
        decoder.amp,
        decoder.ampvar,
        decoder.image_smoother.B,
        decoder.model_positions,
    ):
        parameter.requires_grad = True
    decoder.compute_neighbour_graph()
    decoder.compute_radius_graph()
    return decoder


def train(particles: Particles, options: argparse.Namespace) -> None:
    """Train one model on all images."""
    from dynamight.deformations._train_single_epoch_half import train_epoch
    from dynamight.models.constants import RegularizationMode
    from dynamight.models.encoder import HetEncoder
    from dynamight.utils import utils_new as utils

    decoder = make_decoder(particles, options.gaussians)
    encoder = HetEncoder(particles.box, _LATENT_DIMENSIONS, 1)
    adam = torch.optim.Adam
    weights = torch.ones(decoder.radius_graph.shape[1])
    latents = torch.zeros(len(particles.dataset), _LATENT_DIMENSIONS).numpy()
    networks = utils.add_weight_decay_to_named_parameters(decoder, weight_decay=0.0)
    optimizers = (
        adam(encoder.parameters(), lr=1e-3),
        adam(networks, lr=1e-3),
        adam(decoder.physical_parameters, lr=1e-4),
        adam(decoder.baseline_parameters, lr=1e-1),
    )
    for epoch in range(options.passes):
        train_epoch(
            encoder,
            optimizers[0],
            decoder,
            *optimizers[1:],
            particles.loader,
            particles.angles,
            particles.shifts,
            particles.preprocessor,
            epoch,
            0,
            utils.generate_data_normalization_mask(particles.box, dampening_factor=0, device="cpu"),
            latents,
            latent_weight=0.01 / particles.box**2,
            regularization_parameter=1.0,
            consensus_update_pooled_particles=100,
            regularization_mode=RegularizationMode.MAP,
            edge_weights=weights,
            edge_weights_dis=weights,
        )


def backproject(particles: Particles, options: argparse.Namespace) -> None:
    """Backproject all images, each along a deformation of its own."""
    torch.float16 = torch.float32
    from dynamight.deformable_backprojection import backprojection_utils as tools
    from dynamight.models.blocks import LinearBlock
    from dynamight.models.decoder import InverseDisplacementDecoder
    from dynamight.models.pose import PoseModule

    box, downsample = particles.box, 2
    decoder = make_decoder(particles, options.gaussians)
    inverse = InverseDisplacementDecoder(
        "cpu", _LATENT_DIMENSIONS, options.gaussians, 6, 96, LinearBlock, 6, box
    ).eval()
    axis = torch.linspace(-0.5, 0.5, box // downsample)
    grid = torch.stack(
        [each.ravel() for each in torch.meshgrid(axis, axis, axis, indexing="ij")], 1
    )
    grid, _ = tools.get_ess_grid(grid, decoder.model_positions, box)
    interpolator = tools.DeformationInterpolator("cpu", grid, grid, box, downsample)
    rotation = tools.RotateVolume(box, "cpu")
    poses = PoseModule(box, "cpu", particles.angles.detach(), particles.shifts.detach())
    volume, weight = torch.zeros(box, box, box), torch.zeros(box, box, box)
    latents = torch.randn(len(particles.dataset), _LATENT_DIMENSIONS)
    for _ in range(options.passes):
        for sample in particles.loader:
            density, power = tools.backproject_single_image(
                latents[sample["idx"]],
                decoder,
                inverse,
                grid,
                interpolator,
                rotation,
                sample["idx"],
                poses,
                sample["image"].float(),
                sample["ctf"],
                particles.preprocessor,
            )
            volume += density.squeeze() / len(particles.dataset)
            weight += power.squeeze() / len(particles.dataset)


if __name__ == "__main__":
    main()
