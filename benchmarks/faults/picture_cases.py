"""Single pictures as people have them, and what must be seen of each: pixels, or the name of the file in one line."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Make = Callable[[Path], Path]
Pictures = dict[str, list[np.ndarray]]
Right = Callable[[Pictures], str | None]
_RAMP = np.linspace(0, 1, 64).reshape(8, 8)  # black to white
_RED = (200, 40, 40)


def beside_dogs(suffix: str, write: Callable[[Path], None], count: int = 3) -> Make:
    """cat/0.suffix, ... as `write` writes them, and plain dogs."""

    def make(root: Path) -> Path:
        for name in ("cat", "dog"):
            (root / name).mkdir(parents=True)
        for i in range(count):
            write(root / "cat" / f"{i}{suffix}")
        for i in range(3):
            Image.new("RGB", (9, 8), (10, 10, 200)).save(root / "dog" / f"{i}.png")
        return root

    return make


def _saved(image: Image.Image, **options: Any) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def _shows(expected: np.ndarray, tolerance: float = 2) -> Right:
    """Every cat is `expected`, [8, 8, 3] or [8, 8], in 0-255."""
    wanted = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, 2)

    def right(pictures: Pictures) -> str | None:
        for seen in pictures["cat"]:
            off = float(np.abs(seen - wanted).max())
            if off > tolerance:
                levels, goal = len(np.unique(seen)), len(np.unique(wanted.round()))
                return f"pixels are off by up to {off:.0f} of 255; {levels} levels instead of {goal}"
        return None

    return right


def _plain(colour: tuple[int, int, int] = _RED, tolerance: float = 2) -> Right:
    return _shows(np.broadcast_to(np.array(colour), (8, 8, 3)), tolerance)


def _background(pictures: Pictures) -> str | None:
    """The left half is red, the right half, which is invisible noise, one plain colour."""
    for seen in pictures["cat"]:
        if np.abs(seen[:, :4] - np.array(_RED)).max() > 3:
            return "what can be seen has another colour"
        if np.ptp(seen[:, 4:], axis=(0, 1)).max() > 3:
            return "what is transparent shows through"
    return None


def _half_transparent() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[:, :4, :3], pixels[:, :4, 3], pixels[:, 4:, 3] = _RED, 255, 0
    return Image.fromarray(pixels, "RGBA")


def _palette(transparent: bool) -> Image.Image:
    """Index 0 is red; the others, all of them transparent or all red, stand in the right half."""
    image = Image.new("P", (8, 8), 0)
    noise = [200, 90, 10, 60, 220, 30, 15, 70, 240] if transparent else list(_RED) * 3
    image.putpalette([*_RED, *noise, *[0] * (768 - 12)])
    image.putdata([0 if x < 4 else 1 + (x + y) % 3 for y in range(8) for x in range(8)])
    return image


def _quadrants() -> np.ndarray:
    """Four colours, so that every turn can be told."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4], pixels[4:, 4:] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (250, 250, 0),
    )
    return pixels


def _stored(orientation: int) -> tuple[Image.Image, bytes]:
    """The quadrants as a camera stores them that was held so; EXIF with the orientation."""
    turned = Image.Transpose
    how = {
        1: None, 2: turned.FLIP_LEFT_RIGHT, 3: turned.ROTATE_180, 4: turned.FLIP_TOP_BOTTOM, 5: turned.TRANSPOSE,
        6: turned.ROTATE_90, 7: turned.TRANSVERSE, 8: turned.ROTATE_270,
    }[orientation]  # fmt: skip
    image = Image.fromarray(_quadrants())
    exif = Image.Exif()
    exif[274] = orientation
    return image if how is None else image.transpose(how), exif.tobytes()


def _oriented(orientation: int, suffix: str) -> Make:
    image, exif = _stored(orientation)
    options: dict[str, Any] = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    return beside_dogs(suffix, _saved(image, exif=exif, **options))


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _bomb() -> bytes:
    """A PNG of a few hundred bytes that says to have 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(100)))
        + _chunk(b"IEND", b"")
    )


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def _broken_png() -> bytes:
    """The second chunk states a checksum that is wrong: decoders raise what is no OSError."""
    content = bytearray(_encoded(_noise(), "PNG"))
    content[content.index(b"IDAT") + 20] ^= 0xFF
    content[37] ^= 0xFF
    return bytes(content)


_GREY = 255 * _RAMP
_SOLID = Image.new("RGB", (8, 8), _RED)
_SIXTEEN = Image.fromarray(np.round(65535 * _RAMP).astype(np.uint16))
_FLOAT = Image.fromarray(_RAMP.astype(np.float32), "F")

RIGHT: list[tuple[str, Make, Right]] = [
    ("16-bit PNG", beside_dogs(".png", _saved(_SIXTEEN)), _shows(_GREY)),
    ("16-bit TIFF", beside_dogs(".tif", _saved(_SIXTEEN)), _shows(_GREY)),
    ("16-bit PGM", beside_dogs(".pgm", _saved(_SIXTEEN)), _shows(_GREY)),
    ("float TIFF between 0 and 1", beside_dogs(".tiff", _saved(_FLOAT)), _shows(_GREY)),
    ("8-bit grey", beside_dogs(".png", _saved(Image.fromarray(np.round(_GREY).astype(np.uint8)))), _shows(_GREY)),
    ("one bit", beside_dogs(".png", _saved(Image.new("1", (8, 8), 1))), _plain((255, 255, 255))),
    ("RGBA with noise that is invisible", beside_dogs(".png", _saved(_half_transparent())), _background),
    ("RGBA in WebP", beside_dogs(".webp", _saved(_half_transparent(), lossless=True, exact=True)), _background),
    ("grey with alpha", beside_dogs(".png", _saved(Image.new("LA", (8, 8), (90, 255)))), _plain((90, 90, 90))),
    ("palette", beside_dogs(".png", _saved(_palette(False))), _plain()),
    ("palette, transparent", beside_dogs(".png", _saved(_palette(True), transparency=b"\xff\0\0\0")), _background),
    ("GIF", beside_dogs(".gif", _saved(_palette(False))), _plain()),
    ("CMYK JPEG", beside_dogs(".jpg", _saved(_SOLID.convert("CMYK"), quality=100)), _plain(tolerance=12)),
    ("WebP", beside_dogs(".webp", _saved(_SOLID, lossless=True)), _plain()),
    ("BMP", beside_dogs(".bmp", _saved(_SOLID)), _plain()),
    ("TIFF", beside_dogs(".tif", _saved(_SOLID)), _plain()),
    ("PPM", beside_dogs(".ppm", _saved(_SOLID)), _plain()),
    ("capital suffix", beside_dogs(".JPG", _saved(_SOLID, format="JPEG", quality=100)), _plain(tolerance=6)),
    ("JPEG named PNG", beside_dogs(".png", _saved(_SOLID, format="JPEG", quality=100)), _plain(tolerance=6)),
    *(
        (f"orientation {turn} in {suffix}", _oriented(turn, suffix), _shows(_quadrants(), 40))
        for turn, suffix in (*((turn, ".jpg") for turn in range(1, 9)), (6, ".png"), (8, ".webp"), (6, ".tif"))
    ),
]  # fmt: skip

REFUSED: list[tuple[str, Make, str]] = [
    ("cut short JPEG", beside_dogs(".jpg", _bytes(_encoded(_noise(), "JPEG")[:1200])), ".jpg"),
    ("cut short PNG", beside_dogs(".png", _bytes(_encoded(_noise(), "PNG")[:1200])), "cat/0.png"),
    ("cut short WebP", beside_dogs(".webp", _bytes(_encoded(_noise(), "WEBP")[:300])), "cat/0.webp"),
    ("cut short BMP", beside_dogs(".bmp", _bytes(_encoded(_noise(), "BMP")[:1200])), "cat/0.bmp"),
    ("cut short TIFF", beside_dogs(".tif", _bytes(_encoded(_noise(), "TIFF")[:1200])), "cat/0.tif"),
    ("broken PNG", beside_dogs(".png", _bytes(_broken_png())), "cat/0.png"),
    ("empty file", beside_dogs(".png", _bytes(b"")), "cat/0.png"),
    ("text named JPEG", beside_dogs(".jpg", _bytes(b"<html>404</html>")), "cat/0.jpg"),
    ("more pixels than anyone means", beside_dogs(".png", _bytes(_bomb())), "cat/0.png"),
]  # fmt: skip
