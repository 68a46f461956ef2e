"""JSON that people write: UTF-8, with or without a mark, maybe packed, and never a pickle."""

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file holds; raise ValueError, with its path, if it is none."""
    try:
        return parsed(decoded(Path(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decoded(path: Path) -> str:
    """Return the text of a file; raise ValueError, without its path, if it is no UTF-8."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"is no whole gzip file: {error}") from error
    if path.suffix in (".pkl", ".pickle") or raw[:1] == b"\x80":
        raise ValueError(
            "is a pickle, which may run any code when it is read; if you trust it, write what it "
            'holds as JSON, {"name": ["text", ...], ...}'
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is no UTF-8 at byte {error.start:,}, {raw[error.start : error.start + 1]!r}; save it "
            "as UTF-8"
        ) from error


def parsed(text: str, place: str = "") -> Any:
    """Return what JSON holds; raise ValueError, with the place, if it is none or a key is twice."""
    at = f"{place}: " if place else ""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(f"{at}is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{at}is no JSON: {error}") from error
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} occurs twice")
        found[key] = value
    return found
