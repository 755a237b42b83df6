"""Particle sets from RELION STAR files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kinesphere.io.star import StarTable, read_star
from kinesphere.particles.image_files import image_files, split_image_names
from kinesphere.particles.particle_set import ParticleSet
from kinesphere.particles.pixel_grid import complete_pixel_grid
from kinesphere.particles.star_columns import read_ctf, read_half, read_rotation, read_shift
from kinesphere.particles.star_optics import read_optics
from kinesphere.particles.star_source import StarSource
from kinesphere.particles.star_tables import find_optics_table, find_particle_table


def read_star_particles(path: Path, pixel_size_angstrom: float | None = None) -> ParticleSet:
    """Read a particle STAR file; see `ParticleSet.read`."""
    star = read_star(path)
    table = find_particle_table(path, star.tables)
    optics_table = find_optics_table(table, star.tables)
    file, slot, names = split_image_names(path, table.text("rlnImageName"))
    files = image_files(path, names, star.image_folder)
    optics = read_optics(table, optics_table)
    groups, grid_warnings = complete_pixel_grid(
        files, file, optics.groups, optics.group_of_row, pixel_size_angstrom
    )
    ctf = read_ctf(table, replace(optics, groups=groups))
    poses, pose_warnings = read_rotation(table)
    shift, shift_warnings = read_shift(table, optics, groups)
    half, half_warnings = read_half(table)
    return ParticleSet(
        table=replace(
            _source(path, star.stamp, table, optics_table), pixel_size_angstrom=pixel_size_angstrom
        ),
        files=files,
        optics=ctf.groups,
        has_poses=poses is not None,
        has_ctf=ctf.is_known,
        rotation=np.tile(np.eye(3), (table.n_rows, 1, 1)) if poses is None else poses,
        shift_angstrom=shift,
        defocus_u_angstrom=ctf.defocus_u_angstrom,
        defocus_v_angstrom=ctf.defocus_v_angstrom,
        defocus_angle_degrees=ctf.defocus_angle_degrees,
        phase_shift_degrees=ctf.phase_shift_degrees,
        ctf_b_factor=ctf.b_factor,
        ctf_scale=ctf.scale,
        optics_group=optics.group_of_row,
        half=half,
        image_file=file,
        image_slot=slot,
        row=np.arange(table.n_rows),
        warnings=(
            *optics.warnings,
            *grid_warnings,
            *ctf.warnings,
            *pose_warnings,
            *shift_warnings,
            *half_warnings,
        ),
    )


def _source(
    path: Path, stamp: tuple[int, int], table: StarTable, optics: StarTable | None
) -> StarSource:
    return StarSource(
        path=path,
        stamp=stamp,
        block=table.block,
        columns=table.columns,
        optics_block=optics.block if optics else None,
        n_optics=optics.n_rows if optics else 0,
    )
