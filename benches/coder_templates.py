"""Write the words of CODER's authors as a file for `fastclip.coder.text_templates`.

    git clone https://github.com/YCaigogogo/CVPR24-CODER
    python benches/coder_templates.py CVPR24-CODER DTD -o dtd.json [--task few-shot]
    fastclip coder texts ... --templates dtd.json

Their repository has no licence, so that their words cannot ship with fastclip. Runs their
CODER/template.py with slots for values. Data sets, as they name them: ImageNet, places-365,
caltech-101, DTD, CUB200, eurosat, food-101, oxford-pet, oxford_flowers, Aircraft, ucf101 and more.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Annotated, Literal

import typer

from fastclip.coder import text_templates


def main(
    repository: Path,
    dataset: str,
    output: Annotated[Path, typer.Option("--output", "-o")],
    task: Literal["zero-shot", "few-shot"] = "zero-shot",
) -> None:
    get = runpy.run_path(str(repository / "CODER" / "template.py"))["get_templates"]
    slots = {
        "class_name": "{name}",
        "att": "{attribute}",
        "ana": "{other}",
        "ovo": "{feature}",
        "other_class_name": "{other}",
    }
    (name,), (attribute,), (analogous,), frames = (
        get(dataset, kind, **slots, task_type=task) for kind in ("name", "att", "ana", "ovo")
    )
    found = {"name": name, "attribute": attribute, "analogous": analogous, "one_to_one": frames}
    output.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    typer.echo(f"{output}: {len(text_templates(output).one_to_one)} one-to-one templates")


if __name__ == "__main__":
    typer.run(main)
