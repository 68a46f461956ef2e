"""Reader of texts: a line, a field of a table or a field of a JSON object each."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_KINDS = ".txt, .csv, .tsv or .jsonl, also with .gz after it"


def kind_of(path: Path) -> str:
    """The suffix that tells the kind of a file: that before ``.gz``, in lower case."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_texts(path: str | os.PathLike[str], *, column: str | None = None) -> tuple[str, ...]:
    """Read texts in their order, duplicates included; the kind of file follows from its name.

    ==================  ==========================================================================
    ``.txt``            a text a line
    ``.csv``, ``.tsv``  a column of a table whose first line names the columns
    ``.jsonl``          a field of the JSON object in each line
    ==================  ==========================================================================

    Blank lines at the end are left out.

    Parameters
    ----------
    path : path-like
        UTF-8; compressed with gzip if the name ends in ``.gz``.
    column : str, optional
        The column or field that holds the texts; needed if there are several.

    Returns
    -------
    tuple of str
        Without the ends of lines, otherwise as they are in the file.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        Another kind of file, no text, a text that is missing, blank or not UTF-8, or a damaged
        file; the message is ``<path>: <reason>`` and names the line.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data import read_texts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "animals.csv"
    ...     _ = table.write_text("id,caption\\n1,a cat\\n2,a dog\\n")
    ...     read_texts(table, column="caption")
    ('a cat', 'a dog')
    """
    path = Path(path)
    kind = kind_of(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if kind not in _READERS or not path.is_file():
        raise ValueError(f"{path}: not a file of texts, allowed: {_KINDS}")
    if column is not None and kind == ".txt":
        raise ValueError(f"{path}: column is {column!r}, allowed for .csv, .tsv and .jsonl only")
    texts: list[str] = []
    try:
        # newline="\\n": a lone carriage return is a character as any other
        with open_text(path, newline="\n") as file:
            for line, text in _READERS[kind](file, column):
                texts.append(_checked(line, text))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: {_reason(error)}") from error
    if not texts:
        raise ValueError(f"{path}: no text in it, allowed: at least one")
    return tuple(texts)


def open_text(path: Path, newline: str) -> TextIO:
    """Open UTF-8 text, compressed if the name ends in ``.gz``; ``newline`` as in `open`."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return open(path, encoding="utf-8-sig", newline=newline)


def _checked(line: int, text: object) -> str:
    if not isinstance(text, str):
        what = "missing" if text is None else f"a {type(text).__name__}"
        raise ValueError(f"line {line}: the text is {what}, allowed: a string")
    if not text.strip():
        raise ValueError(f"line {line}: the text is blank, allowed: at least one letter")
    if not is_utf8(text):
        raise ValueError(f"line {line}: {text!r} is not text that UTF-8 can hold")
    return text


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text; JSON can write a lone surrogate, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 ({error.reason})"
    return str(error)


def numbered_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1, without their ends and without blank ones at the end."""
    blank: list[tuple[int, str]] = []
    for number, line in enumerate(file, 1):
        if line.strip():
            yield from blank
            blank.clear()
            yield number, line.rstrip("\r\n")
        elif len(blank) < 2:  # whoever reads them fails at the first
            blank.append((number, line.rstrip("\r\n")))


def _lines(file: TextIO, column: str | None) -> Iterator[tuple[int, object]]:
    yield from numbered_lines(file)


def _table(file: TextIO, column: str | None, delimiter: str) -> Iterator[tuple[int, object]]:
    rows = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        check_header(rows.fieldnames or (), delimiter, column)
        chosen = _choose(rows.fieldnames or (), column)
        for row in rows:
            if None in row:
                raise ValueError(
                    f"line {rows.line_num}: more fields than columns, "
                    f"allowed: {len(rows.fieldnames or ())}"
                )
            yield rows.line_num, row[chosen]
    except csv.Error as error:
        reason = str(error)
        if "universal-newline" in reason:
            reason = "a line ends with a carriage return alone, allowed: with a line feed"
        raise ValueError(f"line {rows.reader.line_num}: {reason}") from error


def _json_lines(file: TextIO, column: str | None) -> Iterator[tuple[int, object]]:
    for number, line in numbered_lines(file):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: not JSON ({error})") from error
        if not isinstance(entry, dict):
            raise ValueError(f"line {number}: a {type(entry).__name__}, allowed: a JSON object")
        column = _choose(entry, column) if number == 1 else column
        yield number, entry.get(column)


def check_header(columns: Sequence[str], delimiter: str, column: str | None = None) -> None:
    """Check the names of a table's columns.

    Raises
    ------
    ValueError
        There are none, they are separated by another character, or two have the same name.
    """
    if not columns:
        raise ValueError("no line in it, allowed: a first one that names the columns")
    for other, name in _DELIMITERS.items():
        if other == delimiter or len(columns) > 1 or columns[0] == column:
            continue
        if other in columns[0]:
            raise ValueError(
                f"line 1: {columns[0]!r:.80} is one column, but looks like several with {name} "
                f"between them, allowed: {_DELIMITERS[delimiter]}"
            )
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1 and name]
    if twice:
        raise ValueError(f"line 1: two columns are called {twice[0]!r}, allowed: different names")


def _choose(columns: Iterable[str], column: str | None) -> str:
    names = list(columns)
    listed = ", ".join(names) or "none"
    if column is None and len(names) != 1:
        raise ValueError(f"holds several columns ({listed}): name one by column=, or by --column")
    chosen = names[0] if column is None else column
    if chosen not in names:
        raise ValueError(f"column is {column!r}, allowed: {listed}")
    return chosen


_READERS: dict[str, Callable[[TextIO, str | None], Iterator[tuple[int, object]]]] = {
    ".txt": _lines,
    ".csv": partial(_table, delimiter=","),
    ".tsv": partial(_table, delimiter="\t"),
    ".jsonl": _json_lines,
}
