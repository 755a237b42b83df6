"""Where the images of a particle set are: names as files give them, the stacks that they mean,
reading by need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinesphere.errors import InputError
from kinesphere.io.mrc import ImageStack

MRC_SUFFIXES = {".mrc", ".mrcs", ".map", ".st"}
_FORCED_FORMAT = re.compile(r":(mrcs?|MRCS?)$")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """The stacks that hold the images of a particle set; each is looked for and opened when it is
    needed first.

    Attributes
    ----------
    source
        Particle file, for messages.
    names
        Stacks as the particle file names them, each once.
    roots
        Folders that the names may be relative to, the likeliest first.
    """

    source: Path
    names: tuple[str, ...]
    roots: tuple[Path, ...]
    _found: dict[int, Path | None] = field(default_factory=dict, repr=False)
    _stacks: dict[int, ImageStack] = field(default_factory=dict, repr=False)

    def path(self, file: int) -> Path | None:
        """Find a stack; None where it is in none of the folders.

        Parameters
        ----------
        file
            Position in `names`.
        """
        if file not in self._found:
            name = _FORCED_FORMAT.sub("", self.names[file])
            candidates = (root / name for root in self._roots_by_success())
            self._found[file] = next((path for path in candidates if path.is_file()), None)
        return self._found[file]

    def folder(self) -> Path | None:
        """Return the folder that the relative names start from; None where no stack is found
        there.
        """
        for file in range(len(self.names)):
            if self.path(file) is not None:
                return self._root_of(file)
        return None

    def folder_to_note(self, path: Path) -> Path | None:
        """Return the folder that relative names start from, where the place of a new file does not
        tell.

        Parameters
        ----------
        path
            The new particle file.
        """
        if all(Path(name).is_absolute() for name in self.names):
            return None
        root = self.folder()
        return None if root is None or root in path.resolve().parents else root

    def missing(self) -> list[str]:
        """List the names of the stacks that cannot be found."""
        return [name for file, name in enumerate(self.names) if self.path(file) is None]

    def stack(self, file: int) -> ImageStack:
        """Open a stack.

        Raises
        ------
        InputError
            If it is missing or not a usable MRC file.
        """
        if file not in self._stacks:
            path = self.path(file)
            if path is None:
                problem = f"names {self.names[file]}, which is in none of {self._describe_roots()}"
                raise InputError(
                    self.source, problem, "Run from the project's folder, or put the images there"
                )
            self._stacks[file] = ImageStack(path)
        return self._stacks[file]

    def read(
        self, files: NDArray[np.int32], slots: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Read images.

        Parameters
        ----------
        files, slots
            (b,) position in `names`, and position in that stack from 0.
        rows
            (b,) row of each image in the particle file, for messages.

        Returns
        -------
        ndarray
            (b, box, box) float32, in the order asked for.

        Raises
        ------
        InputError
            If a stack is missing or too short, images are not square or differ in size, or a pixel
            is not finite.
        """
        images = np.empty((0, 0, 0), dtype=np.float32)
        for file in np.unique(files).tolist():
            chosen = np.flatnonzero(files == file)
            self.require_present(file, slots[chosen], rows[chosen])
            part = self.stack(file)[slots[chosen]]
            if not images.size:
                images = (
                    part
                    if len(part) == len(files)
                    else np.empty((len(files), *part.shape[1:]), dtype=np.float32)
                )
            if part.shape[1:] != images.shape[1:] or part.shape[1] != part.shape[2]:
                problem = (
                    f"holds images of {part.shape[2]} x {part.shape[1]} px, others are "
                    f"{images.shape[2]} px"
                )
                remedy = "Extract all images of an optics group with one square box"
                raise InputError(self.stack(file).path, problem, remedy)
            if images is not part:
                images[chosen] = part
        self._require_finite(images, files, slots, rows)
        return images

    def require_present(self, file: int, slots: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Refuse images beyond the end of their stack.

        Raises
        ------
        InputError
            Naming the first row that asks for such an image.
        """
        n_images = len(self.stack(file))
        beyond = np.flatnonzero(slots >= n_images)
        if beyond.size:
            row = rows[beyond[0]] + 1
            slot = slots[beyond[0]] + 1
            problem = (
                f"row {row} asks for image {slot} of {self.stack(file).path}, which "
                f"holds {n_images}"
            )
            raise InputError(
                self.source, problem, "The particle file and the stack do not belong together"
            )

    def _require_finite(
        self,
        images: NDArray[np.float32],
        files: NDArray[np.int32],
        slots: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        bad = np.flatnonzero(~np.isfinite(images.sum(axis=(1, 2), dtype=np.float64)))
        if bad.size:
            first = bad[0]
            problem = (
                f"image {slots[first] + 1} (row {rows[first] + 1} of {self.source}) "
                "holds NaN or infinite pixels"
            )
            raise InputError(
                self.stack(int(files[first])).path, problem, "Remove it from the particle file"
            )

    def _roots_by_success(self) -> Sequence[Path]:
        """Folders to look in, the one where the stack before was found first: stacks lie
        together.
        """
        if not self._found:
            return self.roots
        latest = next(reversed(self._found))
        root = self._root_of(latest)
        return self.roots if root is None else (root, *self.roots)

    def _root_of(self, file: int) -> Path | None:
        path = self._found[file]
        name = _FORCED_FORMAT.sub("", self.names[file])
        return next((root for root in self.roots if path == root / name), None)

    def _describe_roots(self) -> str:
        return ", ".join(str(root) for root in dict.fromkeys((self.roots[0], self.roots[-1])))


def image_files(source: Path, names: Sequence[str], noted_folder: Path | None = None) -> ImageFiles:
    """Set up the search for the stacks of a particle file.

    A relative name is looked for from the folder of the particle file, each folder above it (RELION
    and cryoSPARC write names relative to their project), the folder noted in the file, and the
    current folder.

    Parameters
    ----------
    source
        The particle file.
    names
        Stacks as it names them, each once.
    noted_folder
        What `kinesphere.io.star.read_star` found noted in the file.

    Returns
    -------
    ImageFiles

    Raises
    ------
    InputError
        If a name is not that of an MRC file.
    """
    for name in names:
        suffix = Path(_FORCED_FORMAT.sub("", name)).suffix.lower()
        if suffix not in MRC_SUFFIXES:
            raise InputError(
                source,
                f"names images in {name}, which is not MRC",
                "Convert them to an .mrcs stack",
            )
    folder = source.resolve().parent
    noted = (noted_folder,) if noted_folder else ()
    roots = dict.fromkeys((folder, *folder.parents, *noted, Path.cwd()))
    return ImageFiles(source, tuple(names), tuple(roots))


def split_image_names(
    source: Path, names: Sequence[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64], list[str]]:
    """Take RELION image names such as `000012@folder/stack.mrcs` apart.

    Parameters
    ----------
    source
        Particle file, for messages.
    names
        (n,) names; one without `@` means the first image of its file.

    Returns
    -------
    files
        (n,) position in `stacks`.
    slots
        (n,) position in that stack, from 0.
    stacks
        Names of the stacks, each once, in the order of first use.

    Raises
    ------
    InputError
        If a number before the `@` is not a positive whole number; the message names the row.
    """
    positions: dict[str, int] = {}
    files = np.empty(len(names), dtype=np.int32)
    slots = np.empty(len(names), dtype=np.int64)
    for row, name in enumerate(names):
        number, at, stack = name.partition("@")
        if not at:
            number = "1"
            stack = name
        if not number.isdecimal() or number.strip("0") == "":
            problem = f"row {row + 1} names image {name!r}, whose number does not count from 1"
            raise InputError(source, problem, "Image names look like 000001@stack.mrcs")
        files[row] = positions.setdefault(stack, len(positions))
        slots[row] = int(number) - 1
    return files, slots, list(positions)
