"""The training curves: the columns of `metrics.csv` that say how well the model explains the
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

# Counters and speeds; `shells` is used below.
LEFT_OUT = ("half", "epoch", "step", "shells", "seconds", "images_per_second", "pairs_per_image")
MEANING = {
    "log_likelihood": "of an image given the model; higher is better",
    "correlation": "of images and projections; higher is better",
    "divergence": "information (nats) that the latents carry about an image",
    "model_divergence": "information (nats) in the segmentation",
    "learning_rate": "step size of the optimiser",
    "loss": "what is minimised",
}


def training_curves(metrics: Mapping[str, Shaped[np.ndarray, " epochs"]]) -> dict[str, Any]:
    """Choose and prepare the curves.

    Parameters
    ----------
    metrics
        Columns of `metrics.csv`, one row an epoch.

    Returns
    -------
    dict
        `epoch` and `series`: those that change, with name, meaning and values. A log-likelihood at
        lower resolution sums over fewer Fourier shells and cannot be compared: those epochs are
        left out of its curve.
    """
    numeric = {
        name: np.asarray(values, float) for name, values in metrics.items() if _is_numeric(values)
    }
    n = max((len(values) for values in numeric.values()), default=0)
    epoch = numeric.get("epoch", np.arange(1.0, n + 1))
    if "shells" in numeric and "log_likelihood" in numeric:
        full = numeric["shells"] == numeric["shells"][-1:]
        numeric["log_likelihood"] = np.where(full, numeric["log_likelihood"], np.nan)
    chosen = {
        name: values
        for name, values in numeric.items()
        if name not in LEFT_OUT and _changes(values)
    }
    series = [
        {"name": name, "meaning": MEANING.get(name, ""), "values": _values(v)}
        for name, v in chosen.items()
    ]
    return {"epoch": epoch.tolist(), "series": series}


def _is_numeric(values: Shaped[np.ndarray, " epochs"]) -> bool:
    return np.asarray(values).dtype.kind in "fiub"


def _changes(values: Float[np.ndarray, " epochs"]) -> bool:
    return len(np.unique(values[np.isfinite(values)])) > 1


def _values(values: Float[np.ndarray, " epochs"]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
