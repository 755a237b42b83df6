"""Maps keep their place, stacks are read lazily, broken files are refused in one line."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.io.mrc import DensityMap, ImageStack, read_map, stack_writer, write_map, write_stack

VOLUME = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32)


def _new(
    path: Path, data: np.ndarray, pixel_size: float | tuple[float, ...] = 1.5, **header: object
) -> Path:
    with mrcfile.new(path, data) as mrc:
        mrc.voxel_size = pixel_size
        for name, value in header.items():
            mrc.header[name] = value
    return path


def test_map_round_trip_is_exact(tmp_path: Path) -> None:
    write_map(tmp_path / "map.mrc", VOLUME, 1.37)
    found = read_map(tmp_path / "map.mrc")
    assert np.array_equal(found.data, VOLUME)
    assert found.pixel_size_angstrom == pytest.approx(1.37, rel=1e-6)
    assert np.allclose(found.centre_angstrom, 3 * 1.37)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.mrc"]


def test_origin_wins_over_nstart_and_both_survive(tmp_path: Path) -> None:
    source = _new(tmp_path / "a.mrc", VOLUME, nxstart=4, origin=(10.0, -20.0, 30.0))
    read = read_map(source)
    assert np.allclose(read.origin_angstrom, [10, -20, 30])
    write_map(tmp_path / "b.mrc", VOLUME, read)
    with mrcfile.open(tmp_path / "b.mrc") as mrc:
        assert int(mrc.nstart.x) == 4
        assert mrc.header.origin.item() == (10.0, -20.0, 30.0)


def test_frame_given_by_nstart_alone_is_not_applied_twice(tmp_path: Path) -> None:
    source = _new(tmp_path / "a.mrc", VOLUME, nxstart=-3, nystart=2, nzstart=8)
    read = read_map(source)
    assert np.allclose(read.origin_angstrom, [-4.5, 3.0, 12.0])
    write_map(tmp_path / "b.mrc", VOLUME, read)
    with mrcfile.open(tmp_path / "b.mrc") as mrc:
        assert mrc.header.origin.item() == (0.0, 0.0, 0.0)
    assert np.allclose(read_map(tmp_path / "b.mrc").origin_angstrom, read.origin_angstrom)


@pytest.mark.parametrize("box", [4, 5, 6, 12])
def test_map_resampled_over_the_same_field_keeps_its_centre(tmp_path: Path, box: int) -> None:
    like = DensityMap(VOLUME, 1.5, np.array([7.0, 8.0, 9.0]))
    write_map(tmp_path / "m.mrc", np.ones((box,) * 3), like)
    found = read_map(tmp_path / "m.mrc")
    assert found.pixel_size_angstrom == pytest.approx(9 / box, rel=1e-6)
    assert np.allclose(found.centre_angstrom, like.centre_angstrom, atol=1e-5)


def test_axis_order_of_crystallographic_maps(tmp_path: Path) -> None:
    # Columns run along z, rows along x, sections along y: data[s, r, c] = value[z=c, y=s, x=r].
    stored = VOLUME.transpose(1, 2, 0)
    source = _new(
        tmp_path / "a.mrc", stored, mapc=3, mapr=1, maps=2, nxstart=1, nystart=2, nzstart=3
    )
    found = read_map(source)
    assert np.array_equal(found.data, VOLUME)
    assert found.start_px == (2, 3, 1)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_every_real_mode_of_stack(tmp_path: Path, dtype: type[np.generic]) -> None:
    images = np.arange(5 * 4 * 4).reshape(5, 4, 4).astype(dtype)
    write_stack(tmp_path / "s.mrcs", images, 2.0, dtype)
    stack = ImageStack(tmp_path / "s.mrcs")
    assert stack.shape == (5, 4, 4)
    assert stack.dtype.type is dtype
    assert stack.pixel_size_angstrom == pytest.approx(2.0)
    assert stack[[4, 0]].dtype == np.float32
    assert np.array_equal(stack[[4, 0]], images[[4, 0]].astype(np.float32))
    assert np.array_equal(stack[2], images[2].astype(np.float32))
    assert np.array_equal(stack[1:3], images[1:3].astype(np.float32))


def test_stack_header_is_one_of_a_stack_with_zero_z(tmp_path: Path) -> None:
    write_stack(tmp_path / "s.mrcs", np.ones((2, 4, 4)), 2.0)
    with mrcfile.open(tmp_path / "s.mrcs") as mrc:
        assert mrc.is_image_stack()
        assert mrc.voxel_size.x == pytest.approx(2.0)


def test_stack_with_extended_header(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "s.mrcs", VOLUME) as mrc:
        mrc.set_extended_header(np.zeros(100, dtype="V8"))
    assert np.array_equal(ImageStack(tmp_path / "s.mrcs")[:], VOLUME)


def _sum_of(stack: ImageStack) -> float:
    return float(stack[3].sum())


def test_stack_survives_pickle_and_fork(tmp_path: Path) -> None:
    write_stack(tmp_path / "s.mrcs", VOLUME, 1.0)
    stack = ImageStack(tmp_path / "s.mrcs")
    assert np.array_equal(pickle.loads(pickle.dumps(stack))[3], VOLUME[3])  # noqa: S301 - made here
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_sum_of, [stack, stack]) == [_sum_of(stack)] * 2


def test_stack_shorter_than_its_header(tmp_path: Path) -> None:
    write_stack(tmp_path / "s.mrcs", np.ones((10, 8, 8)), 1.0)
    whole = (tmp_path / "s.mrcs").read_bytes()
    (tmp_path / "s.mrcs").write_bytes(whole[: 1024 + 3 * 256 + 40])
    with pytest.raises(InputError, match="3 of the 10 images"):
        ImageStack(tmp_path / "s.mrcs")


@pytest.mark.parametrize("index", [6, -7, [0, 6]])
def test_image_that_is_not_there(tmp_path: Path, index: int | list[int]) -> None:
    write_stack(tmp_path / "s.mrcs", VOLUME, 1.0)
    with pytest.raises(InputError, match="holds 6 images"):
        ImageStack(tmp_path / "s.mrcs")[index]


def test_unfinished_stack_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="1 of 3"),
        stack_writer(tmp_path / "s.mrcs", (3, 4, 4), 1.0) as writer,
    ):
        writer.write(np.ones((4, 4)))
    with pytest.raises(KeyError), stack_writer(tmp_path / "s.mrcs", (3, 4, 4), 1.0):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_compressed_map_is_read(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "m.mrc.gz", VOLUME, compression="gzip") as mrc:
        mrc.voxel_size = 1.5
    assert np.array_equal(read_map(tmp_path / "m.mrc.gz").data, VOLUME)
    with pytest.raises(InputError, match="Decompress"):
        ImageStack(tmp_path / "m.mrc.gz")


def test_wrong_stamp_over_right_data_is_read(tmp_path: Path) -> None:
    source = _new(tmp_path / "m.mrc", VOLUME)
    content = bytearray(source.read_bytes())
    content[208:212] = b"\0\0\0\0"
    source.write_bytes(bytes(content))
    assert np.array_equal(read_map(source).data, VOLUME)


@pytest.mark.filterwarnings("ignore:Data array contains")
def test_unusable_maps_are_refused_by_name(tmp_path: Path) -> None:
    with_nan = VOLUME.copy()
    with_nan[0, :2, 0] = np.nan, np.inf
    truncated = _new(tmp_path / "short.mrc", VOLUME)
    truncated.write_bytes(truncated.read_bytes()[:1500])
    (tmp_path / "text.mrc").write_text("loop_\n" * 400)
    cases = {
        _new(tmp_path / "nan.mrc", with_nan): "2 voxels that are not finite",
        _new(tmp_path / "flat.mrc", VOLUME[:4]): "6 x 6 x 4",
        _new(tmp_path / "2d.mrc", VOLUME[0]): "three-dimensional",
        _new(tmp_path / "zero.mrc", VOLUME, 0.0): "no pixel size",
        _new(tmp_path / "brick.mrc", VOLUME, (1.0, 1.0, 1.2)): "1 x 1 x 1.2",
        _new(tmp_path / "complex.mrc", VOLUME.astype(np.complex64)): "complex",
        truncated: "cut short",
        tmp_path / "text.mrc": "MRC",
        tmp_path / "absent.mrc": "no such file",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_map(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
