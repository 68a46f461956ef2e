"""Write fastclip/data/vocabularies/wordnet-senses.tsv.br: make_senses.py DICT.

DICT is the folder of WordNet 3.0's own files (Debian: package wordnet-base, /usr/share/wordnet). A
line belongs to the line of wordnet-nouns.tsv.br with the same number: the definition, the sense
number of each lemma, and the lines of the parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

TARGET = Path(__file__).parents[2] / "fastclip/data/vocabularies/wordnet-senses.tsv.br"


def main(folder: Path) -> None:
    senses = {}
    for line in _lines(folder / "index.noun"):
        lemma, _, count, pointers, *rest = line.split()
        offsets = rest[int(pointers) + 2 :]
        assert len(offsets) == int(count)
        senses[lemma] = offsets
    rows = [line.partition("|")[::2] for line in _lines(folder / "data.noun")]
    place = {fields.split()[0]: i for i, (fields, _) in enumerate(rows)}
    out = []
    for fields, gloss in rows:
        offset, _, _, count, *rest = fields.split()
        words = [word.lower() for word in rest[: 2 * int(count, 16) : 2]]
        numbers = [str(senses[word].index(offset) + 1) for word in dict.fromkeys(words)]
        pointers = rest[2 * int(count, 16) + 1 :]
        starts = range(0, 4 * int(rest[2 * int(count, 16)]), 4)
        parts = [str(place[pointers[i + 1]]) for i in starts if pointers[i] == "%p"]
        definition = gloss.split('; "')[0].strip()  # what follows are examples of its use
        out.append("\t".join((definition, " ".join(numbers), " ".join(parts))) + "\n")
    TARGET.write_bytes(pa.Codec("brotli", 11).compress("".join(out).encode(), asbytes=True))


def _lines(path: Path) -> list[str]:
    """All lines but those of the licence, which start with spaces."""
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith("  ")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
