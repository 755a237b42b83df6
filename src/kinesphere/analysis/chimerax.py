"""A ChimeraX script that shows the analysis: the model coloured by motion, and the main motion
playing.
"""

from __future__ import annotations

from pathlib import Path

PALETTE = "#4668a8:#8fb9c9:#ece4d0:#e39a4f:#b0402a"


def chimerax_script(
    coloured: Path, trajectories: list[Path], maximum_angstrom: float, frames: int
) -> str:
    """Write the commands of `open_in_chimerax.cxc`.

    Parameters
    ----------
    coloured
        The model with the RMS displacement in its B-factor column.
    trajectories
        Multi-model files, the main motion first; all are opened, the first is played.
    maximum_angstrom
        Upper end of the colours.
    frames
        Structures in each trajectory.

    Returns
    -------
    str
        File names are relative: ChimeraX looks for them beside the script. Syntax of `open …
        coordsets`, `coordset` and `color byattribute` as in the ChimeraX user guide
        (https://www.cgl.ucsf.edu/chimerax/docs/user/index.html).
    """
    first = 2
    lines = [
        "# Blue parts stay, red parts move; the trajectory plays back and forth.",
        (
            f"# To play another component: hide #{first} models; show #{first + 1} models; "
            f"coordset slider #{first + 1}"
        ),
        "close",
        "set bgColor white",
        f'open {_quoted(coloured.name)} id 1 name "coloured by motion"',
        *(
            f'open {_quoted(path.name)} coordsets true id {first + k} name "component {k + 1}"'
            for k, path in enumerate(trajectories)
        ),
        "hide atoms",
        "show cartoons",
        f"color byattribute bfactor #1 palette {PALETTE} range 0,{maximum_angstrom:.2f} target ac",
        f"color #{first} #7a8699 target ac",
        *(f"hide #{first + k} models" for k in range(1, len(trajectories))),
        "transparency #1 60 target c",
        "lighting soft",
        "view",
        f"coordset #{first} 1,{frames} loop 20 bounce true pauseFrames 3",
    ]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """Quote a file name that ChimeraX would otherwise cut at a space."""
    return f'"{name}"' if " " in name else name
