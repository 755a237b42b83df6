"""The truth of a simulated particle set: which of its states each image shows, and which residues
the states hold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int, Shaped

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel

_REQUIRED = ("coordinate", "state", "ca_states", "chain", "resid")
_FORM = (
    "truth.npz as kinesphere simulate writes it holds coordinate, state, ca_states, chain, "
    "resid and icode"
)

ResidueKey = tuple[str, int, str]


@dataclass(frozen=True)
class Truth:
    """What each image of a simulated set shows.

    Parameters
    ----------
    source
        The file.
    state
        (n,) the state each image shows.
    coordinate
        (n, k) the coordinates of its motion, in [0, 1] where kinesphere made them.
    ca_states
        (n_states, n_residues, 3) Å, in the frame of the nominal model.
    state_coordinate
        (n_states, k); NaN for a state that no image shows where the file does not say.
    chain, residue_number
        (n_residues,).
    insertion_code
        (n_residues,), or none where the file has none.
    """

    source: Path
    state: Int[np.ndarray, " n"]
    coordinate: Float[np.ndarray, "n k"]
    ca_states: Float[np.ndarray, "states residues 3"]
    state_coordinate: Float[np.ndarray, "states k"]
    chain: Shaped[np.ndarray, " residues"]
    residue_number: Int[np.ndarray, " residues"]
    insertion_code: Shaped[np.ndarray, " residues"] | None

    @property
    def n_states(self) -> int:
        """Number of states, shown by an image or not."""
        return len(self.ca_states)

    @property
    def populations(self) -> Float[np.ndarray, " states"]:
        """Fraction of the images in each state."""
        return np.bincount(self.state, minlength=self.n_states) / len(self.state)

    def require_images(self, n_images: int) -> None:
        """Refuse a truth of another number of images than a run has.

        Raises
        ------
        InputError
            Naming both numbers.
        """
        if len(self.state) != n_images:
            problem = f"tells of {len(self.state)} images, the run has {n_images}"
            raise InputError(
                self.source,
                problem,
                "Give the truth of the run's own particles, all and in their order",
            )

    def match(self, model: AtomicModel) -> tuple[Truth, Int[np.ndarray, " residues"]]:
        """Keep the residues that a model has too.

        Residues are the same by chain, number and insertion code. Where the truth has no insertion
        codes, residues with one number in one chain are told apart by their order.

        Parameters
        ----------
        model
            The nominal model of a run.

        Returns
        -------
        tuple
            The truth of the common residues, and (n_residues,) their rows in the residue table of
            the model.

        Raises
        ------
        InputError
            If there are none, or one residue occurs twice.
        """
        has_codes = self.insertion_code is not None
        row = _rows_by_key(
            _keys(model.chain, model.residue_number, model.insertion_code if has_codes else None)
        )
        keys = _keys(self.chain, self.residue_number, self.insertion_code)
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            problem = f"names residue {_name(twice[0])} twice"
            raise InputError(self.source, problem, "Tell residues with one number apart by icode")
        kept = np.array([key in row for key in keys])
        if not kept.any():
            problem = (
                f"has no residue of the run's model: it begins with {_name(keys[0])}, "
                f"the model with {_first(model)}"
            )
            raise InputError(
                self.source,
                problem,
                "Give the truth of this molecule, with the chain names of the model",
            )
        return self._keep(kept), np.array(
            [row[key] for key, keep in zip(keys, kept, strict=True) if keep]
        )

    def _keep(self, kept: Shaped[np.ndarray, " residues"]) -> Truth:
        codes = None if self.insertion_code is None else self.insertion_code[kept]
        return Truth(
            source=self.source,
            state=self.state,
            coordinate=self.coordinate,
            ca_states=self.ca_states[:, kept],
            state_coordinate=self.state_coordinate,
            chain=self.chain[kept],
            residue_number=self.residue_number[kept],
            insertion_code=codes,
        )


def read_truth(path: Path) -> Truth:
    """Read and check a `truth.npz`.

    Parameters
    ----------
    path
        Written by `kinesphere simulate` or another generator: `coordinate` (n, k), `state` (n,),
        `ca_states` (n_states, n_residues, 3) in Å in the frame of the nominal model, `chain` and
        `resid` (n_residues,); `icode` (n_residues,) and `state_coordinate` (n_states, k) where
        there are any.

    Returns
    -------
    Truth
        Checked: lengths agree, states exist, numbers are finite.

    Raises
    ------
    InputError
        Naming the array and what is wrong with it.
    """
    arrays = _read_arrays(path)
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise InputError(path, f"has no {' and no '.join(missing)}", _FORM)
    coordinate = np.asarray(arrays["coordinate"], np.float64)
    coordinate = coordinate[:, None] if coordinate.ndim == 1 else coordinate
    states = np.asarray(arrays["ca_states"], np.float64)
    _check_states(path, states, arrays["state"], coordinate)
    state = arrays["state"].astype(np.int64)
    _check_residues(path, arrays, states.shape[1])
    return Truth(
        source=path,
        state=state,
        coordinate=coordinate,
        ca_states=states,
        state_coordinate=_state_coordinate(path, arrays, state, coordinate, len(states)),
        chain=arrays["chain"].astype(str),
        residue_number=arrays["resid"].astype(np.int64),
        insertion_code=arrays["icode"].astype(str) if "icode" in arrays else None,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise InputError(
            path, "is not there", "Give the truth.npz of the simulated particles as --truth"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise InputError(path, "is no NumPy archive of plain arrays", _FORM) from error


def _check_states(
    path: Path, states: np.ndarray, state: np.ndarray, coordinate: np.ndarray
) -> None:
    if (
        states.ndim != 3
        or states.shape[2] != 3
        or 0 in states.shape
        or not np.isfinite(states).all()
    ):
        problem = (
            f"ca_states of shape {states.shape} is no set of finite positions (states, residues, 3)"
        )
        raise InputError(path, problem, _FORM)
    if state.ndim != 1 or not np.issubdtype(state.dtype, np.integer):
        raise InputError(
            path, f"state of shape {state.shape} is not one whole number an image", _FORM
        )
    if coordinate.shape[:1] != state.shape or not np.isfinite(coordinate).all():
        problem = (
            f"coordinate of shape {coordinate.shape} is not a finite row for each of "
            f"{len(state)} images"
        )
        raise InputError(path, problem, _FORM)
    if not len(state) or state.min() < 0 or state.max() >= len(states):
        span = f"{state.min()} to {state.max()}" if len(state) else "of no image"
        raise InputError(
            path, f"states {span} do not fit {len(states)} ca_states", "States count from 0"
        )


def _check_residues(path: Path, arrays: dict[str, np.ndarray], n_residues: int) -> None:
    for name in ("chain", "resid", "icode"):
        if name in arrays and arrays[name].shape != (n_residues,):
            problem = (
                f"{name} of shape {arrays[name].shape} does not fit ca_states of "
                f"{n_residues} residues"
            )
            raise InputError(path, problem, _FORM)
    if not np.issubdtype(arrays["resid"].dtype, np.integer):
        raise InputError(
            path,
            f"resid holds {arrays['resid'].dtype}, not whole numbers",
            "Put letters into icode",
        )


def _state_coordinate(
    path: Path,
    arrays: dict[str, np.ndarray],
    state: np.ndarray,
    coordinate: np.ndarray,
    n_states: int,
) -> np.ndarray:
    """Coordinates of the states as the file gives them, else those of the images that show them."""
    shape = (n_states, coordinate.shape[1])
    if "state_coordinate" in arrays:
        given = np.asarray(arrays["state_coordinate"], np.float64)
        given = given[:, None] if given.ndim == 1 else given
        if given.shape != shape:
            raise InputError(path, f"state_coordinate of shape {given.shape} is not {shape}", _FORM)
        return given
    total = np.zeros(shape)
    np.add.at(total, state, coordinate)
    count = np.bincount(state, minlength=n_states)[:, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _keys(
    chain: Shaped[np.ndarray, " r"],
    number: Int[np.ndarray, " r"],
    code: Shaped[np.ndarray, " r"] | None,
) -> list[ResidueKey]:
    """Name residues by chain, number and insertion code, or by order of occurrence where there are
    no codes.
    """
    places = [
        (name.strip(), value) for name, value in zip(chain.tolist(), number.tolist(), strict=True)
    ]
    if code is not None:
        return [
            (*place, letter.strip()) for place, letter in zip(places, code.tolist(), strict=True)
        ]
    seen: Counter[tuple[str, int]] = Counter()
    keys = []
    for place in places:
        keys.append((*place, f"#{seen[place]}"))
        seen[place] += 1
    return keys


def _rows_by_key(keys: list[ResidueKey]) -> dict[ResidueKey, int]:
    rows: dict[ResidueKey, int] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, row)  # a ligand may repeat a residue's number; the polymer comes first
    return rows


def _first(model: AtomicModel) -> str:
    return _name((str(model.chain[0]), int(model.residue_number[0]), str(model.insertion_code[0])))


def _name(key: ResidueKey) -> str:
    return f"{key[0]}:{key[1]}{'' if key[2].startswith('#') else key[2]}"
