"""The sources of the site are complete, and README says what was measured."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest
from documented import PACKAGES, documented_elsewhere
from generators import command_line, performance, pictures

import fastclip

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def listed(package: str) -> set[str]:
    """Return the names in the tables, and among the constants, of a package's page."""
    (page,) = (
        text
        for path in DOCS.glob("reference/*.rst")
        if f".. automodule:: {package}\n   :members:" in (text := path.read_text("utf-8"))
    )
    tables = re.findall(r"\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)", page)
    constants = re.findall(r"^\.\. py:data:: (\w+)", page, re.MULTILINE)
    return {*constants, *(name for table in tables for name in table.split())}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_lists_every_public_name(package: str) -> None:
    public = importlib.import_module(package).__all__
    expected = {name for name in public if not documented_elsewhere(package, name)}
    assert listed(package) == expected


def test_every_package_with_public_names_is_in_the_reference() -> None:
    found = {"fastclip"}
    for module in pkgutil.walk_packages(fastclip.__path__, "fastclip."):
        if module.ispkg and hasattr(importlib.import_module(module.name), "__all__"):
            found.add(module.name)
    assert found - {"fastclip.ops"} == set(
        PACKAGES
    )  # the names of fastclip.ops are those of fastclip


def test_scripts_of_the_gallery_are_short() -> None:
    scripts = sorted(DOCS.glob("figures/plot_*.py"))
    assert scripts
    for script in scripts:
        assert len(script.read_text("utf-8").splitlines()) <= 30, script


def test_notebooks_are_kept_without_what_they_print() -> None:
    notebooks = sorted(DOCS.glob("notebooks/*.ipynb"))
    assert len(notebooks) == 3
    for notebook in notebooks:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), (
            notebook
        )


def test_pictures_and_lines_on_speed_are_those_of_the_results() -> None:
    drawn = (DOCS / "_static" / "speed.svg").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for case, calls in pictures.times().items():
        ours = calls.pop("fastclip")
        assert f"fastclip, {ours * 1e3:.3g} ms" in drawn, case
        for library, time in calls.items():
            assert f"{library}: {time / ours:.2g}" in drawn, case
            if case in ("topk-real", "topk-16-queries", "rank-real"):
                assert f"{library} {time / ours:.2g}" in readme, case
    content = dict(performance.machines())["xeon-avx2-2-cores"]
    (case,) = (case for case in content["results"] if case["case"] == "topk-real")
    times = {row["call"]: row["median_s"] for row in case["rows"]}
    torch, faiss = (
        times[call] / performance.fastest(case) for call in ("torch mm + topk", "FAISS IndexFlatIP")
    )
    assert f"torch {torch:.2g}, FAISS {faiss:.2g}" in readme


def test_every_command_has_a_section() -> None:
    page = command_line.page()
    for path, command in command_line.commands("fastclip", command_line.root()):
        assert f"\n## {path}\n" in page
        for parameter in command.params:
            assert parameter.name == "help" or parameter.opts[0].lstrip("-") in page.lower()


def test_readme_is_one_screen_and_its_links_are_there() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 80
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    assert "make demo" in readme
    assert "make test" in readme
