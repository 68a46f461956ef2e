"""What releases are made with: workflows that call targets which exist, and tags of versions."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import fastclip

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_that_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    called = {
        word
        for line in re.findall(r"run: make (.*)", text)
        for word in re.sub(r"\$\{\{ matrix.target \}\}", "", line).split()
        if "=" not in word
    }
    for job in workflow["jobs"].values():
        called |= set(job.get("strategy", {}).get("matrix", {}).get("target", []))
    assert called <= targets
    assert called or "cibuildwheel" in text


def test_tags_are_made_of_a_version_and_its_changes(tmp_path: Path) -> None:
    git = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=git, capture_output=True, text=True)

    for name in ("Makefile", "CHANGELOG.md", "tests/tag.sh", "fastclip/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tests/tag.sh").chmod(0o755)
    changes = tmp_path / "CHANGELOG.md"
    changes.write_text(
        "# Changes\n\n## Unreleased\n\n- It flies.\n\n## 0.1.0 - 2026-01-01\n\n- Old.\n"
    )
    for command in (("git", "init", "-q"), ("git", "add", "."), ("git", "commit", "-qm", "start")):
        assert run(*command).returncode == 0
    assert (
        "VERSION: is 'new', allowed: one such as 0.2.0" in run("make", "tag", "VERSION=new").stderr
    )
    assert run("make", "tagged", "TAG=v9.8.7").returncode != 0

    done = run("make", "tag", "VERSION=9.8.7")
    assert done.returncode == 0, done.stderr
    assert "- It flies.\nTagged." in done.stdout
    assert "- Old." not in done.stdout
    assert run("git", "describe", "--exact-match").stdout == "v9.8.7\n"
    assert run("git", "status", "--porcelain").stdout == ""
    assert run("make", "tagged", "TAG=v9.8.7").returncode == 0
    assert re.search(
        r"## Unreleased\n\n## 9.8.7 - \d{4}-\d\d-\d\d\n\n- It flies", changes.read_text()
    )
    assert "VERSION: v9.8.7 is tagged already" in run("make", "tag", "VERSION=9.8.7").stderr
    again = run("make", "tag", "VERSION=9.8.8").stderr
    assert "CHANGELOG.md: nothing is listed under Unreleased" in again


def test_version_has_one_place() -> None:
    assert f'__version__ = "{fastclip.__version__}"' in (ROOT / "fastclip/_version.py").read_text(
        "utf-8"
    )
    assert "version:" not in (ROOT / "CITATION.cff").read_text("utf-8").replace("cff-version:", "")
