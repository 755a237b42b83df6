"""STAR files as text, for tests that state what their columns mean."""

from __future__ import annotations

_OPTICS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
{rows}
"""
GROUPS = _OPTICS.format(rows="2 second 200 2.0 0.07 2.0 8\n1 first 300 2.7 0.1 1.5 8")
CTF = "Voltage SphericalAberration AmplitudeContrast DefocusU DefocusV DefocusAngle"
ANGLES = "AngleRot AngleTilt AnglePsi"


def star_table(columns: str, *rows: str, block: str = "particles") -> str:
    """Write a table; column names come without `rln`."""
    header = "\n".join(f"_rln{name} #{number}" for number, name in enumerate(columns.split(), 1))
    return f"\ndata_{block}\n\nloop_\n{header}\n" + "\n".join(rows) + "\n"
