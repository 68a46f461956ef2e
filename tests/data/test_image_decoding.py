from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastclip.data.image_decoding import decode_image

RNG = np.random.default_rng(0)
RGB = Image.fromarray(RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8))
LOSSLESS = ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"]


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_left_alone():
    for format in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels(decode_image(encoded(RGB, format))), pixels(RGB))
    lossless = encoded(RGB, "WEBP", lossless=True)
    np.testing.assert_array_equal(pixels(decode_image(lossless)), pixels(RGB))
    jpeg = encoded(RGB, "JPEG")
    np.testing.assert_array_equal(pixels(decode_image(jpeg)), Image.open(io.BytesIO(jpeg)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation, format):
    # what has to be done to the stored array, by the EXIF standard's picture of each orientation
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode_image(encoded(RGB, format))
    turned = decode_image(encoded(RGB, format, exif=exif))
    np.testing.assert_array_equal(pixels(turned), turn(pixels(plain)))


def test_palette_grey_and_black_and_white():
    palette = RGB.quantize(16)
    expected = pixels(palette.convert("RGB"))
    np.testing.assert_array_equal(pixels(decode_image(encoded(palette))), expected)
    np.testing.assert_array_equal(pixels(decode_image(encoded(palette, "GIF"))), expected)
    grey = RGB.convert("L")
    np.testing.assert_array_equal(
        pixels(decode_image(encoded(grey))), np.repeat(np.asarray(grey)[..., None], 3, 2)
    )
    bits = RGB.convert("1")
    found = pixels(decode_image(encoded(bits)))
    np.testing.assert_array_equal(found[..., 0], np.where(np.asarray(bits), 255, 0))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_range(format):
    wide = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    found = pixels(decode_image(encoded(Image.fromarray(wide), format)))
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]
    assert (found == found[..., :1]).all()


def png(width: int, height: int, colour: int, depth: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG file put together by hand: what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *more,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_16_bit_rgb_and_transparent_16_bit_grey():
    colours = png(2, 1, 2, 16, b"\0" + struct.pack(">6H", 65535, 0, 32896, 257, 514, 65535))
    assert pixels(decode_image(colours)).tolist() == [[[255, 0, 128], [1, 2, 255]]]
    data = struct.pack(">H", 300)
    tag = struct.pack(">I", 2) + b"tRNS" + data + struct.pack(">I", zlib.crc32(b"tRNS" + data))
    greys = png(3, 1, 0, 16, b"\0" + struct.pack(">3H", 300, 301, 0), tag)
    assert pixels(decode_image(greys))[0, :, 0].tolist() == [255, 1, 0]


def test_cmyk():
    cmyk = Image.merge("CMYK", [Image.new("L", (8, 8), value) for value in (0, 255, 255, 0)])
    for format in ("JPEG", "TIFF"):
        found = pixels(decode_image(encoded(cmyk, format)))
        assert abs(found.astype(int) - (255, 0, 0)).max() <= 3


def test_transparency_is_laid_on_white():
    for mode, colour, expected in (
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("LA", (0, 51), (204, 204, 204)),
    ):
        found = pixels(decode_image(encoded(Image.new(mode, (3, 2), colour))))
        assert (found == expected).all()
    palette = RGB.quantize(4)
    clear = np.asarray(palette) == 2
    for format in ("PNG", "GIF"):
        found = pixels(decode_image(encoded(palette, format, transparency=2)))
        assert (found[clear] == 255).all()
        np.testing.assert_array_equal(found[~clear], pixels(palette.convert("RGB"))[~clear])
    red = Image.new("RGB", (2, 2), (9, 8, 7))
    assert (pixels(decode_image(encoded(red, transparency=(9, 8, 7)))) == 255).all()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (pixels(decode_image(data)) == (255, 0, 0)).all()


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "JPEG2000", "AVIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated(format):
    if format not in _available():
        pytest.skip(f"Pillow has no {format} here")
    data = encoded(RGB, format)
    for size in {1, 4, 16, 20, 40, len(data) // 4, len(data) // 2, len(data) * 9 // 10}:
        with pytest.raises(ValueError, match=r".") as caught:
            decode_image(data[:size])
        assert "0x" not in str(caught.value)  # no address: the same text in every run


def _available() -> set[str]:
    Image.init()
    return set(Image.SAVE)


def test_what_is_no_image():
    with pytest.raises(ValueError, match="the file is empty"):
        decode_image(b"")
    with pytest.raises(ValueError, match=r"not an image, allowed: JPEG, PNG, WEBP"):
        decode_image(b"hello, I am a text")
    # Pillow would start ghostscript for it
    with pytest.raises(ValueError, match="not an image"):
        decode_image(encoded(RGB, "EPS"))


def test_32_bit_pixels_have_no_defined_white():
    for array in (np.ones((4, 4), np.float32), np.ones((4, 4), np.int32)):
        with pytest.raises(ValueError, match="no defined white"):
            decode_image(encoded(Image.fromarray(array), "TIFF"))


def test_decompression_bomb():
    bomb = png(30_000, 30_000, 0, 1, b"\0" * 10)
    with pytest.raises(ValueError, match="decompression bomb"):
        decode_image(bomb)


def test_elongated():
    assert decode_image(encoded(Image.new("RGB", (1, 1000)))).size == (1, 1000)
    with pytest.raises(ValueError, match=r"1 x 1001 pixels, allowed: one side at most 1,000 times"):
        decode_image(encoded(Image.new("RGB", (1, 1001))))


@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_is_read_or_reported(format, data):
    damaged = bytearray(encoded(RGB, format))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    # Any other error fails the test.
    with contextlib.suppress(ValueError):
        assert decode_image(bytes(damaged)).mode == "RGB"


def test_real_cut_outs(real_data):
    with zipfile.ZipFile(real_data / "images" / "stamps.zip") as archive:
        for name in archive.namelist()[::40]:
            data = archive.read(name)
            alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
            found = pixels(decode_image(data))
            assert (found[alpha == 0] == 255).all()
            assert found.shape[:2] == alpha.shape
