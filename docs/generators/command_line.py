"""The page of all commands with their options, as ``--help`` has them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer.main

from fastclip.cli import app

HEAD = """# Command line

All commands with their options, as `fastclip COMMAND --help` shows them. Long jobs resume: if
`embed-images`, `embed-texts`, `sweep`, `train`, `distill`, `openness` or `scenes write` was
interrupted, rerun the same command.
"""


def page() -> str:
    """Return the page, in Markdown."""
    sections = [section(path, command) for path, command in commands("fastclip", root())]
    return "\n".join([HEAD, *sections])


def root() -> Any:
    """Return the command that all others belong to."""
    return typer.main.get_command(app)


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Return the commands below one, each with what to type for it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, below in inner.items():
        if not below.hidden:
            yield from commands(f"{path} {name}", below)


def section(path: str, command: Any) -> str:
    """Return what a command does, and a table of what it takes."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, *map(_placeholder, arguments)])
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), "", f"`{usage}`", ""]
    lines += ["| argument or option | |", "| --- | --- |"]
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        is_argument = parameter.param_type_name == "argument"
        names = [_placeholder(parameter)] if is_argument else parameter.opts
        shown = ", ".join(f"`{name}`" for name in [*names, *parameter.secondary_opts])
        lines.append(f"| {shown} | {_text(parameter)} |")
    return "\n".join(lines) + "\n"


def _placeholder(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]{}").replace("|", " or ")
    return str(name if parameter.required else f"[{name}]")


def _choices(parameter: Any) -> tuple[str, ...]:
    """Return what a parameter is one of; where typer keeps that depends on its version."""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(getattr(getattr(parameter, "type", None), "choices", ()))


def _text(parameter: Any) -> str:
    text = str(getattr(parameter, "help", None) or "")
    for character in "\\<*_$|":
        text = text.replace(character, "\\" + character)
    if choices := _choices(parameter):
        text += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    default = parameter.default
    if isinstance(default, (int, float, str)) and not isinstance(default, bool) and default != "":
        text += f" Default: `{default}`."
    return " ".join(text.split())
