"""The ideal observer: the exact posterior over the true states of every image, given its pose, its
CTF and the noise.

No method can predict a coordinate with a higher correlation than the posterior mean of an observer
who knows the states, how often each occurs, and how images come about. Its score is the limit that
the noise sets; a method's score as a fraction of it is what the method makes of its data. This
observer takes the true CA traces, and from the nominal model what hangs on them; signal scale and
noise power are estimated with the true states, so that what its model of the molecule lacks counts
as noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from kinesphere.evaluation.window import BoxedImages, BoxedModel, BoxedSignal
from kinesphere.imaging.noise import SignalAndNoise
from kinesphere.imaging.pose import project_points
from kinesphere.inference.likelihood import Likelihood
from kinesphere.inference.objective import GaussianLikelihood

_IMAGES_AT_ONCE = 64
_PATCH = 9  # residues that define the orientation of the one in their middle


def carry_along(
    points: Float[np.ndarray, "p 3"],
    owner: Int[np.ndarray, " p"],
    nominal: Float[np.ndarray, "residues 3"],
    states: Float[np.ndarray, "states residues 3"],
) -> Float[np.ndarray, "states p 3"]:
    """Move points of the nominal model with their residues to every state.

    A point keeps its place in its residue's frame: the CA, and the rotation that best superposes
    the nominal CA trace around it on the state's. Without the rotation side chains of a domain that
    turns would all be shifted, unturned.

    Parameters
    ----------
    points
        (p, 3) Å, such as beads or atoms.
    owner
        (p,) residue each of them belongs to.
    nominal
        (n_residues, 3) CA of the nominal model.
    states
        (n_states, n_residues, 3) CA of the states, same frame.

    Returns
    -------
    ndarray
        (n_states, p, 3) float32.
    """
    patch = (
        cKDTree(nominal).query(nominal, k=min(_PATCH, len(nominal)))[1].reshape(len(nominal), -1)
    )
    offset = points - nominal[owner]
    moved = np.empty((len(states), len(points), 3), np.float32)
    for number, state in enumerate(states):
        rotation = _patch_rotations(nominal[patch], state[patch])
        moved[number] = np.einsum("pij,pj->pi", rotation[owner], offset) + state[owner]
    return moved


def _patch_rotations(
    nominal: Float[np.ndarray, "residues w 3"], moved: Float[np.ndarray, "residues w 3"]
) -> Float[np.ndarray, "residues 3 3"]:
    """Rotation that superposes each patch on where it has moved (Kabsch); the identity below three
    residues.
    """
    if nominal.shape[1] < 3:
        return np.tile(np.eye(3), (len(nominal), 1, 1))
    first, second = (x - x.mean(axis=1, keepdims=True) for x in (nominal, moved))
    u, _, vt = np.linalg.svd(np.einsum("rwi,rwj->rij", first, second))
    v, ut = vt.transpose(0, 2, 1), u.transpose(0, 2, 1)
    v[:, :, 2] *= np.sign(np.linalg.det(v @ ut))[:, None]
    return v @ ut


@torch.no_grad()
def fit_signal(
    boxed: BoxedImages,
    model: BoxedModel,
    states: Float[Tensor, "states p 3"],
    state: Int[Tensor, " n"],
) -> BoxedSignal:
    """Estimate signal scale and noise power per optics group and shell, with the state that each
    image truly shows.

    Parameters
    ----------
    boxed
        The images.
    model
        How they come about.
    states
        (n_states, n_points, 3) Å, the centre of the box at zero.
    state
        (n,) true state of each image.

    Returns
    -------
    BoxedSignal
        Least squares.
    """

    def batches() -> Iterator[tuple[BoxedImages, Tensor]]:
        for rows in torch.arange(len(boxed)).split(_IMAGES_AT_ONCE):
            yield boxed[rows], project_points(states[state[rows]], boxed.rotation[rows])

    scale, kept = model.fit_scale(batches(), int(boxed.group.max()) + 1)
    return BoxedSignal(scale, kept, model.fit_variance(batches(), scale))


@torch.no_grad()
def state_posterior(
    boxed: BoxedImages,
    model: BoxedModel,
    signal: BoxedSignal,
    states: Float[Tensor, "states p 3"],
    prior: Float[np.ndarray, " states"],
    advance: Callable[[int], None] = lambda _: None,
) -> Float[np.ndarray, "n states"]:
    """Posterior probability of every state for every image: p(t | x) ∝ p(t) p(x | t, pose, CTF,
    noise).

    Parameters
    ----------
    boxed, model, states
        As for `fit_signal`.
    signal
        Signal scale and noise power.
    prior
        (n_states,) how often each state occurs.
    advance
        Called with the number of images done since the last call.

    Returns
    -------
    ndarray
        (n, n_states), rows adding up to 1.
    """
    likelihood = Likelihood(
        model.forward, GaussianLikelihood(), SignalAndNoise(signal.scale, signal.variance)
    )
    with np.errstate(divide="ignore"):
        log_prior = torch.from_numpy(np.log(prior))  # −∞ for a state that does not occur
    posterior = np.empty((len(boxed), len(states)))
    for rows in torch.arange(len(boxed)).split(_IMAGES_AT_ONCE):
        score = likelihood.all_states(model.prepare(boxed[rows], signal), states)
        posterior[rows.numpy()] = torch.softmax(score.double() + log_prior, dim=1).numpy()
        advance(len(rows))
    return posterior
