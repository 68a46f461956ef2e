"""The names that zero-shot classification gave to images, as a table, as JSON and as a page."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fastclip.config import config
from fastclip.data.files import replacing
from fastclip.data.html import thumbnail
from fastclip.data.image_decoding import decode_image
from fastclip.report.page import write_page
from fastclip.zero_shot import Classification

_PICTURES = 200  # on a page, of 10 kB each
_CONFUSIONS = 12
_OF_CONFUSION = 4  # pictures of each
_SIDE = 256  # pixels of a picture's longer side


def write_classification(path: str | os.PathLike[str], found: Classification) -> None:
    """Write what `fastclip.classify` found; the form follows from the ending of the path.

    ============ =================================================================================
    ``.csv``     a line for each image and name, the best first: image, rank, name, cosine,
                 probability, and label where labels are known
    ``.parquet`` the same columns, typed
    ``.json``    model, prompts, accuracy, confusions, skipped images, and a list of the images
    ``.html``    a page with pictures, 200 at most, which loads nothing from elsewhere
    ============ =================================================================================

    Parameters
    ----------
    path : path-like
        An existing file is replaced; the new one appears whole or not at all.
    found : Classification

    Raises
    ------
    ValueError
        The path has another ending.
    OSError
        The file cannot be written.
    """
    target = Path(path)
    check_ending(target)
    with replacing(target) as part:
        _WRITERS[target.suffix.lower()](part, found)


def check_ending(path: Path) -> None:
    """Raise ValueError where `write_classification` knows no form for a path."""
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(
            f"{path}: ends in {path.suffix or 'nothing'!r}, allowed: {', '.join(_WRITERS)}"
        )


def results(found: Classification) -> dict[str, Any]:
    """All that is written as JSON."""
    known = found.labelled > 0
    accuracies = {"top_1": found.accuracy(), f"top_{found.k}": found.accuracy(found.k)}
    return {
        "fastclip": config()["fastclip"],
        "model": found.model,
        "templates": found.templates,
        "vocabulary": len(found.names),
        "labelled": found.labelled,
        "accuracy": accuracies if known else None,
        "confusions": [
            {"name": name, "taken_for": other, "images": len(rows)}
            for name, other, rows in found.confusions(len(found))
        ],
        "skipped": [{"image": name, "reason": reason} for name, reason in skipped(found)],
        "images": [
            {"image": image, "label": label, "names": names}
            for image, label, names in rows(found, range(len(found)))
        ],
    }


def skipped(found: Classification) -> list[tuple[str, str]]:
    """Images that could not be read, and why; bytes that are no text in a name are replaced."""
    names = (one.name.encode("utf-8", "surrogateescape") for one in found.unreadable)
    reasons = (one.reason for one in found.unreadable)
    return [(n.decode("utf-8", "replace"), why) for n, why in zip(names, reasons, strict=True)]


def rows(
    found: Classification, chosen: Iterable[int]
) -> Iterator[tuple[str, str | None, list[dict[str, Any]]]]:
    """Images with the right name, if that is known, and the names that they were given.

    Scores have the fewest digits that read back as the same float32.
    """
    for row in chosen:
        columns = (
            found.indices[row].tolist(),
            found.cosines[row].numpy().astype(str).tolist(),
            found.probabilities[row].numpy().astype(str).tolist(),
        )
        names = [
            {
                "rank": rank,
                "name": found.names[place],
                "cosine": float(cosine),
                "probability": float(probability),
            }
            for rank, (place, cosine, probability) in enumerate(zip(*columns, strict=True), 1)
        ]
        yield found.image_names[row], label_of(found, row), names


def label_of(found: Classification, row: int) -> str | None:
    """The right name of an image, if it is known."""
    if found.labels is None or found.labels[row] < 0:
        return None
    return found.names[int(found.labels[row])]


def _lines(found: Classification) -> Iterator[dict[str, Any]]:
    for image, label, names in rows(found, range(len(found))):
        for one in names:
            yield {"image": image, **one, **({"label": label} if found.labelled else {})}


def print_csv(file: TextIO, found: Classification) -> None:
    """As `write_classification`, into an open file."""
    fields = ["image", "rank", "name", "cosine", "probability"]
    fields += ["label"] if found.labelled else []
    writer = csv.DictWriter(file, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(found))


def print_json(file: TextIO, found: Classification) -> None:
    """As `write_classification`, into an open file."""
    json.dump(results(found), file, ensure_ascii=False, indent=1, allow_nan=False)
    file.write("\n")


def _write_csv(path: Path, found: Classification) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        print_csv(file, found)


def _write_json(path: Path, found: Classification) -> None:
    with open(path, "w", encoding="utf-8") as file:
        print_json(file, found)


def _write_parquet(path: Path, found: Classification) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = [
        ("image", pa.large_string()),
        ("rank", pa.int64()),
        ("name", pa.large_string()),
        ("cosine", pa.float32()),
        ("probability", pa.float32()),
        *([("label", pa.large_string())] if found.labelled else []),
    ]
    pq.write_table(pa.Table.from_pylist(list(_lines(found)), schema=pa.schema(schema)), path)


def _write_page(path: Path, found: Classification) -> None:
    shown = _shown(found)
    confusions = [
        {
            "name": name,
            "other": other,
            "count": len(images),
            "pictures": [
                (found.image_names[row], _picture(found, row)) for row in images[:_OF_CONFUSION]
            ],
        }
        for name, other, images in found.confusions(_CONFUSIONS)
    ]
    write_page(
        path,
        "classification.html.j2",
        found=found,
        shown=[
            (*one, _picture(found, row)) for row, one in zip(shown, rows(found, shown), strict=True)
        ],
        confusions=confusions,
        skipped=skipped(found),
        config=config(),
    )


def _shown(found: Classification) -> list[int]:
    """Rows of the images on the page: those that are named wrong come first."""
    order = list(range(len(found)))
    if found.labels is not None:
        labels, first = found.labels.tolist(), found.indices[:, 0].tolist()
        order.sort(key=lambda row: 0 if 0 <= labels[row] != first[row] else 1)
    return order[:_PICTURES]


def _picture(found: Classification, row: int) -> str:
    """An image as the source of an ``<img>``; empty where it cannot be read any more."""
    try:
        picture = decode_image(found.source.read(found.places[row]))
    except (OSError, ValueError):
        return ""
    return thumbnail(picture, _SIDE, format="JPEG", quality=82)


_WRITERS: dict[str, Callable[[Path, Classification], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
    ".html": _write_page,
}
