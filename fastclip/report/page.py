"""What all reports share: pages and results as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastclip.data.files import dump_json, replacing


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
