"""Write the pages that are generated, before Sphinx reads any."""

from __future__ import annotations

import shutil
from pathlib import Path

from generators import command_line, drawings, performance

GRID = "epyc-zen5-2-cores-topk-grid"


def write(docs: Path) -> None:
    """Write reference/command-line.md, performance/machines/ and the drawings of how-it-works/."""
    (docs / "reference" / "command-line.md").write_text(command_line.page(), "utf-8")
    folder = docs / "performance" / "machines"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for place, (stem, content) in enumerate(performance.machines()):
        text = performance.machine_page(stem, content, folder)
        (folder / f"{place + 1}-{stem}.md").write_text(text, "utf-8")
    (folder / "summary.txt").write_text(performance.summary(), "utf-8")
    drawings.write(docs / "how-it-works")
    (folder / f"{GRID}.md").write_text(performance.grid_page(GRID), "utf-8")
