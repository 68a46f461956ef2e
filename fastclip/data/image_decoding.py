"""From the bytes of an image file to the RGB picture that a model looks at."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Pillow's names. A fixed list, since some of its readers start other programs (EPS: ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

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
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_shape(image)
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
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
