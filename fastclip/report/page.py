"""What all reports share: pages and results as files, and pictures within pages."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastclip.data.files import dump_json, replacing
from fastclip.data.image_decoding import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Fill a template of this folder, which escapes what it shows; write it whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fastclip.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**shown)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def write_results(folder: Path, content: dict[str, Any]) -> None:
    """Write the numbers of a report into ``results.json``."""
    dump_json(folder / "results.json", content, indent=1, ensure_ascii=False, allow_nan=False)


def thumbnail(image: Image, side: int, **options: Any) -> str:
    """As `data_uri`, shrunk to ``side`` pixels, with the colours that a model gets: over white."""
    small = to_rgb(image).copy()
    small.thumbnail((side, side))
    return data_uri(small, **options)


def data_uri(image: Image, **options: Any) -> str:
    """Return an image as the source of an ``<img>``; ``options`` are those of ``Image.save``."""
    file = io.BytesIO()
    image.save(file, **options)
    kind = options["format"].lower()
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
