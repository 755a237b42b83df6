"""How the nodes of the lattice move in each image: not at all, or as a finished run found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.imaging.pose import project_points
from kinesphere.kernels import carriers
from kinesphere.runs.halves import images_of_model

_NEIGHBOURS = carriers.TERMS
_IMAGES_IN_MEAN = 1000
_IMAGES_AT_ONCE = 100
_LAST_WEIGHT = 1e-6
_WIDTH_IN_SPACINGS = 1.0
_RIDGE_IN_WIDTHS = 0.2
_LARGEST_LEVER_IN_WIDTHS = 3.0

Displacements = Callable[
    [Float[np.ndarray, "p 3"], Int[np.ndarray, " m"]], Float[np.ndarray, "m p 3"]
]
"""(p, 3) points and (m,) images → (m, p, 3) Å, each image by the model of its half set: what a run
calls `displacements`."""
_OfAnchors = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]


@runtime_checkable
class DisplacementField(Protocol):
    """Displacements of the nodes of a support, image by image."""

    def at(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b nodes 3"]:
        """Where these particles carry the nodes, minus the nodes; (b, n_nodes, 3) Å."""

    def seen(
        self, rows: Int[np.ndarray, " b"], rotation: Float[Tensor, "b 3 3"]
    ) -> Float[Tensor, "b nodes 2"]:
        """Displacements as the images show them: projected in poses R, (b, n_nodes, 2) xy in Å."""
        return project_points(self.at(rows), rotation.float())


class NoMotion(DisplacementField):
    """Every image shows the same structure.

    Parameters
    ----------
    n_nodes
        Number of nodes.
    """

    def __init__(self, n_nodes: int) -> None:
        self._n_nodes = n_nodes

    def at(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b nodes 3"]:
        """Zeros."""
        return torch.zeros(len(rows), self._n_nodes, 3)


@dataclass(frozen=True, eq=False)
class Carrier:
    """Displacements at anchors (residues, pseudo-atoms) continued smoothly to any point, as one
    sparse matrix.

    Around each point an affine map is fitted to the displacements of the nearest anchors by
    weighted least squares (moving least squares: Lancaster & Salkauskas 1981,
    doi:10.1090/S0025-5718-1981-0616367-1), with a ridge on its linear part. So a body that moves
    rigidly takes the empty space around it along, rotation included; between bodies the field
    changes smoothly over about one width, instead of jumping where one owner gives way to another;
    and far from all anchors it tends to their mean displacement.

    Parameters
    ----------
    matrix
        (n_points, n_anchors) sparse, rows adding up to 1.
    """

    matrix: scipy.sparse.csr_matrix

    @classmethod
    def between(
        cls, anchors: Float[np.ndarray, "anchors 3"], points: Float[np.ndarray, "points 3"]
    ) -> Carrier:
        """Fit the carrier of some points, (n, 3) Å in the frame of the anchors."""
        n_neighbours = min(_NEIGHBOURS, len(anchors))
        tree = cKDTree(anchors)
        distance, index = (
            of_point.reshape(len(points), -1) for of_point in tree.query(points, n_neighbours)
        )
        width = _WIDTH_IN_SPACINGS * _spacing(tree)
        weight = np.exp(-0.5 * (distance**2 - distance[:, :1] ** 2) / width**2)
        if (
            len(anchors) > n_neighbours
        ):  # anchors come in and go out with no weight: no jump where the set changes
            weight -= (1.0 - _LAST_WEIGHT) * weight[:, -1:]
        weight /= weight.sum(1, keepdims=True)
        near = anchors[index]  # (p, k, 3)
        centroid = np.einsum("pk,pkc->pc", weight, near)
        offset = near - centroid[:, None]
        covariance = np.einsum("pk,pki,pkj->pij", weight, offset, offset)
        covariance += (_RIDGE_IN_WIDTHS * width) ** 2 * np.eye(3)
        lever = _shorten(points - centroid, _LARGEST_LEVER_IN_WIDTHS * width)
        linear = np.einsum(
            "pki,pi->pk", offset, np.linalg.solve(covariance, lever[..., None])[..., 0]
        )
        values = (weight * (1.0 + linear)).astype(np.float32)
        starts = np.arange(len(points) + 1) * n_neighbours
        return cls(
            scipy.sparse.csr_matrix(
                (values.ravel(), index.ravel(), starts), (len(points), len(anchors))
            )
        )

    def carry(
        self, displacement: Float[np.ndarray, "b anchors c"]
    ) -> Float[np.ndarray, "b points c"]:
        """Displacements of the points, or components of them, from those of the anchors."""
        return carriers.carry(*self._terms, displacement)

    @cached_property
    def _terms(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Anchors of each point and how much of each, (n_points, 20); no weight where there are
        fewer.
        """
        n_points = self.matrix.shape[0]
        index = self.matrix.indices.reshape(n_points, -1)
        weight = self.matrix.data.reshape(n_points, -1)
        missing = ((0, 0), (0, _NEIGHBOURS - index.shape[1]))
        return np.pad(index.astype(np.int32), missing), np.pad(weight.astype(np.float32), missing)


def typical_spacing(points: Float[np.ndarray, "p 3"]) -> float:
    """Median distance in Å from a point to its nearest one, at least 1; 4 (residues of a chain) for
    a single point.
    """
    return _spacing(cKDTree(points))


def _spacing(tree: cKDTree) -> float:
    if tree.n < 2:
        return 4.0
    return max(float(np.median(tree.query(tree.data, 2)[0][:, 1])), 1.0)


def _shorten(vectors: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.minimum(1.0, longest / np.maximum(length, 1e-12))


@dataclass(frozen=True, eq=False)
class Anchors:
    """Points where a motion model has matter: in its own reference, and in the one that is
    reconstructed.

    Parameters
    ----------
    reference_angstrom
        (n_anchors, 3) in the frame of the run, as the model's displacements start from them.
    common_angstrom
        (n_anchors, 3) where they are in the state that both half sets are reconstructed in.
    """

    reference_angstrom: Float[np.ndarray, "anchors 3"]
    common_angstrom: Float[np.ndarray, "anchors 3"]


def common_reference(
    displacements: Displacements,
    references: Mapping[int, Float[np.ndarray, "anchors 3"]],
    half: Int[np.ndarray, " n"],
) -> dict[int, Anchors]:
    """Give two half-set models one reference state, where each has learnt its own.

    Two learnt references are two conformations, and maps of two conformations differ, however well
    each is resolved. But both models move to the same mean position a point of the molecule: that
    tells which points correspond. With p the mean position of an anchor over images of its half
    set, and −μ(p) the way back to a model's own reference, the anchor lies at p − (μ₁(p) + μ₂(p)) /
    2 in the common reference. What the halves share is this smooth mean motion, no density.

    Parameters
    ----------
    displacements
        Of points in images, as the run's models move them.
    references
        By half set (0 where one model serves all), as in `Anchors`.
    half
        (n_images,) the half set whose model moves each image, a key of `references`.

    Returns
    -------
    dict
        Anchors by half set; where there is one model, or both have the same reference, this is
        kept.
    """
    both = list(references.values())
    if len(references) == 1 or (both[0].shape == both[1].shape and np.allclose(both[0], both[1])):
        return {number: Anchors(points, points) for number, points in references.items()}
    mean = {
        number: _mean_displacement(displacements, points, images_of_model(number, half))
        for number, points in references.items()
    }
    anchors = {}
    for number, points in references.items():
        at = points + mean[number]
        back = [
            Carrier.between(references[other] + mean[other], at).carry(-mean[other][None])[0]
            for other in references
        ]
        anchors[number] = Anchors(points, at + np.mean(back, axis=0))
    return anchors


def _mean_displacement(
    displacements: Displacements, points: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over evenly spread images of a half set, (n_anchors, 3) Å."""
    chosen = rows[:: max(len(rows) // _IMAGES_IN_MEAN, 1)]
    parts = np.array_split(chosen, max(len(chosen) // _IMAGES_AT_ONCE, 1))
    total = np.sum([displacements(points, part).sum(0) for part in parts], axis=0)
    mean: NDArray[np.float64] = total / len(chosen)
    return mean


class RunMotion(DisplacementField):
    """The motion that a run found, whatever the motion model.

    Parameters
    ----------
    displacements
        Of points in images, as the run's models move them.
    nodes_angstrom
        (n_nodes, 3) of the support, the box centre at zero.
    centre_angstrom
        (3,) the box centre in the frame of the run.
    anchors
        By half set (0 where one model serves all): where the motion model has matter, and so is to
        be trusted.
    half
        (n_images,) the half set whose model moves each image, a key of `anchors`.
    """

    def __init__(
        self,
        displacements: Displacements,
        nodes_angstrom: Float[np.ndarray, "nodes 3"],
        centre_angstrom: Float[np.ndarray, "3"],
        anchors: Mapping[int, Anchors],
        half: Int[np.ndarray, " n"],
    ) -> None:
        self._displacements = displacements
        self._anchors = anchors
        self._half = half
        nodes = nodes_angstrom + centre_angstrom
        self._n_nodes = len(nodes)
        self._carriers = {
            number: Carrier.between(a.common_angstrom, nodes) for number, a in anchors.items()
        }

    def at(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b nodes 3"]:
        """Displacements by each image's own model."""
        return self._carried(rows, lambda _, moved: moved, 3)

    def seen(
        self, rows: Int[np.ndarray, " b"], rotation: Float[Tensor, "b 3 3"]
    ) -> Float[Tensor, "b nodes 2"]:
        """Displacements as the images show them; what the anchors do is projected, which is less to
        carry.
        """
        axes = rotation[:, :, :2].double().numpy()
        return self._carried(rows, lambda chosen, moved: moved @ axes[chosen], 2)

    def _carried(self, rows: NDArray[np.int64], of_anchors: _OfAnchors, n: int) -> Tensor:
        """Carry `n` components, made of the anchors' displacements in images `rows[chosen]`, to the
        nodes.
        """
        carried = np.empty((len(rows), self._n_nodes, n), dtype=np.float32)
        for number, carrier in self._carriers.items():
            chosen = np.flatnonzero(self._half[rows] == number)
            if chosen.size:
                anchors = self._anchors[number]
                moved = self._displacements(anchors.reference_angstrom, rows[chosen])
                moved = moved + (anchors.reference_angstrom - anchors.common_angstrom)
                carried[chosen] = carrier.carry(of_anchors(chosen, moved))
        return torch.from_numpy(carried)
