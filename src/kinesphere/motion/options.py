"""How a motion model is made: what the user may choose."""

from __future__ import annotations

from typing import Literal

BeadPlacement = Literal["centroid", "centre", "atoms"]
"""Where the Gaussians are: one a residue, at its centroid or its central atom, or one an atom."""
