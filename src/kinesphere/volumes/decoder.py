"""A volume decoder conditioned on the latent: a small network in front of a grid of Fourier
coefficients.

    V(k; z) = C(k) + E(k) + Σ_j c_j(z) V_j(k)

The network z → c has a few hundred parameters; its last layer, the volumes V_j, has all the others,
is linear, and is solved for exactly (`volumes.linear`) instead of by gradient steps: variable
projection. Volumes are band-limited: they live on a small Fourier-cropped box. Structures have no
part in it: poses and latents are frozen, the rest is images. Decoders of images on latents, without
structures: cryoSTAR's phase II (Li et al. 2023) and DRGN-AI; volumes linear in nonlinear functions
of the latent: Hydra-like mixtures and 3DVA (Punjani & Fleet 2021), of which this is the nonlinear
form.

The images of a half set are cut into two parts. Volumes of one part judge the images of the other,
so that no image finds its own noise again; and what the volumes of both parts agree on, shell by
shell, is how far each is trusted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from kinesphere.errors import InputError
from kinesphere.io.checkpoint import load_checkpoint, save_checkpoint
from kinesphere.reconstruction.images import WeightedImages
from kinesphere.volumes.kernel import wiener_weight
from kinesphere.volumes.linear import (
    ComponentSums,
    GainTerms,
    LowBand,
    VolumeComponents,
    gain_terms,
    reliability,
)

_IMAGES_AT_ONCE = 64
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-4
_RARE = 1e-3
_ALIKE = 1e-5
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True)
class DecoderSettings:
    """The decoder of one half set."""

    n_volumes: int = 4
    """J: volumes that are added to the consensus."""
    width: int = 32
    """Hidden units of the network's two layers."""
    box: int = 64
    """Volumes are made on a Fourier-cropped box of at most that many pixels."""
    rounds: int = 3
    """Times volumes are solved for and the network is trained."""
    steps: int = 500
    """Steps of each training of the network."""
    batch_size: int = 2048
    """Images a step."""
    held_out: float = 0.1
    """Fraction of the images that neither volumes nor network see: they tell what the decoder is
    worth."""

    def n_held_out(self, n_images: int) -> int:
        """Count the images that are held out: at least one."""
        return max(round(self.held_out * n_images), 1)


@dataclass(frozen=True, eq=False)
class VolumeDecoder:
    """The decoder of one half set.

    Parameters
    ----------
    network
        z → c.
    components
        Volumes on the small box, each shell of V_j times how far V_j is trusted there in comparison
        with the others.
    gain
        Nats an image that the decoder gains over the consensus in images that it has not seen.
    gain_error
        Standard error of `gain`.
    box
        Edge of the box of the images.
    """

    network: CoefficientNetwork
    components: VolumeComponents
    gain: float
    gain_error: float
    box: int

    def difference(self, z: ArrayLike) -> Float[np.ndarray, "n n n"]:
        """Give V(z) − C on the box of the images.

        Parameters
        ----------
        z
            (d,) place of the latent space.

        Returns
        -------
        ndarray
            (n, n, n) `[z, y, x]`; nothing beyond the small box's Nyquist frequency.
        """
        place = torch.from_numpy(np.asarray(z, dtype=np.float32)).reshape(1, -1)
        with torch.no_grad():
            c = self.network(place)[0].numpy()
        low = self.components.offset + np.tensordot(c, self.components.varying, axes=1)
        return enlarge(low, self.box)

    def save(self, folder: Path, name: str, fingerprint: str) -> None:
        """Write the decoder as a checkpoint.

        Parameters
        ----------
        folder, name
            Of the checkpoint.
        fingerprint
            Of what the decoder was trained on.
        """
        maps = {key: torch.from_numpy(value) for key, value in vars(self.components).items()}
        network = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        about = {"gain": self.gain, "gain_error": self.gain_error, "box": self.box}
        save_checkpoint(folder, name, maps | network, about | {"fingerprint": _digest(fingerprint)})

    @classmethod
    def find(cls, folder: Path, name: str, fingerprint: str) -> VolumeDecoder | None:
        """Read a decoder back.

        Parameters
        ----------
        folder, name, fingerprint
            As for `save`.

        Returns
        -------
        VolumeDecoder or None
            None where there is none of that fingerprint, with the present default settings.
        """
        try:
            tensors, about = load_checkpoint(folder, name)
        except InputError:
            return None
        if about.pop("fingerprint") != _digest(fingerprint):
            return None
        state = {
            key.removeprefix("network."): tensors.pop(key)
            for key in list(tensors)
            if key.startswith("network.")
        }
        settings = DecoderSettings()
        network = CoefficientNetwork(
            np.zeros((2, len(state["mean"]))), settings.n_volumes, settings.width, 0
        )
        network.load_state_dict(state)
        return cls(
            network,
            VolumeComponents(**{key: value.numpy() for key, value in tensors.items()}),
            **about,
        )


def _digest(fingerprint: str) -> str:
    """Tell decoders of other settings apart, too."""
    text = json.dumps(asdict(DecoderSettings()), sort_keys=True) + fingerprint
    return hashlib.sha256(text.encode()).hexdigest()


def enlarge(density: Float[np.ndarray, "m m m"], box: int) -> Float[np.ndarray, "n n n"]:
    """Put a map on a larger box of finer voxels; Fourier coefficients below Nyquist keep their
    values.

    Parameters
    ----------
    density
        (m, m, m), the centre at m // 2.
    box
        n ≥ m.

    Returns
    -------
    ndarray
        (n, n, n), the centre at n // 2.
    """
    small = density.shape[0]
    if small == box:
        return density.astype(np.float32)
    spectrum = scipy.fft.rfftn(scipy.fft.ifftshift(density.astype(np.float64)))
    half = (small - 1) // 2
    index = np.r_[0 : half + 1, -half:0]
    larger = np.zeros((box, box, box // 2 + 1), dtype=np.complex128)
    larger[np.ix_(index, index, np.arange(half + 1))] = spectrum[
        np.ix_(index, index, np.arange(half + 1))
    ]
    enlarged: NDArray[np.float32] = scipy.fft.fftshift(
        scipy.fft.irfftn(larger, s=(box,) * 3)
    ).astype(np.float32)
    return enlarged


def train_decoder(
    images: WeightedImages,
    rows: Int[np.ndarray, " n"],
    latents: Float[np.ndarray, "n d"],
    settings: DecoderSettings | None = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> VolumeDecoder:
    """Train the decoder of one half set.

    Parameters
    ----------
    images
        Weighted by CTF and noise.
    rows
        Particles of the half set.
    latents
        (n, d) their posterior means.
    settings
        See `DecoderSettings`.
    seed
        Of which images are held out, of the parts, and of the network.
    advance
        Called with the number of images done since the last call; an exception there leaves.

    Returns
    -------
    VolumeDecoder
    """
    settings = settings or DecoderSettings()
    order = np.random.default_rng(seed).permutation(len(rows))
    n_held = settings.n_held_out(len(rows))
    held = np.sort(order[:n_held])
    seen = order[n_held:]
    training = _Training(
        LowBand(images, min(settings.box, images.grid.box // 2 * 2)),
        rows,
        torch.from_numpy(np.asarray(latents, dtype=np.float32)),
        (np.sort(seen[::2]), np.sort(seen[1::2])),
        settings,
        advance,
    )
    network = CoefficientNetwork(latents[np.sort(seen)], settings.n_volumes, settings.width, seed)
    for number in range(settings.rounds):
        training.improve(network, seed + number)
    sums = training.sums(network)
    trust = reliability(*(part.solve() for part in sums))
    components = (sums[0] + sums[1]).solve()
    filtered = components.filtered(wiener_weight(trust))
    unseen = gain_terms(training.low, rows[held], filtered, advance).gain(
        training.coefficients(network, held)
    )
    return VolumeDecoder(
        network,
        components.filtered(_in_comparison(wiener_weight(trust))),
        float(unseen.mean()),
        float(unseen.std() / len(unseen) ** 0.5),
        images.grid.box,
    )


def n_readings(n_images: int, settings: DecoderSettings | None = None) -> int:
    """Count how often `train_decoder` reads an image, for all images together."""
    settings = settings or DecoderSettings()
    n_held = settings.n_held_out(n_images)
    return (2 * settings.rounds + 1) * (n_images - n_held) + n_held


def _in_comparison(
    weight: Float[np.ndarray, "j_and_1 shells"],
) -> Float[np.ndarray, "j_and_1 shells"]:
    """Divide by the largest weight of any V_j in each shell: how far the sum is trusted, half sets
    decide.
    """
    largest = weight[1:].max(axis=0)
    return np.divide(weight, largest, out=np.zeros_like(weight), where=largest > 0)


@dataclass(frozen=True, eq=False)
class _Training:
    """What every round of training needs."""

    low: LowBand
    rows: NDArray[np.int64]
    latents: Tensor
    parts: tuple[NDArray[np.int64], NDArray[np.int64]]
    settings: DecoderSettings
    advance: Callable[[int], None]

    def coefficients(
        self, network: CoefficientNetwork, some: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        with torch.no_grad():
            values: NDArray[np.float32] = network(self.latents[some]).numpy()
        return values

    def sums(self, network: CoefficientNetwork) -> tuple[ComponentSums, ComponentSums]:
        """Insert the images of each part."""
        both = []
        for part in self.parts:
            sums = ComponentSums(self.low.box, self.settings.n_volumes)
            coefficients = self.coefficients(network, part)
            for start in range(0, len(part), _IMAGES_AT_ONCE):
                some = slice(start, start + _IMAGES_AT_ONCE)
                sums.insert(
                    self.low.batch(self.rows[part[some]]), self.low.plan, coefficients[some]
                )
                self.advance(len(part[some]))
            both.append(sums)
        return both[0], both[1]

    def improve(self, network: CoefficientNetwork, seed: int) -> None:
        """Solve for volumes, then train the network against those of the other part."""
        components = [sums.solve() for sums in self.sums(network)]
        trust = reliability(*components)  # the FSC of two parts is the Wiener weight of one
        terms = [
            gain_terms(self.low, self.rows[part], other.filtered(trust), self.advance)
            for part, other in zip(self.parts, components[::-1], strict=True)
        ]
        rows = np.concatenate(self.parts)
        both = GainTerms(
            np.concatenate([t.linear for t in terms]), np.concatenate([t.quadratic for t in terms])
        )
        _train_network(network, self.latents[rows], both, self.settings, seed)
        network.whiten(self.latents[rows])


def _train_network(
    network: CoefficientNetwork,
    latents: Tensor,
    terms: GainTerms,
    settings: DecoderSettings,
    seed: int,
) -> None:
    """Maximise the gain of all images over the network's parameters, volumes kept."""
    linear, quadratic = (
        torch.from_numpy(values).float() for values in (terms.linear, terms.quadratic)
    )
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        some = torch.randperm(len(latents), generator=generator)[: settings.batch_size]
        c = network(latents[some])
        b = torch.cat([torch.ones_like(c[:, :1]), c], dim=1)
        gain = (b * linear[some]).sum(1) - 0.5 * torch.einsum("nf,nfg,ng->n", b, quadratic[some], b)
        optimiser.zero_grad()
        (-gain.mean()).backward()
        optimiser.step()
        schedule.step()


class CoefficientNetwork(nn.Module):
    """Coefficients of the latents: polynomials mixed linearly, plus a small multilayer perceptron
    that starts at zero.

    Inputs are clamped to the range of the latents it was made for: beyond it, nothing is known.

    Parameters
    ----------
    latents
        (n, d) of the images to come, for scale and range.
    n_coefficients
        J.
    width
        Hidden units.
    seed
        Of the initial weights.
    """

    mean: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor
    whitening: Tensor

    def __init__(
        self, latents: Float[np.ndarray, "n d"], n_coefficients: int, width: int, seed: int
    ) -> None:
        super().__init__()
        z = torch.from_numpy(np.asarray(latents, dtype=np.float32))
        spread = z.double().std(0, correction=0)
        size = z.double().abs().amax(0)
        self.register_buffer("mean", z.double().mean(0).float())
        # a dimension in which all are alike, to rounding, counts for nothing
        self.register_buffer(
            "spread", torch.where(spread > _ALIKE * size, spread, torch.inf).float()
        )
        scaled = ((z - self.mean) / self.spread).double().numpy()
        for name, quantile in (("low", _RARE), ("high", 1 - _RARE)):
            self.register_buffer(
                name, torch.from_numpy(np.quantile(scaled, quantile, axis=0)).float()
            )
        self.register_buffer("centre", torch.zeros(n_coefficients))
        self.register_buffer("whitening", torch.eye(n_coefficients))
        d = z.shape[1]
        self._powers = _first_powers(d, n_coefficients)
        self.first = nn.Linear(d, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, n_coefficients)
        self.mixing = nn.Parameter(torch.eye(n_coefficients))
        self._initialise(torch.Generator().manual_seed(seed))
        self.whiten(z)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for layer in (self.first, self.second):
            n_out, n_in = layer.weight.shape
            layer.weight.copy_(torch.randn(n_out, n_in, generator=generator) / n_in**0.5)
            layer.bias.copy_(torch.randn(n_out, generator=generator))
        self.last.weight.zero_()
        self.last.bias.zero_()

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n j"]:
        """Give the coefficients at some places of the latent space."""
        return (self._raw(z) - self.centre) @ self.whitening

    def _raw(self, z: Tensor) -> Tensor:
        x = torch.clamp((z - self.mean) / self.spread, self.low, self.high)
        polynomials = torch.stack([torch.prod(x**power, dim=1) for power in self._powers], dim=1)
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        raw: Tensor = polynomials @ self.mixing + self.last(hidden)
        return raw

    @torch.no_grad()
    def whiten(self, z: Float[Tensor, "n d"]) -> None:
        """Give the coefficients of some latents mean zero and unit covariance; directions of no
        variance go.
        """
        raw = self._raw(z)
        mean = raw.mean(0)
        values, vectors = torch.linalg.eigh(
            torch.cov((raw - mean).T.double(), correction=0).reshape(2 * (raw.shape[1],))
        )
        kept = values > _LEAST_VARIANCE * values[-1].clamp_min(torch.finfo(torch.float32).tiny)
        scale = torch.where(kept, values.clamp_min(torch.finfo(torch.float32).tiny).rsqrt(), 0.0)
        self.centre.copy_(mean)
        self.whitening.copy_((vectors * scale).flip(1).float())


def _first_powers(d: int, n: int) -> Tensor:
    """(n, d) exponents of the first polynomials in order of degree: z1, z2, z1², z1 z2, z2², …"""
    powers: list[tuple[int, ...]] = []
    degree = 1
    while len(powers) < n:
        powers += sorted(_of_degree(d, degree), reverse=True)
        degree += 1
    return torch.tensor(powers[:n])


def _of_degree(d: int, degree: int) -> list[tuple[int, ...]]:
    if d == 1:
        return [(degree,)]
    return [
        (first, *rest) for first in range(degree + 1) for rest in _of_degree(d - 1, degree - first)
    ]
