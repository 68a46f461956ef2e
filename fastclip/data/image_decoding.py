"""From the bytes of an image file to the RGB picture that a model looks at."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Pillow's names. A fixed list, since some of its readers start other programs (EPS: ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_KEEP_NUMBERS = ("PNG", "GIF", "BMP", "TIFF")  # Pillow stretches PPM's to 255
_STRETCH = {"L;2": 85, "L;4": 17}  # and grey pixels of 2 and 4 bits by these factors
_ORIENTATION = 0x0112  # EXIF's tag

# To bring the shorter side to 224 pixels would take 224 * 224 * 3 bytes times this.
_LONGEST_TO_SHORTEST = 1000


def decode_image(data: bytes) -> Image.Image:
    """Decode an image file as people see it; the format follows from the bytes, not from a name.

    The picture is turned as its EXIF orientation says. Transparent pixels are laid on white. Of an
    animation, the first frame counts. 16-bit grey is rounded to 8 bit. Colour profiles are not
    applied.

    Parameters
    ----------
    data : bytes
        A whole JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000 or AVIF file (the last two where
        Pillow was built with them).

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    ValueError
        Not such a file, a damaged or truncated one, more pixels than Pillow's limit
        (twice ``PIL.Image.MAX_IMAGE_PIXELS``), a side more than 1,000 times the other one, or
        pixels without a defined white (32-bit integers and floating point).

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> from fastclip.data.image_decoding import decode_image
    >>> file = io.BytesIO()
    >>> Image.new("LA", (4, 3), (0, 0)).save(file, "PNG")  # black, but fully transparent
    >>> decode_image(file.getvalue()).getpixel((0, 0))
    (255, 255, 255)
    """
    from PIL import ImageOps

    with _opened(data) as image:
        _check_shape(image)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def orientation_of(data: bytes) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; the same errors as `decode_image`."""
    with _opened(data) as image:
        found = image.getexif().get(_ORIENTATION, 1)  # before it is loaded, which turns a TIFF
        return found if found in range(1, 9) else 1


def decode_label_map(data: bytes) -> np.ndarray[Any, Any]:
    """Return the pixels [H, W] of a grey or palette image as they are stored, not as colours.

    The map is turned as its own EXIF orientation says. The same errors as `decode_image`; also for
    colours, and for formats that do not keep numbers, such as JPEG.
    """
    import numpy as np
    from PIL import ImageOps

    with _opened(data) as image:
        if image.format not in _KEEP_NUMBERS:
            raise ValueError(
                f"{image.format} does not keep numbers, allowed: {', '.join(_KEEP_NUMBERS)}"
            )
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise ValueError(f"its mode is {image.mode}, allowed: grey or palette")
        _check_shape(image)
        stretch = _STRETCH.get(_layout(image), 1)
        image.load()
        pixels = np.asarray(ImageOps.exif_transpose(image))
        return pixels // stretch if stretch > 1 else pixels


def _layout(image: Image.Image) -> str:
    """Pillow's name for how pixels lie in the file."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image file; whatever is raised until it is closed becomes a ValueError."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image, allowed: {', '.join(_formats())}") from error
    # What Pillow raises for a broken file depends on where it is broken: SyntaxError, IndexError,
    # struct.error, zlib.error and more have been seen.
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_shape(image: Image.Image) -> None:
    if max(image.size) > _LONGEST_TO_SHORTEST * min(image.size):
        raise ValueError(
            f"{image.width} x {image.height} pixels, allowed: "
            f"one side at most {_LONGEST_TO_SHORTEST:,} times the other"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """The conversion of `decode_image` for a picture that is open already; the same errors."""
    if image.mode.startswith("I;16"):
        image = _to_8_bit(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (Pillow's mode {image.mode}) have no defined white")
    if image.has_transparency_data:
        from PIL import Image

        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """65535 becomes 255; Pillow's own conversion would cut off at 255."""
    import numpy as np
    from PIL import Image

    wide = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")  # one grey value, of a PNG
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return grey
