"""Answers kept in a file, a line of JSON each."""

import json
import os
import threading
from pathlib import Path

_BEGINNING = '{"key": "'


class KeptAnswers:
    """What was answered, by key; safe to use from several threads and, for adding, processes.

    A line that a kill or a full disk cut off is ignored. Nothing is ever rewritten.

    Raises
    ------
    FileNotFoundError
        The folder of the file does not exist.
    ValueError
        The file holds something else than answers, which must not be mixed with them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        if not path.parent.is_dir():
            raise FileNotFoundError(f"cache: {path}: there is no folder {path.parent}")
        self._answers = _read(path) if path.exists() else {}

    def get(self, key: str) -> str | None:
        return self._answers.get(key)

    def add(self, key: str, answer: str) -> None:
        line = json.dumps({"key": key, "answer": answer}).encode() + b"\n"
        with self._lock, open(self._path, "ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # what was cut off stays a line of its own
            file.write(line)
            self._answers[key] = answer


def _read(path: Path) -> dict[str, str]:
    answers = {}
    lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            answers[str(entry["key"])] = str(entry["answer"])
        except (ValueError, LookupError, TypeError, RecursionError):
            if not (_BEGINNING.startswith(line) or line.startswith(_BEGINNING)):
                raise ValueError(
                    f"cache: {path}, line {number}: is no answer of a chat model; give another file"
                ) from None
    return answers
