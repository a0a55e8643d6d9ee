"""Image files as people have them: each becomes the picture that was meant, or one line that names the file."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.base.errors import BrickyardError
from lib.images import picture

RAMP = np.linspace(0, 1, 12 * 16).reshape(12, 16)  # of light, 0 black, 1 white


def _save(path: Path, values: np.ndarray | Image.Image, **options: Any) -> Path:
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(path, **options)
    return path


def _png(path: Path, values: np.ndarray, depth: int = 16, transparent: tuple[int, ...] = ()) -> Path:
    """A PNG of [h, w] grey or [h, w, 3] values of 2, 4 or 16 bits, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    bits = np.unpackbits(values.astype(">u2").reshape(height, -1, 1).view(np.uint8), axis=-1)[..., -depth:]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    head = struct.pack(">IIBBBBB", width, height, depth, 2 if values.ndim == 3 else 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def _pgm16(path: Path) -> Path:
    path.write_bytes(b"P5 16 12 4095\n" + np.round(RAMP * 4095).astype(">u2").tobytes())
    return path


def _negative(path: Path) -> Path:
    """A 16-bit TIFF in which white is zero."""
    return _save(path, np.round((1 - RAMP) * 65535).astype(np.uint16), tiffinfo={262: 0})


DEEP: dict[str, Callable[[Path], Path]] = {
    "grey.png": lambda path: _png(path, np.round(RAMP * 65535)),
    "rgb.png": lambda path: _png(path, np.round(RAMP * 65535)[..., None].repeat(3, -1)),
    "grey.tif": lambda path: _save(path, np.round(RAMP * 65535).astype(np.uint16)),
    "signed.tif": lambda path: _signed(path, np.round(RAMP * 32767)),
    "white_is_zero.tif": _negative,
    "float.tif": lambda path: _save(path, RAMP.astype(np.float32)),
    "4095.pgm": _pgm16,
    "grey.jp2": lambda path: _save(path, np.round(RAMP * 65535).astype(np.uint16), irreversible=False),
}


def _signed(path: Path, values: np.ndarray) -> Path:
    """A little-endian TIFF of int16 [h, w] values, which Pillow cannot write."""
    height, width = values.shape
    data = values.astype("<i2").tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, 2)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    return path


@pytest.mark.parametrize("name", DEEP)
def test_deep_images_are_scaled_by_the_range_of_their_type(name: str, tmp_path: Path) -> None:
    got = np.asarray(picture.opened(DEEP[name](tmp_path / name)), np.int16)
    assert np.abs(got - np.round(RAMP * 255)[..., None]).max() <= 1


RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def _palette(transparency: object) -> Image.Image:
    made = Image.new("P", (4, 4), 1)
    made.putpalette([0, 0, 255, 255, 0, 0] + [0] * 762)
    if transparency is not None:
        made.info["transparency"] = transparency
    return made


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("bilevel.png", Image.new("1", (4, 4), 1), WHITE),
        ("palette.png", _palette(None), RED),
        ("palette.gif", _palette(0), RED),
        ("invisible.gif", _palette(1), WHITE),
        ("invisible.png", Image.new("RGBA", (4, 4), (9, 200, 77, 0)), WHITE),
        ("half.png", Image.new("RGBA", (4, 4), (255, 0, 0, 128)), (255, 127, 127)),
        ("half_grey.png", Image.new("LA", (4, 4), (0, 128)), (127, 127, 127)),
        ("invisible.webp", Image.new("RGBA", (4, 4), (9, 200, 77, 0)), WHITE),
        ("half.tif", Image.new("RGBA", (4, 4), (255, 0, 0, 128)), (255, 127, 127)),
        ("print.jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), RED),
        ("print.tif", Image.new("CMYK", (4, 4), (0, 0, 0, 255)), BLACK),
        ("grey.ppm", Image.new("L", (4, 4), 0), BLACK),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    name: str, image: Image.Image, expected: tuple[int, ...], tmp_path: Path
) -> None:
    found = picture.opened(_save(tmp_path / name, image))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found, np.int16) - expected).max() <= 1


@pytest.mark.parametrize(("depth", "value"), [(2, 0), (2, 1), (2, 2), (4, 2), (4, 14), (8, 70), (16, 7000)])
def test_one_level_of_grey_can_mean_transparent(depth: int, value: int, tmp_path: Path) -> None:
    other = 2**depth - 1 if value == 0 else value - 1
    values = np.array([[value, other, 0, 2**depth - 1]] * 3)
    got = np.asarray(picture.opened(_png(tmp_path / "x.png", values, depth, (value,))))
    expected = np.where(values == value, 255, np.round(values * (255 / (2**depth - 1))))
    assert (got == expected[..., None]).all()


@pytest.mark.parametrize(("depth", "colour"), [(8, (1, 2, 3)), (16, (300, 20_000, 65_000)), (16, (256, 256, 256))])
def test_one_colour_can_mean_transparent(depth: int, colour: tuple[int, ...], tmp_path: Path) -> None:
    values = np.array([[colour, (2**depth - 1, 0, 0)]])
    got = np.asarray(picture.opened(_png(tmp_path / "x.png", values, depth, colour)))
    assert got.tolist() == [[list(WHITE), list(RED)]]


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
        got = np.asarray(picture.opened(tmp_path / f"x.{suffix}"), np.int16).mean((0, 1))
        assert np.abs(got - RED).max() < 3, suffix


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # what viewers do, by EXIF's orientation
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: np.rot90,
    9: lambda x: x,  # there is no such orientation
}


@pytest.mark.parametrize(
    ("suffix", "depth"), [("jpg", 8), ("png", 8), ("webp", 8), ("tif", 8), ("png", 16), ("tif", 16)]
)
def test_orientation_is_applied(suffix: str, depth: int, tmp_path: Path) -> None:
    levels = np.kron(np.array([[250, 10, 90], [10, 170, 60]], np.uint8), np.ones((16, 16), np.uint8))
    stored = levels if depth == 8 else levels.astype(np.uint16) * 257
    for orientation, upright in UPRIGHT.items():
        exif = Image.Exif()
        exif[274] = orientation
        file = _save(tmp_path / f"{orientation}.{suffix}", stored, exif=exif.tobytes())
        got = np.asarray(picture.opened(file), np.int16)
        expected = upright(levels)
        assert got.shape[:2] == expected.shape, orientation
        assert np.abs(got - expected[..., None]).mean() < 3, orientation


def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    file = _save(tmp_path / "x.jpg", Image.new("RGB", (8, 8), "red"), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\0\0")
    assert picture.opened(file).size == (8, 8)


def _written(image: Image.Image, kind: str) -> bytes:
    made = io.BytesIO()
    image.save(made, kind)
    return made.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "it is empty"),
        ("text.png", b"no picture", "no format that is known here"),
        ("cut.jpg", _written(NOISE, "jpeg")[:2000], "truncated"),
        ("cut.png", _written(NOISE, "png")[:2000], "truncated"),
        ("cut.webp", _written(NOISE, "webp")[:900], ""),
        ("cut.gif", _written(NOISE, "gif")[:-300], "truncated"),
        ("cut.bmp", _written(NOISE, "bmp")[:900], "truncated"),
        ("cut.tif", _written(NOISE, "tiff")[:-900], ""),
        ("head.tif", b"II*\x00\x08\x00\x00\x00\x01\x00", ""),
        ("flipped.png", _written(NOISE, "png").replace(b"IDAT", b"JDAT", 1), ""),
        ("sum.png", _written(NOISE, "png")[:60] + b"\xff" * 40 + _written(NOISE, "png")[100:], ""),
        ("bomb.png", _written(Image.new("1", (14000, 14000)), "png"), "limit is 150,000,000 pixels"),
        ("large.png", _written(Image.new("1", (13000, 13000)), "png"), "it has 13000 x 13000 pixels; scale it down"),
        ("wide.tif", _written(Image.fromarray(np.full((4, 4), 70, np.int32)), "tiff"), "32-bit integers have no value"),
        ("above.tif", _written(Image.fromarray(np.full((4, 4), 1.5, np.float32)), "tiff"), "floats from 1.5 to 1.5; "),
        ("below.tif", _written(Image.fromarray(np.full((4, 4), -0.1, np.float32)), "tiff"), "expected 0 to 1"),
        ("nan.tif", _written(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "tiff"), "floats from nan"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_files_name(
    name: str, content: bytes, reason: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BrickyardError) as error:
        picture.opened(tmp_path / name)
    assert f"{tmp_path / name} is not a readable image: " in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not recwarn.list


def test_negative_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match="signed 16-bit integers from -5 to -5; expected 0 to 32767"):
        picture.opened(_signed(tmp_path / "x.tif", np.full((4, 4), -5)))


def test_no_file_and_folders_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "nothing.png"):
        with pytest.raises(BrickyardError, match=name):
            picture.opened(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/é冬.png", "a b/é冬.png"),
        ("a\tb.png", r'"a\tb.png"'),
        ("a\nb\r.png", r'"a\nb\r.png"'),
        ('"quoted".png', r'"\"quoted\".png"'),
        ("Gar\udce7on.png", r'"Gar\udce7on.png"'),
        ("line\u2028.png", r'"line\u2028.png"'),
    ],
)
def test_names_stay_in_their_line(name: str, expected: str) -> None:
    assert picture.shown(name) == expected
