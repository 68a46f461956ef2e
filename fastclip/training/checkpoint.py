"""What a run leaves in its folder to resume from, and the tables of its log."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastclip.data.files import replacing, sink
from fastclip.data.job_folder import refuse_changes

_NAME = "checkpoint.pt"


def write_checkpoint(folder: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Write ``state`` whole or not at all; ``identity`` says of which run it is."""
    with sink(folder / _NAME) as file:
        torch.save({"identity": identity, **state}, file)  # type: ignore[arg-type]


def read_checkpoint(
    folder: Path, identity: dict[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """Return the state of a folder, or None without one.

    Raises
    ------
    ValueError
        The run was begun with another identity; the message names what differs.
    """
    path = folder / _NAME
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    refuse_changes(folder, state["identity"], identity)
    return state


def write_table(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows as CSV, whole or not at all; nothing without rows."""
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
