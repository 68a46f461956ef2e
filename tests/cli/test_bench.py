"""``fastclip bench`` as people call it: tables, files, refusals, an end half way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import fastclip.benchmark.measure
import fastclip.benchmark.peak
import fastclip.benchmark.questions
from fastclip.cli import app

SMALL = ("bench", "--keys", "300", "--queries", "20", "--dim", "7", "-k", "2", "--rounds", "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks that need no time."""
    monkeypatch.setattr(
        fastclip.benchmark.peak,
        "peaks",
        lambda threads: {"int8": 100.0, "float32": 10.0, "bytes": 5.0},
    )
    monkeypatch.setattr("fastclip.cli.bench._TURN", 0.0)
    monkeypatch.setattr("fastclip.cli.bench._PAUSE", 0.0)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_a_table_and_files_of_all_kinds(tmp_path: Path) -> None:
    files = [tmp_path / "new" / f"bench.{kind}" for kind in ("json", "html", "png", "svg")]
    asked = [part for file in files for part in ("-o", str(file))]
    done = run(*SMALL, "--peers", "torch", "--op", "topk,logsumexp", *asked)
    assert done.exit_code == 0, done.output
    assert "top-2, 20 x 300 x 7 float32" in done.stdout
    assert "all answers were checked" in done.stdout
    assert done.stderr == ""
    record = json.loads(files[0].read_text())
    assert set(record) == {"date", "machine", "results"}
    assert {"processor", "threads", "instruction set in use"} <= set(record["machine"])
    first, second = record["results"]
    assert first["case"] == "topk-20x300x7-2"
    assert (first["unit"], first["peak_giga_per_s"]) == ("int8", 100.0)
    assert (second["unit"], second["peak_giga_per_s"]) == ("float32", 10.0)
    assert [row["call"] for row in first["rows"]] == [
        "fastclip.topk",
        "fastclip.topk, packed keys",
        "torch mm + topk",
    ]
    page = files[1].read_text()
    assert page.count("<svg") == 2
    assert "fastclip.logsumexp, packed keys" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is loaded from elsewhere
    assert Image.open(files[2]).width > 500
    assert "<svg" in files[3].read_text()


def test_the_layout_is_that_of_the_committed_results(tmp_path: Path) -> None:
    run(*SMALL, "--peers", "torch", "-o", str(tmp_path / "x.json"))
    ours = json.loads((tmp_path / "x.json").read_text())
    folder = Path(__file__).parents[2] / "benches" / "results"
    theirs = json.loads((folder / "xeon-amx-2-cores.json").read_text())
    assert set(theirs) == set(ours)
    assert set(theirs["machine"]) == set(ours["machine"])
    assert set(theirs["results"][0]) <= set(ours["results"][0])
    assert set(theirs["results"][0]["rows"][0]) == set(ours["results"][0]["rows"][0])


def test_a_grid(tmp_path: Path) -> None:
    page, data = tmp_path / "grid.html", tmp_path / "grid.json"
    done = run(*SMALL, "--peers", "torch", "--grid", "-o", str(page), "-o", str(data))
    assert done.exit_code == 0, done.output
    results = json.loads(data.read_text())["results"]
    sizes = [(result["queries"], result["keys"]) for result in results]
    assert sizes == [(n, v) for v in (80, 300) for n in (1, 16, 20)]
    assert "time of torch / ours, keys / packed keys" in done.stdout
    assert page.read_text().count("<svg") == 1


def test_a_grid_without_peers_shows_times(tmp_path: Path) -> None:
    page = tmp_path / "grid.html"
    done = run(*SMALL, "--peers", "", "--grid", "-o", str(page))
    assert done.exit_code == 0, done.output
    assert done.stdout.count("fastclip.topk, packed keys") == 6
    assert page.read_text().count("<svg") == 6


def test_json_on_stdout() -> None:
    done = run(*SMALL, "--peers", "torch", "--json")
    assert json.loads(done.stdout)["results"][0]["op"] == "topk"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--op", "search"), "error: --op: is 'search', allowed: topk, rank, count_above"),
        (("--peers", "scann"), "error: --peers: is 'scann', allowed: torch, faiss"),
        (("-k", "301"), "error: -k: is 301, allowed: 1 to 300, the number of --keys"),
        (("--keys", "1000000000000"), "error: 20 queries x 1,000,000,000,000 keys x 7 needs"),
        (("--device", "tpu"), "error: --device: is 'tpu', allowed: cpu, cuda"),
        (("-o", "bench.txt"), "error: --output: is bench.txt, allowed: names that end in .json"),
    ],
)
def test_what_is_refused(changed: tuple[str, str], message: str) -> None:
    done = run(*SMALL, *changed)
    assert done.exit_code == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_the_help_names_all_operations() -> None:
    words = set(run("bench", "--help").stdout.replace(",", " ").replace(".", " ").split())
    assert set(fastclip.benchmark.questions.QUESTIONS) <= words


def test_a_missing_peer_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastclip.benchmark.plan.find_spec", lambda name: name == "torch" or None)
    done = run(*SMALL)
    assert done.exit_code == 0
    assert done.stderr == "faiss is not installed and not measured: pip install faiss-cpu\n"
    assert "FAISS" not in done.stdout


def test_a_wrong_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from fastclip import ops

    def wrong(*arguments: Any) -> ops.TopK:
        best = right(*arguments)
        return best._replace(values=best.values + torch.tensor(1e-3))

    right = ops.topk
    monkeypatch.setattr(ops, "topk", wrong)
    done = run(*SMALL, "--peers", "torch")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: fastclip.topk: wrong answer to top-2")
    assert done.stdout == ""


def test_what_is_finished_is_kept_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, asked = fastclip.benchmark.measure.measure, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return measure(*arguments, **named)

    monkeypatch.setattr(fastclip.benchmark.measure, "measure", interrupted)
    data = tmp_path / "grid.json"
    done = run(*SMALL, "--peers", "torch", "--grid", "-o", str(data))
    assert done.exit_code != 0
    assert "interrupted after 2 of 6 questions" in done.stderr
    assert "time of torch / ours" in done.stdout
    assert len(json.loads(data.read_text())["results"]) == 2
