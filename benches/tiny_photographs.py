"""Does the small model know photographs? ``python benches/tiny_photographs.py DATA``.

DATA/images holds pictures that do not ship: cut-out photographs with names (stamps), on white here,
and photographs of COCO with the classes that they show (coco_mini). Writes
benches/results/tiny-photographs.json.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZipFile

import typer
from PIL import Image

import fastclip
from fastclip.data.files import replacing
from fastclip.models.tiny import known_names
from fastclip.models.tiny.evaluate import encode_names


def entries(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


def pictures(folder: Path, name: str, chosen: list[dict[str, Any]]) -> list[Image.Image]:
    with ZipFile(folder / f"{name}.zip") as archive:
        return [Image.open(io.BytesIO(archive.read(entry["file"]))) for entry in chosen]


def on_white(picture: Image.Image) -> Image.Image:
    layers = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the folder images.")],
    output: Annotated[Path, typer.Option()] = Path(__file__).parent
    / "results"
    / "tiny-photographs.json",
) -> None:
    folder, model, known = data / "images", fastclip.models.load("tiny"), known_names()

    named = []
    for entry in entries(folder, "stamps"):
        name = re.sub(r"^(an?|the) ", "", entry["caption"].rstrip(".").lower())
        if entry["style"] == "photo" and name in known:
            named.append((entry, name))
    names = sorted({name for _, name in named})
    stamps = [on_white(p) for p in pictures(folder, "stamps", [entry for entry, _ in named])]
    best = fastclip.topk(model.encode_image(stamps), encode_names(model, names), 1).indices
    right = [names[i] == name for i, (_, name) in zip(best[:, 0].tolist(), named, strict=True)]

    photographs = entries(folder, "coco_mini")
    classes = sorted({name for entry in photographs for name in entry["classes"]})
    images = model.encode_image(pictures(folder, "coco_mini", photographs))
    first = fastclip.topk(images, encode_names(model, classes), 1).indices[:, 0].tolist()
    shown = [classes[i] in p["classes"] for i, p in zip(first, photographs, strict=True)]
    share = sum(len(entry["classes"]) for entry in photographs) / len(photographs) / len(classes)

    figures = {
        "cut-out photographs": {
            "pictures": len(named),
            "names": len(names),
            "top1": sum(right) / len(right),
            "chance": 1 / len(names),
        },
        "photographs of COCO": {
            "pictures": len(photographs),
            "classes": len(classes),
            "first_class_is_shown": sum(shown) / len(shown),
            "chance": share,
        },
    }
    with replacing(output) as part:
        part.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    typer.echo(output.read_text("utf-8"))


if __name__ == "__main__":
    typer.run(main)
