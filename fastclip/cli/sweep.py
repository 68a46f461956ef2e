"""``fastclip sweep``: questions about more queries and keys than memory holds."""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from fastclip.cli._common import (
    SOURCE,
    Commands,
    commands,
    open_source,
    print_job,
    progress,
    register,
    writable_folder,
)
from fastclip.data.checks import did_you_mean
from fastclip.ops import OPERATIONS


class _RunUnlessNamed(Commands):
    """``fastclip sweep CONFIG`` and ``fastclip sweep --op ...`` are ``fastclip sweep run ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = (*self.commands, *ctx.help_option_names)
        if args and args[0] not in known and not self._mistyped(args[0]):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def _mistyped(self, word: str) -> bool:
        return bool(did_you_mean(word, self.commands)) and not os.path.exists(word)


app = commands(
    _RunUnlessNamed,
    no_args_is_help=True,
    help="Answer a question about files of any size, in shards: fastclip sweep CONFIG.yaml, or "
    "options alone ('fastclip sweep run --help' lists them).",
)


Metric = Literal["cosine", "dot"]
Engine = Literal["local", "ray"]


def _option(help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, metavar=metavar, help=help)


def _with_arguments(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for each argument of an operation, in place of ``arguments``."""
    # Not get_type_hints, which wraps what is None by default in Python 3.10.
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    for a in {a.name: a for kind in OPERATIONS.values() for a in kind.arguments}.values():
        of = [op for op, kind in OPERATIONS.items() if a.name in kind.argument_names()]
        text = inspect.getdoc(a) or ""
        names = (f"-{a.name}", f"--{a.name}") if len(a.name) == 1 else ()
        option = _option(
            f"Of {', '.join(of)}: {text[0].lower()}{text[1:]}", *names, metavar=a.metavar
        )
        parameters.append(
            inspect.Parameter(
                a.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=None,
                annotation=Annotated[a.type | None, option],
            )
        )

    def run(**given: Any) -> None:
        command(**given)

    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


@_with_arguments
def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG.yaml]",
            help="A mapping of the options' names (shard_size for --shard-size) to their values; "
            "options given here count more.",
        ),
    ] = None,
    op: Annotated[str | None, _option(f"{', '.join(OPERATIONS)}.")] = None,
    queries: Annotated[str | None, _option(SOURCE, metavar="SOURCE")] = None,
    keys: Annotated[
        str | None,
        _option("As --queries; left out for pairs_above of one set.", metavar="SOURCE"),
    ] = None,
    output: Annotated[
        Path | None,
        _option(
            "A new or empty folder, or that of this sweep, which then goes on where it was.",
            "--output",
            "-o",
            metavar="DIR",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        _option("What the sweep may take, again on a device. Default: 1GiB.", metavar="BYTES"),
    ] = None,
    shard_size: Annotated[
        int | None,
        _option("Rows of a shard: what a kill can cost. Default: as many as the memory allows."),
    ] = None,
    metric: Annotated[
        Metric | None,
        _option("cosine: rows are brought to unit length (default); dot: rows as they are."),
    ] = None,
    device: Annotated[
        str | None,
        _option("Where answers are computed, such as cuda: all but sums over keys. Default: cpu."),
    ] = None,
    engine: Annotated[
        Engine | None,
        _option("local (default): in this process; ray: on the Ray cluster of RAY_ADDRESS."),
    ] = None,
    workers: Annotated[
        int | None, _option("Of --engine ray, of one CPU each. Default: all CPUs.")
    ] = None,
    **arguments: Any,
) -> None:
    """Run a sweep, or resume it."""
    given = {name: value for name, value in locals().items() if name not in ("config", "arguments")}
    settings = _settings(config, given | arguments)
    for name in ("op", "queries", "output"):
        if name not in settings:
            raise typer.BadParameter("is needed", param_hint=f"'--{name}'")
    folder = writable_folder(Path(settings.pop("output")))
    question = settings.pop("op")
    _check_choice("engine", settings.setdefault("engine", "local"), Engine)
    metric = settings.pop("metric", "cosine")
    _check_choice("metric", metric, Metric)
    limit = _bytes(settings.pop("memory", "1GiB"))
    if isinstance(settings.get("thresholds"), str):
        settings["thresholds"] = _number(settings["thresholds"])

    import fastclip

    unit = metric == "cosine"
    queries_rows = open_source(settings.pop("queries"), normalize=unit)
    keys_rows = open_source(settings.pop("keys"), normalize=unit) if "keys" in settings else None
    if "values" in settings:
        settings["values"] = open_source(settings["values"])
    began = time.monotonic()
    with progress("sweeping", "rows") as report:
        try:
            summary = fastclip.sweep.run(
                question,
                queries_rows,
                keys_rows,
                folder,
                memory=limit,
                progress=report,
                **settings,
            )
        except TypeError as error:  # of a dtype, or of a value in CONFIG
            raise ValueError(str(error)) from error
    print_job(folder, f"{summary.items:,} rows", summary, time.monotonic() - began)


def status(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The sweep's folder.")],
) -> None:
    """Show how far a sweep is, whether it is running, its rate and the time left."""
    import fastclip

    found = fastclip.sweep.status(output)
    parts = [
        f"{output}: {found.op}",
        f"{found.finished:,} of {found.shards:,} shards",
        f"{found.done:,} of {found.items:,} rows ({found.done / found.items:.0%})",
    ]
    if found.rate is not None:
        parts.append(f"{found.rate:,.1f} rows/s")
    if found.finished == found.shards:
        parts.append("finished")
    elif found.running is None:
        parts.append("not known whether it is running")
    elif not found.running:
        parts.append("not running")
    elif found.seconds_left is not None:
        parts.append(f"running, {timedelta(seconds=round(found.seconds_left))} left")
    else:
        parts.append("running")
    typer.echo(", ".join(parts))


register(app, "run", run, help="Run a sweep, or resume it; the word 'run' may be left out.")
register(app, "status", status)


def _settings(config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the file and of the options, these over those."""
    settings: dict[str, Any] = {}
    if config is not None:
        import yaml

        if not config.exists():
            raise FileNotFoundError(f"{config}: no such file, nor a command of 'sweep'")
        try:
            found = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{config}: not YAML ({error})") from error
        if not isinstance(found, dict):
            raise ValueError(f"{config}: is a {type(found).__name__}, allowed: a mapping")
        unknown = sorted(map(str, found.keys() - given.keys()))
        if unknown:
            raise ValueError(
                f"{config}: {unknown[0]!r} is no option, allowed: {', '.join(given)}"
                + did_you_mean(unknown[0], given)
            )
        settings = {name: value for name, value in found.items() if value is not None}
    for name, value in given.items():
        if value is not None:
            settings[name] = value
    return settings


def _check_choice(name: str, value: object, kind: Any) -> None:
    if value not in get_args(kind):
        raise ValueError(
            f"{name}: must be one of {', '.join(get_args(kind))}, got {value!r}"
            + did_you_mean(value, get_args(kind))
        )


def _bytes(text: object) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(iB|B)?", str(text))
    if match is None:
        raise ValueError(f"memory: must be such as 4GiB, 500MB or a number of bytes, got {text!r}")
    number, prefix, unit = match.groups()
    base = 1000 if unit == "B" else 1024
    return int(float(number) * base ** " KMGT".index(prefix or " "))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # a path
