"""How long the inner loops take on a GPU: the references in torch against the Triton kernels.

    python benchmarks/speed/kernels_gpu.py

Spreading, its gradient, restraints on distances and deformed backprojection at the sizes of
results/throughput_gpu.md. Writes results/kernels_gpu.csv and .md. GB/s is the least that has to be
read and written, every array once, over the time; it is given as a share of what the device reaches
where it only copies. Without a GPU it says so and exits with 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import tyro
from jaxtyping import Float
from throughput import CASES, Case, clock, random_chain
from torch import Tensor

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.kernels.dispatch import checked_kernels
from kinesphere.kernels.distances import pair_distances, strain_energy
from kinesphere.kernels.spreading import gather_gradient, spread
from kinesphere.kernels.voxels import VoxelLattice, pull, push
from kinesphere.motion.restraints import neighbour_graph
from kinesphere.reconstruction.masks import near_points
from kinesphere.reconstruction.operator import DeformedProjector
from kinesphere.reconstruction.support import Support

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of bench.py
from bench import RESULTS, Row, markdown, write_csv

SPREADING = "kinesphere.kernels.spreading_triton"
DISTANCES = "kinesphere.kernels.distances_triton"
VOXELS = "kinesphere.kernels.voxels_triton"
COLUMNS = (
    *(
        "operation",
        "points",
        "grid",
        "images",
        "reference_ms",
        "triton_ms",
        "times",
        "reference_gb",
        "triton_gb",
    ),
    *("gb_per_second", "of_copy", "difference"),
)
RESOLUTION_ANGSTROM = 5.0
MASK_ANGSTROM = 8.0
ROUNDS = 5


@dataclass(frozen=True)
class Options:
    """What to measure."""

    cases: tuple[int, ...] = (0, 1, 3, 4, 5)
    """Which cases of throughput.py."""
    images: int = 512
    """Images spread at once."""
    projected_pixels: int = 1 << 20
    """Pixels of oversampled images that are backprojected at once."""
    repeats: int = 20
    """Calls in each of five rounds, of which the fastest counts."""
    name: str = "kernels_gpu"
    """Name of the tables."""


@dataclass(frozen=True)
class Operation:
    """One inner loop, twice, and what it has to move: bytes, every array once. For restraints
    `grid` is the pairs.
    """

    name: str
    points: int
    grid: int
    images: int
    reference: Callable[[], Tensor]
    compiled: Callable[[], Tensor]
    traffic: int


def main(options: Options) -> None:
    """Measure every case on the first GPU."""
    if not torch.cuda.is_available():
        print("kernels_gpu: no GPU that PyTorch sees, nothing to measure", file=sys.stderr)
        raise SystemExit(2)
    device = torch.device("cuda")
    rows, copied = measure(options, device)
    write_csv(RESULTS / f"{options.name}.csv", rows)
    table = f"{describe(device, copied)}\n\n{markdown(rows, COLUMNS)}"
    (RESULTS / f"{options.name}.md").write_text(table, encoding="utf-8")
    print(table)


def describe(device: torch.device, copied: float) -> str:
    """Say what was timed, and how."""
    return (
        f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__} (`python "
        "benchmarks/speed/kernels_gpu.py`). "
        "`gb_per_second`: each array once, over the time of the Triton kernel; `of_copy`: as "
        f"a share of {copied:.0f} "
        "GB/s, which a copy of 1 GiB reaches; `reference_gb`, `triton_gb`: memory taken on top "
        "of what is given; "
        "`difference`: the largest, relative to the largest value."
    )


def measure(options: Options, device: torch.device) -> tuple[list[Row], float]:
    """Time every operation; also how fast the device copies, in GB/s."""
    copied = copy_speed(device, options.repeats)
    rows = []
    for number in options.cases:
        case = CASES[number]
        for operation in (
            *spreading(case, options, device),
            *restraints(case, options, device),
            *backprojection(case, options, device),
        ):
            rows.append(compare(operation, options.repeats, device, copied))
            print(markdown(rows[-1:], COLUMNS).splitlines()[-1], file=sys.stderr)
    return rows, copied


def compare(operation: Operation, repeats: int, device: torch.device, copied: float) -> Row:
    """Time both forms of an operation, and see that they agree."""
    expected, found = operation.reference(), operation.compiled()
    difference = float((found - expected).abs().max() / expected.abs().max())
    del expected, found
    reference, reference_gb = seconds(operation.reference, repeats, device)
    compiled, compiled_gb = seconds(operation.compiled, repeats, device)
    speed = operation.traffic / compiled / 1e9
    return {
        "operation": operation.name,
        "points": operation.points,
        "grid": operation.grid,
        "images": operation.images,
        "reference_ms": 1e3 * reference,
        "triton_ms": 1e3 * compiled,
        "times": reference / compiled,
        "reference_gb": reference_gb,
        "triton_gb": compiled_gb,
        "gb_per_second": speed,
        "of_copy": speed / copied,
        "difference": difference,
    }


def seconds(work: Callable[[], Tensor], repeats: int, device: torch.device) -> tuple[float, float]:
    """Time of one call in the fastest round, and the memory it takes in GB, NaN where that is not
    known.
    """
    work()
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    rounds = []
    for _ in range(ROUNDS):
        start = clock(device)
        for _ in range(repeats):
            work()
        rounds.append((clock(device) - start) / repeats)
    peak = (
        torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else float("nan")
    )
    return min(rounds), peak / 1e9


def copy_speed(device: torch.device, repeats: int) -> float:
    """GB/s that are read and written where a gibibyte is copied."""
    source = torch.empty(1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), repeats, device)[0] / 1e9


def kernels(module: str, device: torch.device) -> ModuleType:
    """Import kernels, or stop where they do not work here."""
    found = checked_kernels(module, device)
    if found is None:
        raise SystemExit(2)
    return found


def rotations(n: int) -> Float[Tensor, "n 3 3"]:
    """Random poses."""
    turned = torch.linalg.qr(torch.randn(n, 3, 3, generator=torch.Generator().manual_seed(0))).Q
    return turned * torch.linalg.det(turned)[:, None, None]


def spreading(case: Case, options: Options, device: torch.device) -> Iterator[Operation]:
    """Spread the points of a case in random poses onto the grid that 5 Å take; and the gradient of
    that.
    """
    fast = kernels(SPREADING, device)
    extent = case.box * case.pixel_size
    band = FourierBand.of_grid(
        RenderGrid(case.box, case.pixel_size), int(extent / RESOLUTION_ANGSTROM)
    )
    grid = band.smallest_grid()
    size, b, p = grid.spread_box, options.images, case.points
    positions = torch.from_numpy(random_chain(case).positions_angstrom).float()
    points = (
        ((positions @ rotations(b))[..., :2] / grid.spread_pixel_angstrom).contiguous().to(device)
    )
    amplitude = torch.ones(p, device=device)
    gradient = torch.randn(b, size, size, device=device)
    given, pages = 8 * b * p + 4 * p, 4 * b * size**2
    for precision in ("ieee", "tf32x3"):
        yield Operation(
            f"spread, {precision}",
            *(p, size, b),
            lambda: spread.reference(points, amplitude, size),
            lambda precision=precision: fast.spread(points, amplitude, size, precision),
            given + pages,
        )
    yield Operation(
        "gradient of spread",
        *(p, size, b),
        lambda: gather_gradient.reference(points, amplitude, gradient)[0],
        lambda: fast.gather_gradient(points, amplitude, gradient)[0],
        given + pages + 12 * b * p,
    )


def restraints(case: Case, options: Options, device: torch.device) -> Iterator[Operation]:
    """Energy of the distances of neighbouring points in as many structures as there are images, and
    its gradient.
    """
    fast = kernels(DISTANCES, device)
    reference = torch.from_numpy(random_chain(case).positions_angstrom).float()
    pairs, _ = neighbour_graph(reference)
    kept = pair_distances(reference[None], pairs)[0].to(device)
    moved = reference + 0.3 * torch.randn(
        options.images, case.points, 3, generator=torch.Generator().manual_seed(2)
    )
    points, pairs = moved.to(device).requires_grad_(), pairs.to(device)
    yield Operation(
        "restraints, with gradient",
        *(case.points, len(pairs), options.images),
        lambda: torch.autograd.grad(
            strain_energy.reference(points, pairs, kept, kept).sum(), points
        )[0],
        lambda: torch.autograd.grad(fast.strain_energy(points, pairs, kept, kept).sum(), points)[0],
        2 * points.nbytes + pairs.nbytes + 2 * kept.nbytes,
    )


def backprojection(case: Case, options: Options, device: torch.device) -> Iterator[Operation]:
    """Sample and spread images at the moved voxels around the points of a case."""
    fast = kernels(VOXELS, device)
    inside = near_points(
        np.asarray(random_chain(case).positions_angstrom),
        RenderGrid(case.box, case.pixel_size),
        MASK_ANGSTROM,
    )
    support = Support.of_voxels(inside, case.pixel_size)
    projector = DeformedProjector(support, device)
    size = projector.size
    b, v = max(options.projected_pixels // size**2, 1), support.n_voxels
    displacement = 2.0 * torch.randn(
        b, support.n_nodes, 3, generator=torch.Generator().manual_seed(1)
    )
    views = projector.views(rotations(b).to(device), displacement.to(device))
    grids, values = torch.randn(b, size, size, device=device), torch.rand(v, device=device)
    lattice = VoxelLattice(support.runs, support.cells, support.spacing_px, device)
    geometry = lattice.voxels.nbytes + 8 * b * support.n_nodes
    yield Operation(
        "pull",
        *(v, size, b),
        lambda: pull.reference(grids, views, lattice),
        lambda: fast.pull(grids, views, lattice),
        geometry + grids.nbytes + 8 * v,
    )
    yield Operation(
        "push",
        *(v, size, b),
        lambda: push.reference(values, views, size, lattice),
        lambda: fast.push(values, views, size, lattice),
        geometry + grids.nbytes + values.nbytes,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
