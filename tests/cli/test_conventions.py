"""What all commands have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from named_pictures import write_pictures
from typer.testing import CliRunner

from fastclip.cli import app

pytestmark = pytest.mark.host
WRITES_NOTHING = {"info", "sweep status"}
OLD_NAMES = {  # hidden, and still understood
    ("openness", "words"),
    ("tag", "top"),
    ("info", "as_json"),
    ("scenes fetch", "folder"),
    ("scenes write", "folder"),
}


def all_commands() -> dict[str, Any]:
    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{path} {name}".strip())

    return dict(walk(typer.main.get_command(app), ""))


COMMANDS = all_commands()
LEAVES = {path: one for path, one in COMMANDS.items() if not hasattr(one, "commands")}


def run(*arguments: object, **options: Any):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def plain(text: str) -> str:
    """Without colours, boxes and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def options() -> Iterator[tuple[str, Any]]:
    for path, command in LEAVES.items():
        for param in command.params:
            if param.param_type_name == "option":
                yield path, param


@pytest.mark.parametrize("path", COMMANDS)
def test_help(path):
    wide = {"COLUMNS": "200"}  # no name of an option is broken
    short, long = (run(*path.split(), name, env=wide) for name in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    assert "<bool>" not in short.stdout
    assert re.search(r"--help +-h", plain(short.stdout))
    command = COMMANDS[path]
    assert command.help
    for param in command.params:
        assert param.help, (path, param.name)
        hidden = (path, param.name) in OLD_NAMES
        assert getattr(param, "hidden", False) == hidden, (path, param.name)
        if not hidden and param.param_type_name == "option":
            assert f"{param.opts[0]} " in f"{plain(short.stdout)} ", (path, param.name)


@pytest.mark.parametrize("path", LEAVES)
def test_what_writes_has_an_output(path):
    found = [param.opts for param in LEAVES[path].params if "output" in param.name]
    named = [names for names in found if "-o" in names]
    assert named == ([] if path in WRITES_NOTHING else [["--output", "-o"]])


def test_an_option_has_one_name():
    names: dict[str, set[tuple[str, ...]]] = {}
    params: dict[str, set[str]] = {}
    for _, param in options():
        names.setdefault(param.name, set()).add(tuple(sorted(param.opts)))
        for name in param.opts:
            params.setdefault(name, set()).add(param.name)
    assert {name: opts for name, opts in names.items() if len(opts) > 1} == {}
    assert {name: of for name, of in params.items() if len(of) > 1} == {}


def test_what_is_asked_for_in_several_commands_is_called_the_same():
    """Names, images and numbers of answers, whatever the command."""
    having: dict[str, set[str]] = {}
    for path, param in options():
        if not param.hidden:
            having.setdefault(param.opts[0], set()).add(path)
    assert having["--vocabulary"] == {"classify", "openness", "tag", "segment"}
    assert having["-k"] == {"bench", "classify", "topk", "tag", "sweep run"}
    assert having["--images"] >= {"train", "distill", "hard-positives"}
    assert having["--cache"] == {"classify", "hard-positives"}
    assert having["--format"] == {"classify", "topk", "hard-positives", "info"}


def test_one_variable_holds_the_key_of_an_endpoint():
    told = {
        path: set(re.findall(r"[A-Z]+_[A-Z_]*KEY", plain(run(*path.split(), "-h").stdout)))
        for path, param in options()
        if param.name == "chat_model"
    }
    assert told == {name: {"FASTCLIP_ENDPOINT_KEY"} for name in ("hard-captions", "coder texts")}


def test_completion():
    assert {"install_completion", "show_completion"} <= {p.name for p in COMMANDS[""].params}
    for words, expected in (
        ("cla", "classify"),
        ("classify --voc", "--vocabulary"),
        ("classify x --templates imagenet-", "imagenet-simple"),
        ("coder few", "few-shot"),
    ):
        line = f"fastclip {words}"
        asked = {
            "_FASTCLIP_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        }
        assert run(env=asked).stdout.split() == [expected]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("clasify x", "'classify'"),
        ("embed_images x", "'embed-images'"),
        ("sweep statsu x", "'status'"),
        ("coder fewshot x", "'few-shot'"),
        ("classify x --vocabularry y", "--vocabulary"),
        ("topk coco coco --ouput y", "--output"),
        ("topk coco-image coco", "'coco-images'"),
        ("tag p.png --vocabulary lvi --model tiny", "'lvis'"),
        ("segment p.png --vocabulary word-net --model tiny -o out", "'wordnet'"),
        ("embed-images . --model ViTB32 -o out", "'ViT-B-32'"),
        ("embed-images . --model ViT-B-32 --pretrained open_ai -o out", "'openai'"),
    ],
)
def test_what_is_mistyped_is_suggested(line, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "x", ("star",))
    (tmp_path / "x" / "star" / "star.png").rename("p.png")
    result = run(*line.split())
    assert result.exit_code in (1, 2)
    assert re.search(
        rf"(did you mean|Did you mean|Possible options:)[^?]*{meant}", plain(result.stderr)
    )


def test_old_names_still_work(tmp_path):
    assert json.loads(run("info", "--json").stdout) == json.loads(
        run("info", "--format", "json").stdout
    )
    folders = [tmp_path / name for name in ("argument", "option")]
    assert run("scenes", "write", folders[0], "--count", 1).exit_code == 0
    assert run("scenes", "write", "-o", folders[1], "--count", 1).exit_code == 0
    for path in sorted(Path(folders[0]).rglob("*.*")):
        other = folders[1] / path.relative_to(folders[0])
        assert path.read_bytes() == other.read_bytes()
    for both in ((), (folders[0], "-o", folders[1])):
        result = run("scenes", "write", *both)
        assert result.exit_code == 2
        assert "is needed, once" in plain(result.stderr)
    result = run("openness", "x", "y", "--words", "a", "--vocabulary", "b")
    assert result.exit_code == 2
    assert "not together with --words" in plain(result.stderr)
