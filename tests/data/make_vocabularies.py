"""Write fastclip/data/vocabularies: make_vocabularies.py DATA.

DATA/vocab holds ``wordnet_noun_synsets.tsv.gz`` (WordNet 3.0: wnid, lemmas, hypernyms and more),
``cifar100_superclasses.json``, ``breeds.json`` (made by the package robustness) and
``imagenet1k.json`` (names of clip-benchmark), ``clip_templates.json`` (OpenAI's).
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pyarrow as pa

TARGET = Path(__file__).parents[2] / "fastclip/data/vocabularies"


def wordnet(source: Path) -> None:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        _, *rows = (line.rstrip("\n").split("\t") for line in file)
    place = {row[0]: i for i, row in enumerate(rows)}
    lines = []
    for row in rows:
        lemmas = dict.fromkeys(lemma.lower().replace("_", " ") for lemma in row[1].split("|"))
        above = [str(place[wnid]) for wnid in f"{row[3]} {row[4]}".split()]
        lines.append("|".join(lemmas) + "\t" + " ".join(above) + "\n")
    packed = pa.Codec("brotli", 11).compress("".join(lines).encode(), asbytes=True)
    (TARGET / "wordnet-nouns.tsv.br").write_bytes(packed)


def class_lists(folder: Path) -> None:
    def read(name: str) -> dict:
        return json.loads((folder / name).read_text("utf-8"))

    imagenet = {c["wnid"]: c["clip_name"] for c in read("imagenet1k.json")}
    breeds = read("breeds.json")
    lists = {
        "cifar100": read("cifar100_superclasses.json"),
        "imagenet": imagenet,
        **{
            name: {
                group["name"]: [subclass["wnid"] for subclass in group["subclasses"]]
                for group in breeds[name]
            }
            for name in ("entity13", "living17")
        },
    }
    templates = read("clip_templates.json")
    for name in ("cifar100", "cars", "caltech101", "sun397"):
        key = f"{name.removesuffix('100')}_templates"
        lists[key] = [template.replace("{c}", "{}") for template in templates[name]]
    text = json.dumps(lists, indent=1, ensure_ascii=False)
    (TARGET / "class-lists.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    vocabularies = Path(sys.argv[1]) / "vocab"
    wordnet(vocabularies / "wordnet_noun_synsets.tsv.gz")
    class_lists(vocabularies)
