"""What scripts of the gallery show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL.Image import Image
from sphinx_gallery.scrapers import figure_rst

from fastclip.report.figures import PAPER


def show(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the ``picture`` that a block of a script made: an image, a figure, or an SVG's text."""
    picture = block_vars["example_globals"].pop("picture", None)
    if picture is None:
        return ""
    path = Path(next(block_vars["image_path_iterator"]))
    if isinstance(picture, Image):
        picture.save(path)
    elif isinstance(picture, Figure):
        picture.savefig(path, dpi=150)
    else:
        for name, colour in PAPER._asdict().items():  # variables of the page it is made for
            picture = picture.replace(f"var(--{name})", colour)
        path = path.with_suffix(".svg")
        path.write_text(picture, "utf-8")
    return figure_rst([str(path)], gallery_conf["src_dir"])
