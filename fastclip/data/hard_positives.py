"""Captions with hard positives and hard negatives: the published files, and one's own."""

import csv
import difflib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fastclip.data.checks import check_choice

from .texts import check_header, is_utf8, kind_of, numbered_lines, open_text

Box = tuple[float, float, float, float]

_KINDS = "a .json, .jsonl, .csv or .tsv (the last three also with .gz), or a folder of .json files"
_TRUE, _CHANGED = "data", "swapped_data"  # the folders of the authors' repository
_IMAGE = ("image", "image_path", "image_id", "filename")
_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


@dataclass(frozen=True)
class HardPositiveItem:
    """A caption of an image, with captions that mean the same and captions that do not.

    Attributes
    ----------
    image : str
        File name, path or number of the image.
    caption : str
    hard_positives, hard_negatives : tuple of str
    category : str
        Such as the kind of edit.
    box : tuple of four floats, or None
        The part of the image that the caption is about: left, top, width and height in pixels.
    """

    image: str
    caption: str
    hard_positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    category: str = ""
    box: Box | None = None


@dataclass(frozen=True)
class SkippedItem:
    """An entry that was left out: its place in the files, and why."""

    place: str
    reason: str


@dataclass(frozen=True)
class HardPositiveSet:
    """What `read_hard_positives` returns: items in the order of the files, and what was skipped."""

    items: tuple[HardPositiveItem, ...]
    skipped: tuple[SkippedItem, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Each different text once, in the order of first appearance."""
        return tuple(
            dict.fromkeys(
                text
                for item in self.items
                for text in (item.caption, *item.hard_positives, *item.hard_negatives)
            )
        )


def read_hard_positives(
    path: str | os.PathLike[str],
    *,
    invalid: Literal["raise", "skip"] = "raise",
    needs_negatives: bool = True,
) -> HardPositiveSet:
    """Read a benchmark of hard negatives, with hard positives where it has them.

    =========================  ===================================================================
    folder with ``data`` and   the authors' repository of *The Hard Positive Truth*: a file of
    ``swapped_data``           either folder under each name, read as one. Category: its name
    ``data/NAME.json``         one of these, if ``swapped_data/NAME.json`` is beside
    ``.json``, a list          ARO: ``true_caption``, ``false_caption``, ``image_path`` and, where
                               the image is to be cropped, ``bbox_x, bbox_y, bbox_w, bbox_h``.
                               No hard positives
    ``.json``, a list          ARO's order sets, as the ``test_cases`` of their classes: ``image``
                               and ``caption_options``, the true one first. No hard positives
    ``.json``, an object       SugarCrepe: ``filename``, ``caption``, ``negative_caption``.
    or a list                  No hard positives; those of SugarCrepe++ are its ``caption2``
    folder                     all its ``.json`` files, sorted. Category: the name of the file
    ``.csv``, ``.tsv``,        columns or fields ``caption``, ``hard_negative`` and, if wanted,
    ``.jsonl``                 ``hard_positive``, ``image`` (or ``image_id``), ``category`` (or
                               ``kind``), ``id`` and the box; in ``.jsonl`` the hard ones can be
                               lists and called ``hard_positives``, ``hard_negatives``
    =========================  ===================================================================

    Repeated items are kept, as the published files have them. Boxes are those of Visual Genome.

    Parameters
    ----------
    path : path-like
    invalid : "raise" or "skip"
        What to do with a blank or missing text, an ``id`` that occurred before, a box that is none,
        and an entry of ``swapped_data`` that is about another image or has another negative.

    needs_negatives : bool
        Whether an item without a hard negative is invalid: it is in a benchmark, not in training.

    Returns
    -------
    HardPositiveSet

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        Another kind of file, a damaged one, two files of different length, no item, or an invalid
        entry; the message is ``<path>: <reason>`` and names the entry.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data import read_hard_positives
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "own.csv"
    ...     text = "caption,hard_positive,hard_negative\\na black cat,an ebony cat,a white cat\\n"
    ...     _ = table.write_text(text)
    ...     read_hard_positives(table).items[0].hard_positives
    ('an ebony cat',)
    """
    check_choice("invalid", invalid, ("raise", "skip"))
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    items: list[HardPositiveItem] = []
    skipped: list[SkippedItem] = []
    for place, entry in _entries(path):
        try:
            items.append(_item(entry, needs_negatives))
        except _Invalid as error:
            if invalid == "raise":
                raise ValueError(f"{place}: {error}") from error
            skipped.append(SkippedItem(place, str(error)))
    if not items:
        raise ValueError(f"{path}: no item in it, allowed: at least one")
    return HardPositiveSet(tuple(items), tuple(skipped))


def complete_items(items: Sequence[HardPositiveItem]) -> tuple[HardPositiveItem, ...]:
    """Return the items that a benchmark can score, of files that were written for training.

    These have a hard negative and, if any of them has a hard positive, one of these, too.

    Raises
    ------
    ValueError
        No item has a hard negative.

    Examples
    --------
    >>> from fastclip.data import HardPositiveItem, complete_items
    >>> texts = [((), ("b",)), (("a",), ("b",)), (("a",), ())]
    >>> items = [HardPositiveItem("1.jpg", "A", *pair) for pair in texts]
    >>> complete_items(items) == (items[1],)
    True
    """
    scored = tuple(item for item in items if item.hard_negatives)
    if not scored:
        raise ValueError(f"items: none of {len(items)} has a hard negative, allowed: at least one")
    return tuple(item for item in scored if item.hard_positives) or scored


def edit(caption: str, changed: str) -> str:
    """What was done to a caption, such as "black -> ebony"; "order" where words only moved.

    Examples
    --------
    >>> from fastclip.data.hard_positives import edit
    >>> edit("a black cat", "an ebony cat")
    'a black -> an ebony'
    >>> edit("a cat and a dog", "a dog and a cat")
    'order'
    """
    before, after = caption.lower().split(), changed.lower().split()
    if sorted(before) == sorted(after):
        return "order" if before != after else "none"
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    blocks = [block for block in matcher.get_opcodes() if block[0] != "equal"]
    old = before[blocks[0][1] : blocks[-1][2]]
    new = after[blocks[0][3] : blocks[-1][4]]
    return f"{' '.join(old)} -> {' '.join(new)}"


class _Invalid(ValueError):
    """An entry that cannot be used, in words for whoever wrote it."""


def _item(entry: Mapping[str, Any], needs_negatives: bool) -> HardPositiveItem:
    if "invalid" in entry:
        raise _Invalid(entry["invalid"])
    return HardPositiveItem(
        image=_label("image", *(entry.get(key) for key in _IMAGE)),
        caption=_text("caption", entry.get("caption")),
        hard_positives=_texts("hard_positive", entry),
        hard_negatives=_texts("hard_negative", entry, needed=needs_negatives),
        category=_label("category", entry.get("category"), entry.get("kind")),
        box=_box(entry),
    )


def _label(name: str, *values: object) -> str:
    """The first value that is given, a text or a number."""
    value = next((value for value in values if value not in (None, "")), "")
    if type(value) not in (str, int, float):
        raise _Invalid(f"{name} is {value!r:.60}, allowed: a text or a number")
    return str(value)


def _text(name: str, text: object) -> str:
    if not isinstance(text, str):
        what = "missing" if text is None else f"a {type(text).__name__}"
        raise _Invalid(f"{name} is {what}, allowed: a text")
    if not text.strip():
        raise _Invalid(f"{name} is blank, allowed: at least one letter")
    if not is_utf8(text):
        raise _Invalid(f"{name}: {text!r:.60} is not text that UTF-8 can hold")
    return text


def _texts(name: str, entry: Mapping[str, Any], *, needed: bool = False) -> tuple[str, ...]:
    given = [x for x in (entry.get(name), entry.get(f"{name}s")) if x not in (None, "", [])]
    if len(given) > 1:
        raise _Invalid(f"{name} and {name}s are both given, allowed: one of them")
    texts = given[0] if given and isinstance(given[0], list) else given
    if needed and not texts:
        raise _Invalid(f"{name} is missing, allowed: at least one")
    return tuple(_text(name, text) for text in texts)


def _box(entry: Mapping[str, Any]) -> Box | None:
    if all(entry.get(name) in (None, "") for name in _BOX):
        return None
    try:
        box = tuple(float(entry[name]) for name in _BOX)
    except (KeyError, TypeError, ValueError) as error:
        raise _Invalid(f"the box needs four numbers {', '.join(_BOX)}") from error
    if not (all(map(math.isfinite, box)) and box[2] >= 1 and box[3] >= 1):
        raise _Invalid(
            f"the box is {box[2]:g} x {box[3]:g} pixels from ({box[0]:g}, {box[1]:g}) on, "
            "allowed: at least 1 x 1, finite"
        )
    return cast(Box, box)


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry with its place, in the words of one's own files."""
    if path.is_dir():
        both = (path / _TRUE).is_dir() and (path / _CHANGED).is_dir()
        folder = path / _TRUE if both else path
        names = sorted(file.name for file in folder.glob("*.json"))
        if both:
            other = sorted(file.name for file in (path / _CHANGED).glob("*.json"))
            lonely = sorted(set(names) ^ set(other))
            if lonely:
                raise ValueError(f"{path}: {lonely[0]} is in only one of {_TRUE} and {_CHANGED}")
        for name in names:
            yield from _json_file(folder / name)
    elif kind_of(path) == ".json" and path.suffix == ".json":
        yield from _json_file(path)
    elif kind_of(path) in (".csv", ".tsv", ".jsonl"):
        yield from _without_repeated_ids(_own_file(path))
    else:
        raise ValueError(f"{path}: not a file of captions, allowed: {_KINDS}")


def _json_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    twin = path.parent.parent / _CHANGED / path.name
    entries = _load(path)
    if path.parent.name == _TRUE and twin.is_file():
        changed = _load(twin)
        if len(changed) != len(entries):
            raise ValueError(
                f"{twin}: has {len(changed)} entries, allowed: {len(entries)}, as {path} has"
            )
        rows = [_aligned(*pair) for pair in zip(entries, changed, strict=True)]
    else:
        rows = [_published(entry) for entry in entries]
    for number, row in enumerate(rows):
        yield f"{path}: entry {number}", {"category": path.stem, **row}


def _load(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, (list, dict)):
        raise ValueError(f"{path}: a {type(content).__name__}, allowed: a list or an object")
    return list(content.values()) if isinstance(content, dict) else content


def _published(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"invalid": f"a {type(entry).__name__}, allowed: an object"}
    names = {
        "true_caption": "caption",
        "false_caption": "hard_negative",
        "negative_caption": "hard_negative",
        "caption2": "hard_positive",
    }
    row = {names.get(key, str(key)): value for key, value in entry.items()}
    options = row.get("caption_options")
    if isinstance(options, list) and options:
        row |= {"caption": options[0], "hard_negative": options[1:]}
    return row


def _aligned(true: Any, changed: Any) -> dict[str, Any]:
    row, other = _published(true), _published(changed)
    for key in (*_IMAGE, "hard_negative"):
        if row.get(key) != other.get(key):
            return {
                "invalid": f"{key} is {row.get(key)!r} in {_TRUE}, {other.get(key)!r} in {_CHANGED}"
            }
    return {**row, "hard_positive": other.get("caption")}


def _own_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open_text(path, newline="") as file:
            if kind_of(path) == ".jsonl":
                for number, line in numbered_lines(file):
                    try:
                        entry = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise ValueError(f"line {number}: not JSON ({error})") from error
                    if not isinstance(entry, dict):
                        entry = {"invalid": f"a {type(entry).__name__}, allowed: an object"}
                    yield f"{path}: line {number}", entry
                return
            delimiter = "," if kind_of(path) == ".csv" else "\t"
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            check_header(rows.fieldnames or (), delimiter)
            for row in rows:
                if None in row:
                    row = {"invalid": "more fields than columns"}
                yield f"{path}: line {rows.line_num}", row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason})") from error
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _without_repeated_ids(
    entries: Iterator[tuple[str, dict[str, Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    places: dict[str, str] = {}
    for place, entry in entries:
        number = entry.get("id")
        if number not in (None, ""):
            before = places.setdefault(str(number), place)
            if before != place:
                entry = {"invalid": f"id {number} occurred before, in {before.rpartition(' ')[2]}"}
        yield place, entry


def texts_in_table(
    items: Sequence[HardPositiveItem], texts: Sequence[str]
) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Rows in ``texts`` of captions, hard positives and negatives, as the metrics take them.

    Examples
    --------
    >>> from fastclip.data import HardPositiveItem
    >>> from fastclip.data.hard_positives import texts_in_table
    >>> item = HardPositiveItem("1.jpg", "a cat", ("the cat",), ("a dog", "a cow"))
    >>> texts_in_table([item], ["a cow", "a dog", "the cat", "a cat"])
    ([3], [[2]], [[1, 0]])
    """
    row = {text: i for i, text in enumerate(texts)}
    return (
        [row[item.caption] for item in items],
        [[row[text] for text in item.hard_positives] for item in items],
        [[row[text] for text in item.hard_negatives] for item in items],
    )
