"""Volumes that are linear in some coefficients of each image: V_i = C + E + Σ_j c_ij V_j, solved
for exactly.

The normal equations of all volumes together are small ones, one a Fourier coefficient, because
slices without motion are sparse there: with M_jl = Σ_i p_i c_ij c_il and d_j = Σ_i c_ij CTF_i y_i /
σ² inserted into Fourier volumes (c_i0 = 1), Σ_l M_jl V_l = d_j. Elimination of V_0 puts the
consensus C = d_0 / M_00 of all images in its place, and E = −Σ_j (M_0j / M_00) V_j makes up for it
where coefficients do not average to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray

from kinesphere.kernels import slices as slice_kernels
from kinesphere.reconstruction.fourier_volume import (
    PADDING,
    SlicePlan,
    apodisation_of_box,
    crop_centre,
    pad_centre,
    shell_mean,
    shell_of_volume,
    symmetrise_plane,
)
from kinesphere.reconstruction.fsc import fourier_shell_correlation
from kinesphere.reconstruction.images import WeightedBatch, WeightedImages
from kinesphere.reconstruction.masks import sphere_mask
from kinesphere.volumes.kernel import filter_shells

_IMAGES_AT_ONCE = 64
_FLOOR = 1e-3  # of a shell's mean precision, as in `homogeneous_filter`
_SPHERE_EDGE_PX = 3.0


class LowBand:
    """Images cropped in Fourier space to a smaller box, and only coefficients below its Nyquist
    frequency.

    Parameters
    ----------
    images
        Weighted by CTF and noise.
    box
        Even, at most that of the images.
    """

    def __init__(self, images: WeightedImages, box: int) -> None:
        self.images = images
        self.box = box
        self.plan = SlicePlan.of_box(box)
        full = images.grid.box
        row = np.rint(self.plan.ky).astype(np.int64) % full
        self._index = torch.from_numpy(
            row * (full // 2 + 1) + np.rint(self.plan.kx).astype(np.int64)
        )

    def batch(self, rows: Int[np.ndarray, " b"]) -> LowBatch:
        """Read some images."""
        batch: WeightedBatch = self.images.batch(rows)
        data, precision = (
            values.flatten(1).index_select(1, self._index).numpy()
            for values in (batch.data, batch.precision)
        )
        return LowBatch(data, precision, batch.rotation.contiguous().numpy())


@dataclass(frozen=True, eq=False)
class LowBatch:
    """Coefficients of some images: (b, m) CTF · image / σ², (b, m) CTF² / σ², (b, 3, 3)
    rotations.
    """

    data: Complex[np.ndarray, "b m"]
    precision: Float[np.ndarray, "b m"]
    rotation: Float[np.ndarray, "b 3 3"]


@dataclass(frozen=True, eq=False)
class VolumeComponents:
    """Maps on the small box, `[z, y, x]`.

    Parameters
    ----------
    consensus
        (n, n, n) C, of all images.
    offset
        (n, n, n) E.
    varying
        (j, n, n, n) V_j.
    """

    consensus: Float[np.ndarray, "n n n"]
    offset: Float[np.ndarray, "n n n"]
    varying: Float[np.ndarray, "j n n n"]

    def stack(self) -> Float[np.ndarray, "j_and_2 n n n"]:
        """C, E, V_1 … V_j."""
        return np.concatenate([self.consensus[None], self.offset[None], self.varying])

    def filtered(self, weight: Float[np.ndarray, "j_and_1 shells"]) -> VolumeComponents:
        """Multiply shells of C (the first row) and of each V_j; E follows as the V_j would, by
        their mean weight.
        """
        of_varying = weight[1:].mean(axis=0) if len(weight) > 1 else np.zeros(weight.shape[1])
        varying = [filter_shells(v, w) for v, w in zip(self.varying, weight[1:], strict=True)]
        return VolumeComponents(
            filter_shells(self.consensus, weight[0]).astype(np.float32),
            filter_shells(self.offset, of_varying).astype(np.float32),
            np.array(varying, dtype=np.float32).reshape(self.varying.shape),
        )


class ComponentSums:
    """The normal equations of volumes that are linear in J coefficients.

    Parameters
    ----------
    box
        Edge of the small box.
    n_varying
        J.
    """

    def __init__(self, box: int, n_varying: int) -> None:
        self.box = box
        self.size = PADDING * box
        self.n_factors = n_varying + 1
        n_values = 2 * self.n_factors + self.n_factors * (self.n_factors + 1) // 2
        self.sums = np.zeros((self.size, self.size, self.size // 2 + 1, n_values), dtype=np.float32)

    def insert(
        self, batch: LowBatch, plan: SlicePlan, coefficients: Float[np.ndarray, "b j"]
    ) -> None:
        """Add images with their coefficients."""
        factors = np.concatenate([np.ones((len(coefficients), 1)), coefficients], axis=1).astype(
            np.float32
        )
        slice_kernels.insert_components(
            self.sums,
            batch.data,
            batch.precision,
            factors,
            batch.rotation,
            plan.kx,
            plan.ky,
            plan.weight,
            np.float32(PADDING),
        )

    def __add__(self, other: ComponentSums) -> ComponentSums:
        """Add the sums over the images of another part."""
        total = ComponentSums(self.box, self.n_factors - 1)
        np.add(self.sums, other.sums, out=total.sums)
        return total

    def solve(self) -> VolumeComponents:
        """Solve the normal equations, coefficient by coefficient; shells from Nyquist on are zero.

        Precisions have a floor, as in `homogeneous_filter`: what no image of some state shows stays
        small.
        """
        data, precision = self._equations()
        shell = shell_of_volume(self.size, self.box)
        floor = np.append(_FLOOR * shell_mean(precision[..., 0, 0], shell, self.box // 2), np.inf)
        floor = np.where(floor > 0, floor, np.inf)[np.minimum(shell, self.box // 2)]
        spectra = np.zeros((self.n_factors + 1, *shell.shape), dtype=np.complex64)  # C, E, V_j
        for plane in range(self.size):  # one plane at a time bounds the memory of double precision
            seen = np.isfinite(floor[plane])
            m = precision[plane][seen].astype(np.float64)
            d = data[plane][seen].astype(np.complex128)
            lowest = floor[plane][seen]
            known = np.maximum(m[:, 0, 0], lowest)
            consensus = d[:, 0] / known
            mean = m[:, 0, 1:] / known[:, None]
            reduced = m[:, 1:, 1:] - mean[:, :, None] * m[:, 0, None, 1:]
            reduced += lowest[:, None, None] * np.eye(self.n_factors - 1)
            varying = np.linalg.solve(
                reduced, (d[:, 1:] - m[:, 0, 1:] * consensus[:, None])[..., None]
            )[..., 0]
            solved = np.concatenate(
                [consensus[:, None], -(mean * varying).sum(1)[:, None], varying], axis=1
            )
            spectra[:, plane, seen] = solved.T
        maps = np.stack([self._to_map(spectrum) for spectrum in spectra])
        return VolumeComponents(maps[0], maps[1], maps[2:])

    def _equations(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """(…, f) data and (…, f, f) precision of every coefficient of the half volume."""
        n = self.n_factors
        data = np.empty((*self.sums.shape[:3], n), dtype=np.complex64)
        precision = np.empty((*self.sums.shape[:3], n, n), dtype=np.float32)
        for one in range(n):
            data[..., one] = symmetrise_plane(
                self.sums[..., 2 * one] + 1j * self.sums[..., 2 * one + 1]
            )
        pairs = [(one, other) for one in range(n) for other in range(one, n)]
        for at, (one, other) in enumerate(pairs):
            precision[..., one, other] = precision[..., other, one] = symmetrise_plane(
                self.sums[..., 2 * n + at].copy()
            )
        return data, precision

    def _to_map(self, spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
        real = scipy.fft.irfftn(spectrum, s=(self.size,) * 3, workers=torch.get_num_threads())
        sphere = sphere_mask(self.box, self.box / 2 + _SPHERE_EDGE_PX, _SPHERE_EDGE_PX)
        density: NDArray[np.float32] = (
            crop_centre(real, self.box) / apodisation_of_box(self.box) * sphere
        ).astype(np.float32)
        return density


class SliceSampler:
    """Projects the maps of some `VolumeComponents` without motion.

    Parameters
    ----------
    components
        On the small box.
    """

    def __init__(self, components: VolumeComponents) -> None:
        maps = components.stack()
        box = maps.shape[-1]
        size = PADDING * box
        volume = np.empty((size, size, size // 2 + 1, 2 * len(maps)), dtype=np.float32)
        for number, density in enumerate(maps):
            padded = pad_centre((density / apodisation_of_box(box)).astype(np.float32), size)
            spectrum = scipy.fft.rfftn(padded, workers=torch.get_num_threads())
            volume[..., 2 * number] = spectrum.real
            volume[..., 2 * number + 1] = spectrum.imag
        self._volume = volume

    def slices(
        self, rotation: Float[np.ndarray, "b 3 3"], plan: SlicePlan
    ) -> Complex[np.ndarray, "b m maps"]:
        """Give the Fourier coefficients of the projections of every map."""
        values = np.empty((len(rotation), len(plan.kx), self._volume.shape[-1]), dtype=np.float32)
        slice_kernels.sample_slices(
            values, self._volume, rotation, plan.kx, plan.ky, np.float32(PADDING)
        )
        slices: NDArray[np.complex64] = values.view(np.complex64)
        return slices


@dataclass(frozen=True, eq=False)
class GainTerms:
    """What the log-likelihood of each image gains over the consensus by b = (1, c): bᵀ l − ½ bᵀ Q
    b, in nats.

    Parameters
    ----------
    linear
        (n, j + 1) l_j = Re Σ_k S_j* (CTF y / σ² − CTF² / σ² S_C), S the slices of E, V_1 … V_j.
    quadratic
        (n, j + 1, j + 1) Q_jl = Re Σ_k CTF² / σ² S_j* S_l.
    """

    linear: Float[np.ndarray, "n f"]
    quadratic: Float[np.ndarray, "n f f"]

    def gain(self, coefficients: Float[np.ndarray, "n j"]) -> Float[np.ndarray, " n"]:
        """Gain of each image over the consensus, nats."""
        b = np.concatenate([np.ones((len(coefficients), 1)), coefficients], axis=1)
        gained: Float[np.ndarray, " n"] = np.einsum("nf,nf->n", b, self.linear) - 0.5 * np.einsum(
            "nf,nfg,ng->n", b, self.quadratic, b
        )
        return gained


def gain_terms(
    low: LowBand,
    rows: Int[np.ndarray, " n"],
    components: VolumeComponents,
    advance: Callable[[int], None] = lambda _: None,
) -> GainTerms:
    """Compare images with the slices of some volumes.

    Parameters
    ----------
    low
        The images.
    rows
        Which of them: not those the volumes were made of, or each would find its own noise in them.
    components
        The volumes.
    advance
        Called with the number of images done since the last call.

    Returns
    -------
    GainTerms
    """
    sampler = SliceSampler(components)
    plan = low.plan
    n_factors = len(components.varying) + 1
    linear = np.empty((len(rows), n_factors))
    quadratic = np.empty((len(rows), n_factors, n_factors))
    # sums over the full plane; noise power is that of one of its coefficients
    weight = 2.0 * plan.weight
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        batch = low.batch(rows[part])
        slices = sampler.slices(batch.rotation, plan)
        still = slices[..., 0]
        moving = slices[..., 1:]
        residual = weight * (batch.data - batch.precision * still)
        linear[part] = np.einsum("bm,bmf->bf", residual.conj(), moving, optimize=True).real
        weighted = (weight * batch.precision)[..., None] * moving
        quadratic[part] = np.einsum("bmf,bmg->bfg", weighted.conj(), moving, optimize=True).real
        advance(len(batch.data))
    return GainTerms(linear, quadratic)


def reliability(
    one: VolumeComponents, other: VolumeComponents
) -> Float[np.ndarray, "j_and_1 shells"]:
    """FSC of C and of each V_j between two independent sets of images; below 0 counts as 0, and so
    does the mean.
    """
    maps = zip((one.consensus, *one.varying), (other.consensus, *other.varying), strict=True)
    curves = np.stack([fourier_shell_correlation(a, b) for a, b in maps])
    curves[1:, 0] = 0.0
    trust: Float[np.ndarray, "j_and_1 shells"] = np.clip(np.nan_to_num(curves), 0.0, 1.0)
    return trust
