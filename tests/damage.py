"""What happens to files: bytes that flip or are lost, headers that lie."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, -1, 3, 2**31, 2**63, 2**64, 10**30, 1.5, float("nan"), float("inf"),
    "", "x", "\ud800", "a" * 5000, [], [0], [True, 3], [4, True], [-4, -3], [4, -3], [2**62, 4],
    [4, 3.0], [0, 4], [4, 0], [48, 0], [8, 56], [-48, 0], [0, 10**30], [[4], 3], [4, 3, 1],
    {}, {"x": 1}, [{}], [None, None],
]  # fmt: skip
LITERALS = [
    "None", "True", "-1", "()", "(4,)", "(True, 3)", "(4, True)", "(-4, -3)", "(-4, 3)", "(4, 3.0)",
    "(4, 300)", "(4, 0)", "(2**62, 4)", "(4, 3, 1, 1)", "(9223372036854775807, 3)", "'<f4'", "[]",
    "(99999999999999999999999999, 3)", "('<f4',)", "('<f4', (2,))", "{}", "{1: 2, 'x': 3}", "'|O'",
    "'<U0'", "'V0'", "b'<f4'", "1e400", "[('a', '<f4')]", "(" * 3000, "[" * 150 + "]" * 150,
    "-" * 5000 + "1", "'\\ud800'", "lambda: 0", "__import__('os')", "4L", "", "'<f4' '<f2'",
]  # fmt: skip


def of_bytes(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Truncated, longer, with flipped bits, zeros and noise; most near the ends, where headers
    are."""
    rng = random.Random(seed)
    size = len(whole)
    yield from (b"", whole + b"\0", whole + whole)
    for _ in range(count):
        near = rng.choice((size, min(size, 200)))
        at = rng.randrange(near)
        at = rng.choice((at, size - 1 - at))
        damaged = bytearray(whole)
        kind = rng.randrange(5)
        if kind == 0:
            yield whole[:at]
            continue
        if kind <= 2:
            damaged[at] ^= 1 << rng.randrange(8)
        else:
            length = min(rng.randint(1, 16), size - at)
            noise = rng.randbytes(length) if kind == 3 else bytes(length)
            damaged[at : at + length] = noise
        yield bytes(damaged)


def every_flip(whole: bytes, step: int = 1, seed: int = 0) -> Iterator[bytes]:
    """One bit of each ``step``-th byte flipped, one at a time."""
    rng = random.Random(seed)
    for at in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


def of_json(content: bytes) -> Iterator[bytes]:
    """JSON with every value replaced by others or left out, twice, nested deeply, not UTF-8."""
    value = json.loads(content)
    for path in _paths(value):
        for other in VALUES:
            yield json.dumps(_changed(value, path, other)).encode()
        if path:
            yield json.dumps(_changed(value, path, ...)).encode()
    text = content.decode().strip()
    first = text.index('"')
    yield (text[:first] + '"x": 1, "x": 2, ' + text[first:]).encode()
    yield (text[:-1] + "," + text[1:]).encode()  # every name twice
    yield (text[:first] + '"x": ' + "[" * 100_000 + "]" * 100_000 + ", " + text[first:]).encode()
    yield (text[:first] + '"x": ' + '{"a":' * 100_000).encode()
    yield (text[:first] + '"\xff": 1, ' + text[first:]).encode("latin-1")
    yield text.encode("utf-16")
    yield b"\xef\xbb\xbf" + text.encode()
    yield (text[:first] + '"x": ' + "9" * 10_000 + ", " + text[first:]).encode()
    yield (text[:first] + '"x": NaN, ' + text[first:]).encode()
    yield b"[" * 1000
    yield b""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(inner, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A copy with what is at ``path`` replaced, or left out for an ellipsis."""
    if not path:
        return other
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    if other is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = other
    return found


def of_safetensors(whole: bytes) -> Iterator[bytes]:
    """The same tensors after a header that is damaged as JSON."""
    length = int.from_bytes(whole[:8], "little")
    for header in of_json(whole[8 : 8 + length]):
        yield len(header).to_bytes(8, "little") + header + whole[8 + length :]
    for wrong in (0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1):
        yield wrong.to_bytes(8, "little") + whole[8:]


def of_npy(whole: bytes) -> Iterator[bytes]:
    """The same array after a header that says something else."""
    length = int.from_bytes(whole[8:10], "little")
    data = whole[10 + length :]
    entries = {"descr": "'<f4'", "fortran_order": "False", "shape": "(4, 3)"}
    for name in entries:
        for literal in LITERALS:
            yield _npy(
                ", ".join(f"'{n}': {x}" for n, x in {**entries, name: literal}.items()), data
            )
        yield _npy(", ".join(f"'{n}': {x}" for n, x in entries.items() if n != name), data)
    whole_header = ", ".join(f"'{n}': {x}" for n, x in entries.items())
    for text in ("'shape': (4, 3), " + whole_header, whole_header + ", 'x': 1", "1: 2", "\xff"):
        yield _npy(text, data)
    for wrong in (0, 1, length - 1, length + 1, 65535):
        yield whole[:8] + wrong.to_bytes(2, "little") + whole[10:]
    for version in (b"\0\0", b"\2\0", b"\3\0", b"\1\1", b"\xff\xff"):
        yield whole[:6] + version + whole[8:]


def _npy(entries: str, data: bytes) -> bytes:
    header = ("{" + entries + "}\n").encode("latin-1")
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data
