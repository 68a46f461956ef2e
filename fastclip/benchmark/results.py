"""Result files: the layout of benches/results."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastclip.benchmark.case import Case
from fastclip.data.job_folder import text_file


def result(
    name: str, case: Case, rows: list[dict[str, Any]], peak: dict[str, float]
) -> dict[str, Any]:
    """Return what a file says of a case, from the rows of `measure`."""
    return {
        "case": name,
        "description": case.description,
        "unit": case.unit,
        "peak_giga_per_s": peak.get(case.unit),
        "rows": rows,
    }


def record(machine: dict[str, str], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a file."""
    when = datetime.now(timezone.utc).date().isoformat()
    return {"date": when, "machine": machine, "results": results}


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a file, all of it or nothing."""
    with text_file(path) as file:
        file.write(json.dumps(content, indent=1) + "\n")
