"""The scripts of docs/start/first-steps.md run as they are written there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from named_pictures import NAMES, write_pictures
from typer.testing import CliRunner

from fastclip.cli import app

pytestmark = pytest.mark.host
TEXT = (Path(__file__).parent.parent / "docs" / "start" / "first-steps.md").read_text("utf-8")
STEPS = re.findall(r"^## (\d+)\. .*?```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_there_are_ten_short_ones():
    assert [int(number) for number, _, _ in STEPS] == list(range(1, 11))
    for _, _, code in STEPS:
        assert len([line for line in code.splitlines() if line.strip()]) <= 5
    assert len(re.findall("```", TEXT)) == 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One for all, in their order: what a step leaves is there for later ones."""
    folder = tmp_path_factory.mktemp("steps")
    write_pictures(folder / "photos")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return folder


@pytest.mark.parametrize(("number", "language", "code"), STEPS, ids=[step[0] for step in STEPS])
def test_step(number, language, code, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    said = ""
    if language == "py":
        found: dict[str, object] = {}
        exec(compile(code, f"step {number}", "exec"), found)
        said = capsys.readouterr().out
    else:
        found = {}
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "fastclip"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            said += result.stdout
    check = CHECKS[int(number)]
    assert check(said, found), said


CHECKS = {
    1: lambda said, _: "horse/horse.png" in said and Path("names.html").stat().st_size > 10_000,
    2: lambda said, _: re.search(r"accuracy: top-1 \d+\.\d %.*folders: 6", said),
    3: lambda said, _: said.startswith("banana/banana.png ['"),
    4: lambda said, _: len(re.findall(r"^   1  0\.\d{4}  (.*)\.png$", said, re.MULTILINE)) == 6,
    5: lambda said, found: said.strip() and found["best"].indices.shape == (500, 10),
    6: lambda said, _: said.startswith("{1: 0.552, 5: 0.808, 10: 0.892} {1: "),
    7: lambda said, _: said.startswith("[('alcohol', 'liquor'), ('armchair', 'chair'), "),
    8: lambda _, found: np.array_equal(
        found["neighbours"][0], (-found["x"][0] @ found["y"].T).argsort()[:5]
    ),
    9: lambda _, found: found["best"].indices.shape == (6, 2),
    10: lambda said, _: "horse.png: " in said and Path("masks/horse-overlay.png").is_file(),
}
