"""The one reader of image files: whatever a file holds becomes an upright 8-bit RGB picture, or one line that names it.

- 16-bit integers are scaled by their range (signed ones by their positive half, negative values are refused); floats
  are to lie in [0, 1], where 1 is white. 32-bit integers, and floats outside, have no value that means white: refused.
- What is transparent is laid on white, as most programs do that export to JPEG.
- The orientation that EXIF states is applied, as viewers do; of an animation the first frame counts.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from PIL import Image

from ..base.errors import BrickyardError

# fmt: off
SUFFIXES = frozenset({  # of formats that Pillow reads wherever it is installed
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
PIXELS = 150_000_000  # of one image, at most; they take half a GiB and more while they are decoded
BYTES = 2**31  # of one file, at most
BACKGROUND = (255, 255, 255)  # behind what is transparent

_BIT_DEPTH, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274  # tags of TIFF and EXIF
_DECODED: dict[str, Callable[[int], int]] = {  # what Pillow makes of a PNG's levels, but not of the transparent one
    "L;2": lambda level: (level & 3) * 85,
    "L;4": lambda level: (level & 15) * 17,
    "RGB;16B": lambda level: level >> 8,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def opened(file: Path) -> Image.Image:
    """The picture in `file`, mode RGB; raises BrickyardError naming the file where it holds none that can be read."""
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):
            raise BrickyardError("it is no ordinary file")
        if status.st_size > BYTES:
            raise BrickyardError(f"it has {status.st_size:,} bytes; the limit is {BYTES:,}")
        # not by its name: Pillow would map the file into memory and mix up the pixels of turned TIFFs
        with warnings.catch_warnings(action="ignore"), file.open("rb") as stream, Image.open(stream) as image:
            if image.width * image.height > PIXELS:
                raise _too_large(f"{image.width} x {image.height} pixels")
            return rgb(image)
    except Image.DecompressionBombError:
        reason = str(_too_large("more pixels than that"))
    except Image.UnidentifiedImageError:
        reason = "it is empty" if file.stat().st_size == 0 else "no format that is known here"
    except Exception as error:  # whatever a decoder raises on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise BrickyardError(f"{shown(file)} is not a readable image: {reason}")


def rgb(image: Image.Image) -> Image.Image:
    """An open image as an upright picture of mode RGB; raises BrickyardError where its values have no known range."""
    layout = _layout(image)
    image.load()
    key = image.info.get("transparency")
    if layout in _DECODED and key is not None:
        level = _DECODED[layout]
        image.info["transparency"] = tuple(map(level, key)) if isinstance(key, tuple) else level(key)
    turn = _UPRIGHT.get(_orientation(image))
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        image = _grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def shown(path: Path | str) -> str:
    """A path for a message or a line of output: as it is, or quoted as JSON quotes where it would break the line."""
    import json

    text = str(path)
    return text if text.isprintable() and not text.startswith('"') else json.dumps(text)


def _too_large(size: str) -> BrickyardError:
    return BrickyardError(f"the limit is {PIXELS:,} pixels and it has {size}; scale it down first")


def _layout(image: Image.Image) -> str:
    """How the file of an image packs its pixels, in Pillow's words; known only until they are loaded."""
    tiles: Any = getattr(image, "tile", None)
    layout = tiles[0].args if tiles else ""
    return layout if isinstance(layout, str) else ""


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a photograph with damaged EXIF is a photograph
        return 1


def _grey(image: Image.Image) -> Image.Image:
    """A greyscale image of 16-bit integers or floats as one of mode L, or LA where one value means transparent."""
    tags: Any = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "F":
        low, high, white = 0.0, 1.0, 1.0
        what = "floats"
    elif image.mode.startswith("I;16"):
        bits = int(np.max(tags.get(_BIT_DEPTH, 16)))
        low, high, white = 0, 2**bits - 1, 2**bits - 1
        what = f"{bits}-bit integers"
    elif image.format == "PPM":  # Pillow scales these to 16 bits
        low, high, white = 0, 2**16 - 1, 2**16 - 1
        what = "16-bit integers"
    elif int(np.max(tags.get(_BIT_DEPTH, 32))) == 16:
        low, high, white = 0, 2**15 - 1, 2**15 - 1
        what = "signed 16-bit integers"
    else:
        raise BrickyardError("32-bit integers have no value that means white; save it with 8 or 16 bits")
    if values.size and not (values.min() >= low and values.max() <= high):  # not: NaN compares as false
        raise BrickyardError(
            f"{what} from {values.min():g} to {values.max():g}; expected {low:g} to {high:g}, where {white:g} is white"
        )
    levels = np.round(values * (255 / white)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero: Pillow turns 8-bit ones alone
        levels = 255 - levels
    key = image.info.get("transparency")
    if isinstance(key, int):
        return Image.fromarray(np.stack([levels, np.where(values == key, 0, 255).astype(np.uint8)], -1), "LA")
    return Image.fromarray(levels)
