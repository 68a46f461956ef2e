"""The name under which fastclip is installed, and the strangers' package that has its module's."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import fastclip
from fastclip import cli
from fastclip._installation import DISTRIBUTION, incomplete, mixed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TEXTS = (".md", ".py", ".toml", ".sh", ".yml", ".yaml", ".cff", ".in", "")


def _texts() -> dict[str, str]:
    """All that people read or run, by file."""
    places = [*ROOT.glob("*"), *ROOT.glob(".github/**/*"), *ROOT.glob(".ci/*")]
    for folder in ("fastclip", "tests", "benches", "docs", "csrc"):
        places += (ROOT / folder).rglob("*")
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in places
        if path.is_file() and path.suffix in TEXTS and path != Path(__file__)
    }


def test_every_text_names_the_own_distribution_and_its_extras() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    strangers, extras = [], set()
    for name, text in _texts().items():
        strangers += [
            f"{name}: {found}"
            for found in re.findall(r"pip install .*?\bfastclip\b(?!-).*|\bfastclip\\?\[\w.*", text)
            if "[name]" not in found
        ]
        extras |= set(re.findall(rf"{DISTRIBUTION}\\*\[([\w,]+?)\\*\]", text))
    assert not strangers
    named = {extra for group in extras for extra in group.split(",")}
    assert {"tags", "ray", "scenes", "metrics", "training"} <= named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_strangers_beside_it_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{DISTRIBUTION.replace('-', '_')}-0.1.0.dist-info").mkdir()
    assert mixed(tmp_path / "fastclip") is None
    (tmp_path / "fastclip-0.1.10.dist-info").mkdir()
    problem = mixed(tmp_path / "fastclip") or ""
    assert f"{tmp_path}/fastclip-0.1.10.dist-info: the package 'fastclip' of another" in problem
    cure = f"pip uninstall fastclip; pip install --force-reinstall --no-deps {DISTRIBUTION}"
    assert cure in problem
    monkeypatch.setattr("fastclip._installation.mixed", lambda package: problem)
    with pytest.warns(UserWarning, match="of another project shares the folder"):
        importlib.reload(fastclip)


def test_what_strangers_leave_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert incomplete(ROOT / "fastclip") is None
    start = tmp_path / "__init__.py"
    assert str(start) in (incomplete(tmp_path) or "")
    start.write_text("")
    problem = incomplete(tmp_path)
    monkeypatch.setattr(cli, "incomplete", lambda package: problem)
    with pytest.raises(SystemExit, match=f"error: {start}: is empty or missing"):
        cli.main()
