"""What all reports share: pages and results as files."""

from __future__ import annotations

import re
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
    environment.filters.update(percent=_percent, points=_points, sections=_sections)
    page = environment.get_template(template).render(**shown)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def write_results(folder: Path, content: dict[str, Any]) -> None:
    """Write the numbers of a report into ``results.json``."""
    dump_json(folder / "results.json", content, indent=1, ensure_ascii=False, allow_nan=False)


def _percent(share: float) -> str:
    """The one way in which pages show accuracies; the unit stands in the head of the column."""
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    """The difference of two accuracies, in percentage points; one that rounds to 0 has no sign."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if float(shown) == 0 else shown


def _sections(content: str) -> list[tuple[str, str]]:
    """Identifiers and titles of the ``<h2>`` of a page."""
    from markupsafe import Markup

    found = re.findall(r'<h2 id="([^"]+)">([^<]+)', content)
    return [(key, Markup(title)) for key, title in found]  # escaped there
