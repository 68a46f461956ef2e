"""Imports and includes go one way: from what people call down to what computes, never in a circle.

Python, from the top: ``cli``; ``report``; the methods of papers with what they need; ``sweep`` and
``distributed``; ``ops``; ``engine``; ``data`` (features, files, rows), which needs none of these.
C++: ``bindings`` on headers of operations (``include``); per backend ``ops`` on ``engine`` on
``isa`` or ``arch`` on ``tuning.h`` on ``include``, and no backend on another.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 500  # lines of a file

LAYERS = (
    {"data", "_version", "_installation"},
    {"engine"},
    {"ops", "config", "_exit", "_estimator", "_without_sklearn"},
    {"sweep", "distributed"},
    {
        *("metrics", "models", "neighbors", "generation", "coder", "training", "ttd", "demo"),
        *("benchmark", "zero_shot"),
    },
    {"report", "adapters", "fastclip"},  # fastclip/__init__.py offers all below
    {"cli", "__main__"},
)

CPP_LAYERS = ("include", "tuning", "isa", "engine", "ops", "bindings")
# What a backend offers beside operations: instruction sets, the way to stop, versions, limits.
FOR_BINDINGS = re.compile(
    r"(include|bindings)/|cpu/isa/isa\.h|cpu/engine/threads\.h|cuda/arch/versions\.h|(cpu|cuda)/tuning\.h"
)


def _modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "fastclip").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


@cache
def _bound(module: str) -> set[str]:
    """Names that a module itself gives a meaning: a function may hide the module of its name."""
    return {
        alias.asname or alias.name
        for node in _tree(module).body
        if isinstance(node, ast.ImportFrom) and _base(module, node) != module
        for alias in node.names
    }


def _base(module: str, node: ast.ImportFrom) -> str:
    """The module that names are imported from."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = len(parts) - node.level + (MODULES[module].name == "__init__.py")
    return ".".join([*parts[:kept], *((node.module,) if node.module else ())])


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs, inside of functions too: what is for type checkers alone does not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child)


def _imports(module: str) -> set[str]:
    """The modules of fastclip that a module takes names from, whenever it does so."""
    names: set[str] = set()
    for node in _nodes(_tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                if alias.name == "_C":  # the extension
                    continue
                inner = f"{base}.{alias.name}"
                hidden = base in MODULES and alias.name in _bound(base)
                names.add(inner if inner in MODULES and not hidden else base)
    return names & MODULES.keys() - {module}


def _layer(module: str) -> int:
    _, _, package = module.partition(".")
    name = package.split(".")[0] or "fastclip"
    return next(height for height, names in enumerate(LAYERS) if name in names)


def _files(*folders: str, suffixes: Iterable[str]) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in suffixes
    ]


CSRC = ROOT / "csrc"


def _includes() -> dict[str, set[str]]:
    """The files of csrc that each file of it includes."""
    found = {}
    for path in _files("csrc", suffixes=(".h", ".cuh", ".cpp", ".cu")):
        named = re.findall(r'^ *#include "(.+?)"', path.read_text("utf-8"), re.MULTILINE)
        places = [
            next((p for p in (name, f"include/{name}") if (CSRC / p).is_file()), None)
            for name in named
        ]
        found[os.fspath(path.relative_to(CSRC))] = {place for place in places if place}
    return found


def _cpp_layer(file: str) -> int:
    parts = file.replace("cuda/arch/", "cuda/isa/").split("/")
    layer = parts[0] if parts[0] in ("include", "bindings") else parts[1].removesuffix(".h")
    return CPP_LAYERS.index(layer)


def _allowed(file: str, other: str) -> bool:
    if file.startswith("bindings/"):
        return bool(FOR_BINDINGS.match(other))
    same = other.startswith(("include/", file.split("/")[0] + "/"))
    return same and _cpp_layer(other) <= _cpp_layer(file)


def _assert_no_circle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_circle_of_imports() -> None:
    _assert_no_circle({module: _imports(module) for module in MODULES})


def test_imports_go_down() -> None:
    upwards = [
        f"{module} imports {other}"
        for module in sorted(MODULES)
        for other in sorted(_imports(module))
        if _layer(other) > _layer(module)
    ]
    assert not upwards


def test_no_circle_of_includes() -> None:
    _assert_no_circle(_includes())


def test_includes_go_down() -> None:
    wrong = [
        f"{file} includes {other}"
        for file, others in _includes().items()
        for other in sorted(others)
        if not _allowed(file, other)
    ]
    assert not wrong


def test_no_file_is_long() -> None:
    files = _files("fastclip", "csrc", suffixes=(".py", ".pyi", ".h", ".cuh", ".cpp", ".cu"))
    lengths = {os.fspath(path.relative_to(ROOT)): path.read_text().count("\n") for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
