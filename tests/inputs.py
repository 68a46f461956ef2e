"""Inputs that operations are tried on: hypothesis strategies and named hard cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "columns of a wider matrix": lambda x: _wider(x)[:, 3 : 3 + x.shape[1]],
    "every second row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "transposed": lambda x: x.T.clone().T,
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
}


def _wider(x: torch.Tensor) -> torch.Tensor:
    wide = torch.full((x.shape[0], x.shape[1] + 7), float("nan"), dtype=x.dtype)
    wide[:, 3 : 3 + x.shape[1]] = x
    return wide


VALUES = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "few values, many ties": lambda rng, shape: rng.integers(-1, 2, shape),
    "exponents from 2^-20 to 2^15": lambda rng, shape: (
        rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 14, shape)
    ),
    "denormals": lambda rng, shape: rng.standard_normal(shape) * 1e-41,
}


@dataclass(frozen=True)
class Problem:
    queries: torch.Tensor
    keys: torch.Tensor


@st.composite
def problems(draw: st.DrawFn, max_queries: int = 20, max_keys: int = 70) -> Problem:
    """Queries and keys of any small shape, 0 included, dtype, memory layout and kind of values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(0, 70))
    kind = draw(st.sampled_from(sorted(VALUES)))

    def rows(count: int) -> torch.Tensor:
        values = torch.from_numpy(np.asarray(VALUES[kind](rng, (count, width)), np.float32))
        if count > 1 and draw(st.booleans()):
            values[count // 2 :] = values[: count - count // 2].clone()  # duplicates
        dtype = draw(st.sampled_from(DTYPES))
        return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](values.to(dtype))

    return Problem(rows(draw(st.integers(0, max_queries))), rows(draw(st.integers(0, max_keys))))


def many_ties(queries: int, keys: int, width: int) -> Problem:
    """Small whole numbers."""
    generator = torch.Generator().manual_seed(keys)
    q = torch.randint(-2, 3, (queries, width), generator=generator).float()
    return Problem(q, torch.randn(keys, width, generator=generator).round())


PIXEL_LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "h and w exchanged": lambda x: x.transpose(2, 3).clone().transpose(2, 3),
    "every second column": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
}


@dataclass(frozen=True)
class PixelProblem:
    pixels: torch.Tensor
    tags: torch.Tensor


@st.composite
def pixel_problems(draw: st.DrawFn, max_images: int = 2, max_tags: int = 40) -> PixelProblem:
    """Pixels and at least one tag, like `problems`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, width = draw(st.integers(0, max_images)), draw(st.integers(0, 40))
    h, w, count = (draw(st.integers(1, n)) for n in (7, 7, max_tags))
    values = VALUES[draw(st.sampled_from(sorted(VALUES)))]

    def tensor(*shape: int) -> torch.Tensor:
        x = torch.from_numpy(np.asarray(values(rng, shape), np.float32))
        return x.to(draw(st.sampled_from(DTYPES)))

    tags = tensor(count, width)
    if count > 1 and draw(st.booleans()):
        tags[count // 2 :] = tags[: count - count // 2].clone()  # duplicates
    pixels = PIXEL_LAYOUTS[draw(st.sampled_from(sorted(PIXEL_LAYOUTS)))](
        tensor(images, width, h, w)
    )
    return PixelProblem(pixels, LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](tags))


@st.composite
def pixels_of_all_magnitudes(draw: st.DrawFn) -> PixelProblem:
    """Pixels and tags whose magnitudes have nothing to do with each other, from 1e-45 to 3e38."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = np.finfo(np.float32).max

    def tensor(*shape: int) -> torch.Tensor:
        exponents = draw(st.floats(-45, 38.5)) - draw(st.sampled_from([0, 10])) * rng.random(shape)
        values = rng.standard_normal(shape) * 10**exponents
        return torch.from_numpy(values.clip(-largest, largest).astype(np.float32))

    return PixelProblem(tensor(1, 20, 3, 4), tensor(30, 20))


def smooth_pixels(tags: torch.Tensor, images: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    """Pixels as real ones are: unit-length mixes of tag features that vary slowly over the grid."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (h // 4 + 1, w // 4 + 1)
    drawn = torch.randint(len(tags), (images, *coarse), generator=generator)
    mixes = torch.nn.functional.interpolate(
        tags[drawn].permute(0, 3, 1, 2), size=(h, w), mode="bicubic"
    )
    noise = torch.randn(mixes.shape, generator=generator) * 0.1 / tags.shape[1] ** 0.5
    return torch.nn.functional.normalize(mixes + noise, dim=1)


def pixel_hard_cases() -> dict[str, PixelProblem]:
    """Pixels and tags on which a bound or a tie goes wrong first."""
    rng = np.random.default_rng(0)
    p, t = _unit(rng, 2, 3, 5, 24).transpose(0, 3, 1, 2), _unit(rng, 90, 24)
    steps = np.arange(90, dtype=np.float32)[:, None] * np.float32(2.0**-24)
    smooth = smooth_pixels(torch.from_numpy(t), 2, 5, 9).numpy()
    cases = {
        "random": (p, t),
        "smooth": (smooth, t),
        "all tags equal": (p, np.repeat(t[:1], 90, axis=0)),
        "all pixels equal": (np.broadcast_to(p[:, :, :1, :1], p.shape), t),
        "zeros": (np.zeros_like(p), t),
        "tags repeated": (p, np.tile(t[:30], (3, 1))),
        "tags within 1e-7 of each other": (p, t[:1] + 1e-7 * t),
        "tags one unit apart": (np.abs(p), np.abs(t[:1]) * (1 + steps)),
        "huge common offset": (p + 1e4, t + 1e4),
        "huge scores": (p * 1e18, t * 1e18),
        "denormal scores": (p * 1e-22, t * 1e-20),
        "only the sign of zero differs": (np.abs(p) * 1e-30, -np.abs(t) * 1e-30),
        "one pixel a million times brighter": (_with(p, (0, slice(None), 1, 2), 1e6), t),
    }
    return {
        name: PixelProblem(
            torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(tags.astype(np.float32))
        )
        for name, (pixels, tags) in cases.items()
    }


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _with(x: np.ndarray, index: object, value: object) -> np.ndarray:
    x = x.copy()
    x[index] = value
    return x


def hard_cases() -> dict[str, Problem]:
    """Inputs on which shortcuts go wrong."""
    rng = np.random.default_rng(0)
    q, k = _unit(rng, 9, 70), _unit(rng, 700, 70)
    cases = {
        "all keys equal": (q, np.repeat(k[:1], 700, axis=0)),
        "keys within 1e-7 of each other": (q, k[:1] + 1e-7 * k),
        "duplicates across blocks of keys": (q, np.tile(k[:70], (10, 1))),
        "huge common offset": (q + 1e4, k + 1e4),
        "one huge norm": (q, _with(k, 5, k[5] * 1e30)),
        "norms from 1e-20 to 1e20": (q, k * np.logspace(-20, 20, 700)[:, None]),
        "one outlier dimension": (_with(q, (..., 3), 50), _with(k, (..., 3), 80)),
        "denormals": (q * 1e-38, k * 1e-3),
        "scores that overflow": (q * 1e30, k * 1e30),
        "zeros": (np.zeros_like(q), k),
        "only the sign of zero differs": (np.abs(q) * 1e-30, -np.abs(k) * 1e-30),
        "rising order": (q[:1], np.linspace(-1, 1, 700)[:, None] * q[:1]),
        "best key last": (q, np.concatenate([k * 1e-3, q])),
    }
    return {
        name: Problem(
            torch.from_numpy(queries.astype(np.float32)), torch.from_numpy(keys.astype(np.float32))
        )
        for name, (queries, keys) in cases.items()
    }
