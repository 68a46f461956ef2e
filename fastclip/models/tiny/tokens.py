"""CLIP's byte-pair vocabulary, cut down to what small captions need."""

import gzip
import io
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from fastclip.data.files import replacing
from fastclip.data.scenes import Drawings

_KEPT = 4000  # first merges, which are those of the most frequent words
_CAPTION_WORDS = (
    "a an the and of in on with to left right above below small big large little picture drawing "
    "photo icon image scene object things next under over red green blue yellow black white"
)


def words_of(drawings: Drawings) -> set[str]:
    """Every word that names, tags, groups and captions of ``drawings`` are made of."""
    texts = [*drawings.names, *drawings.groups, *(t for tags in drawings.tags for t in tags)]
    return {word for text in [*texts, _CAPTION_WORDS] for word in re.findall(r"[a-z]+", text)}


def write_pruned_bpe(path: Path, words: Iterable[str]) -> int:
    """Write the first merges and those that ``words`` use; return the number of token ids.

    Merges keep their order, so each of ``words`` splits as CLIP splits it.
    """
    import open_clip.tokenizer

    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        header, *lines = file.read().split("\n")
    merges = [tuple(line.split()) for line in lines[: 49152 - 256 - 2]]
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    kept = set(range(_KEPT))
    for word in words:
        kept.update(_merges_of(word, ranks))
    text = "\n".join([header, *(" ".join(merges[rank]) for rank in sorted(kept))])
    # No name or time in the header: equal vocabularies give equal bytes.
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as file:
        file.write(text.encode())
    with replacing(path) as part:
        part.write_bytes(packed.getvalue())
    return 512 + len(kept) + 2


def _merges_of(word: str, ranks: dict[tuple[str, ...], int]) -> set[int]:
    parts = [*word[:-1], word[-1] + "</w>"]
    used = set()
    while len(parts) > 1:
        pairs = [ranks.get(pair, len(ranks)) for pair in pairwise(parts)]
        rank = min(pairs)
        if rank == len(ranks):
            break
        used.add(rank)
        at = pairs.index(rank)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return used


@lru_cache
def tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """open_clip's tokenizer of the model in ``folder``."""
    import open_clip

    return open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / "bpe.txt.gz"))
