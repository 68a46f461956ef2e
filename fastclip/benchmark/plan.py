"""The sizes that ``fastclip bench`` measures, and the memory that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from fastclip import _C
from fastclip.benchmark.answers import MOST_CHECKED
from fastclip.benchmark.case import Case, unit_rows
from fastclip.benchmark.machine import free_memory
from fastclip.benchmark.questions import CHUNK_SCORES, FOR_FAISS, QUESTIONS, Input

PEERS = {"torch": "", "faiss": "pip install faiss-cpu"}
"""Peers, and how to install them."""

QUERIES = (1, 16, 64, 256, 2048, 16_384)
KEYS = (80, 1000, 8192, 131_072, 1_048_576)
"""The sizes of a grid."""


@dataclass(frozen=True)
class Size:
    queries: int
    keys: int
    dim: int
    k: int

    def __str__(self) -> str:
        return f"{self.queries:,} queries x {self.keys:,} keys x {self.dim:,}"

    def needed(self, peers: Sequence[str], device: torch.device) -> int:
        """Return how many bytes this takes at most while all is there, the whole scores aside."""
        rows = 4 * self.dim
        made = 8 * self.dim * max(self.queries, self.keys)  # while they are being made
        packed = self.keys * (_C.code_width(self.dim) + 12)
        index = self.keys * rows if "faiss" in peers else 0
        answers = 48 * self.queries * min(self.k, self.keys)
        checked = 8 * min(MOST_CHECKED, 16 * self.keys)
        torch_chunk = 12 * min(CHUNK_SCORES[device.type], self.queries * self.keys)
        return (self.queries + self.keys) * rows + max(
            made, packed + index + answers + checked + torch_chunk
        )

    @property
    def scores(self) -> int:
        """Bytes of all scores twice: torch's product, and what is made of it."""
        return 8 * self.queries * self.keys


def choose_peers(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of the peers are installed, and what to say of the others.

    Raises
    ------
    ValueError
        There is no such peer.
    """
    chosen, missing = [], []
    for name in names:
        if name not in PEERS:
            raise ValueError(f"--peers: is {name!r}, allowed: {', '.join(PEERS)}")
        if find_spec(name) is None:
            missing.append(f"{name} is not installed and not measured: {PEERS[name]}")
        else:
            chosen.append(name)
    return chosen, missing


def grid(largest: Size) -> list[Size]:
    """Return the sizes of a grid up to this one, which is the last."""
    queries = [*(n for n in QUERIES if n < largest.queries), largest.queries]
    keys = [*(v for v in KEYS if largest.k <= v < largest.keys), largest.keys]
    return [Size(n, v, largest.dim, largest.k) for v in keys for n in queries]


def check_sizes(sizes: Sequence[Size], peers: Sequence[str], device: torch.device) -> None:
    """Raise ValueError where a size cannot be, before anything is allocated."""
    for size in sizes:
        if not 1 <= size.k <= size.keys:
            raise ValueError(f"-k: is {size.k}, allowed: 1 to {size.keys:,}, the number of --keys")
        needed, free = size.needed(peers, device), free_memory(device)
        if free is not None and needed > free:
            raise ValueError(
                f"{size} needs {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free: "
                "ask for fewer --keys or --queries, or a smaller --dim"
            )


class Inputs:
    """Random rows of length 1; those of the last number of keys are kept."""

    def __init__(self, device: torch.device, peers: Sequence[str]) -> None:
        self.device, self.peers = device, peers
        self._keys = torch.empty(0, 0)

    def case(self, op: str, size: Size) -> Case:
        """Return a question of this size."""
        if self._keys.shape != (size.keys, size.dim):
            self._keys = torch.empty(0, 0)  # gives the memory of the last ones back
            self._keys = unit_rows(size.keys, size.dim, 1).to(self.device)
        queries = unit_rows(size.queries, size.dim, 0).to(self.device)
        peers = [name for name in self.peers if name != "faiss" or op in FOR_FAISS]
        free = free_memory(self.device)
        whole = free is None or size.needed(peers, self.device) + size.scores <= free
        return QUESTIONS[op](Input(queries, self._keys, peers=peers, whole=whole), size.k)
