"""Numbers of the engine that were chosen for speed or memory, and by what.

None changes an answer. Those of the kernels are in csrc/cpu/tuning.h and csrc/cuda/tuning.h.
"""

from dataclasses import dataclass


@dataclass
class Tuning:
    """How much is taken at a time, and from where on one way is faster than another."""

    # Keys are packed on the way of a call from so many queries and keys on: about where packing
    # takes as long as screening saves, by coarse timings.
    pack_from_queries: int = 256
    pack_from_keys: int = 8192
    # Keys that are packed at a time: 200 MB of codes where rows have 768 numbers.
    pack_keys: int = 1 << 18
    # On devices, as many pairs and at least so many queries: not measured on one yet.
    device_pack_from_queries: int = 4
    device_pack_keys: int = 1 << 20

    # The keys that count are gathered to search them alone from so many (query, key) pairs on that
    # this saves for each of them: with AVX2 2,000 take as long as to gather and pack a key, with
    # AMX 16,000.
    gather_from_pairs: int = 1 << 13

    # On the CPU, also where exact scores would be faster: for tests.
    always_screen: bool = False

    # Queries of all ranks together that are sent at a time: enough for the kernels, and 32 MB where
    # rows have 512 float32 numbers.
    rank_queries: int = 1 << 14

    # Memory for keys in files, where the function has no argument for it.
    stream_bytes: int = 1 << 30
    # Rows of a chunk: more at a time are no faster, measured; fewer are not worth a call.
    most_chunk_rows: int = 1 << 18
    least_chunk_rows: int = 256
    # Rows on their way to a device, in pinned memory: enough to hide what a copy takes to begin.
    pinned_bytes: int = 16 << 20
    # Numbers of an argument in a file that are checked at a time: 8 MB.
    column_numbers: int = 1 << 20


TUNING = Tuning()
"""The numbers in use. Tests change them, to have many parts of little."""
