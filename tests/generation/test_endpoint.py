from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastclip.cli import app
from fastclip.coder import ClassTexts, EndpointSource, generate_texts
from fastclip.coder.endpoint_source import ANALOGOUS, CONTRAST
from fastclip.data import read_hard_positives
from fastclip.generation import INSTRUCTIONS, ChatEndpoint, EndpointError, generate_by_endpoint
from fastclip.generation.instructions import JUDGE, NEGATIVE

CAPTION = "a red car and an old man"
# As a chat model answered, for each instruction.
RECORDED = {
    INSTRUCTIONS["swap"]: '"an old man and a red car"',
    INSTRUCTIONS["replace"]: "a crimson car and an old man",
    INSTRUCTIONS["replace-verb"]: "NONE",
    INSTRUCTIONS["replace-spatial"]: "a car",
    NEGATIVE: "a red car and a young man",
}


def recorded(instruction: str, text: str) -> str | None:
    if instruction == JUDGE:
        return "No." if "young" in text else "YES"
    return RECORDED.get(instruction)


class Server:
    """A chat endpoint on this machine, which answers from the records and can be made to fail."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: list[str | None] = []
        self.failures: list[tuple[int, dict[str, str]]] = []
        self.raw: bytes | None = None
        self.reply = recorded
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.times.append(time.monotonic())
                outer.keys.append(self.headers.get("Authorization"))
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(body)
                    outer.open += 1
                    outer.most_open = max(outer.most_open, outer.open)
                status, headers = outer.failures.pop(0) if outer.failures else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if status == 200:
                    answer = outer.raw or outer.answer(body)
                with outer.lock:
                    outer.open -= 1
                if status == 200:
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> bytes:
        instruction, text = (message["content"] for message in body["messages"])
        content = self.reply(instruction, text)
        return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def endpoint(server: Server, folder: Path, **options: Any) -> ChatEndpoint:
    options = {"requests_per_minute": 60_000} | options
    return ChatEndpoint(server.url, "chat", folder / "answers.jsonl", **options)


def test_generates_filters_and_never_asks_twice(server: Server, tmp_path: Path) -> None:
    found = generate_by_endpoint([CAPTION, CAPTION], endpoint(server, tmp_path), ["1", "2"],
                                 workers=1)  # fmt: skip
    assert [item.image for item in found.items] == ["1", "2"]
    assert found.items[0].hard_positives == (
        *("an old man and a red car", "a crimson car and an old man"),
    )
    assert found.items[0].hard_negatives == ("a red car and a young man",)
    assert found.rejected == {"is no caption": 2, "is much longer or shorter": 2}
    asked = len(server.requests)
    assert asked == 5 + 3  # instructions, and judgements of what the words do not rule out
    assert server.requests[0]["model"] == "chat"
    again = generate_by_endpoint([CAPTION], endpoint(server, tmp_path))
    assert again.items[0].hard_positives == found.items[0].hard_positives
    assert len(server.requests) == asked
    found.write(tmp_path / "out.jsonl")
    assert read_hard_positives(tmp_path / "out.jsonl").items == found.items


def test_the_judge_decides(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECORDED, INSTRUCTIONS["replace"], "a red car and a young man")
    monkeypatch.setitem(RECORDED, NEGATIVE, "a red car and an aged man")
    found = generate_by_endpoint([CAPTION], endpoint(server, tmp_path))
    assert found.items[0].hard_positives == ("an old man and a red car",)
    assert found.items[0].hard_negatives == ()
    assert found.rejected["means something else"] == found.rejected["means the same"] == 1
    alone = generate_by_endpoint([CAPTION], endpoint(server, tmp_path), judge=False)
    assert alone.items[0].hard_negatives == ("a red car and an aged man",)


def test_goes_on_after_a_failure(server: Server, tmp_path: Path) -> None:
    captions = ["a red car", "a red cat", "a red dog"]
    server.failures = [(200, {})] * 3 + [(400, {})]
    with pytest.raises(EndpointError, match="400"):
        generate_by_endpoint(captions, endpoint(server, tmp_path), judge=False, workers=1)
    with open(tmp_path / "answers.jsonl", "a") as file:
        file.write('{"key": "cut o')  # as a kill leaves it
    generate_by_endpoint(captions, endpoint(server, tmp_path), judge=False, workers=1)
    assert len(server.requests) == 3 * 4 + 1  # each once, and the one that failed
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 12


def test_waits_and_tries_again(server: Server, tmp_path: Path) -> None:
    server.failures = [(429, {"Retry-After": "0.2"}), (503, {"Retry-After": "0"})]
    asked = endpoint(server, tmp_path, key="secret")
    assert asked.ask(NEGATIVE, CAPTION) == RECORDED[NEGATIVE]
    first, second, third = server.times
    assert second - first >= 0.2
    assert third - second < 0.2
    assert server.keys == ["Bearer secret"] * 3
    assert "secret" not in (tmp_path / "answers.jsonl").read_text()
    server.failures = [(500, {"Retry-After": "0"})] * 2
    with pytest.raises(EndpointError, match="no answer in 2 tries; the last: 500"):
        endpoint(server, tmp_path, tries=2).ask(NEGATIVE, "other")


def test_rate(server: Server, tmp_path: Path) -> None:
    asked = endpoint(server, tmp_path, requests_per_minute=1200)
    begin = time.monotonic()
    generate_by_endpoint(["a red car"], asked, judge=False)
    assert len(server.requests) == 4
    assert time.monotonic() - begin >= 3 * 0.05


def slowly(instruction: str, text: str) -> str:
    """Answers overtake each other; each tells what it answers."""
    number = sum(map(ord, text))
    time.sleep(number % 5 / 500)
    if instruction == ANALOGOUS:  # of the first class, one that is another class
        return "zebra\nantelope" if text == "horse" else f"like {number}"
    return "no " * 99 if "goat" in text and instruction == CONTRAST else f"answer {number}"


NAMES = ("horse", "zebra", "goat", "cow", "sheep", "pig")


def texts_of(server: Server, folder: Path, workers: int) -> tuple[ClassTexts, EndpointSource]:
    folder.mkdir(exist_ok=True)
    source = EndpointSource(endpoint(server, folder), "chat", workers=workers)
    return generate_texts(NAMES, source), source


def test_texts_about_classes_do_not_depend_on_the_order_of_answers(
    server: Server, tmp_path: Path
) -> None:
    server.reply = slowly
    expected, source = texts_of(server, tmp_path / "one", 1)
    assert server.most_open == 1
    assert len(source.malformed) == 10  # pairs with a goat
    asked = len(server.requests)
    assert asked == 3 * 6 + 6 * 5 + 2 * 10 + 1  # again for those; another analogous class
    found, again = texts_of(server, tmp_path / "many", 5)
    assert found == expected
    assert again.malformed == source.malformed
    assert 1 < server.most_open <= 5
    assert len(server.requests) == 2 * asked
    with pytest.raises(ValueError, match="workers: is 0, allowed: 1 or more"):
        texts_of(server, tmp_path, 0)


def test_texts_about_classes_go_on_after_a_failure(server: Server, tmp_path: Path) -> None:
    server.reply = slowly
    expected, _ = texts_of(server, tmp_path / "one", 3)
    asked = len(server.requests)
    server.requests.clear()
    server.failures = [(200, {})] * 20 + [(400, {})]
    with pytest.raises(EndpointError, match="400"):
        texts_of(server, tmp_path / "other", 3)
    # what had begun or waited, at most 4 requests each, ends first
    assert 20 < len(server.requests) <= 21 + 2 * 3 * 4 < asked
    assert texts_of(server, tmp_path / "other", 3)[0] == expected
    assert len(server.requests) == asked + 1  # each once, and the one that failed


def test_equal_requests_at_the_same_time_are_sent_once(server: Server, tmp_path: Path) -> None:
    server.reply = slowly
    asked = endpoint(server, tmp_path)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: asked.ask("Say.", "cow"), range(6)))
    assert len(set(answers)) == len(server.requests) == 1
    server.failures = [(400, {})] * 6
    with ThreadPoolExecutor(6) as pool:
        failed = [pool.submit(asked.ask, "Say.", "pig") for _ in range(6)]
    assert all(isinstance(one.exception(), EndpointError) for one in failed)
    server.failures = []
    assert asked.ask("Say.", "pig").startswith("answer")


def test_parallel_requests_share_the_rate(server: Server, tmp_path: Path) -> None:
    asked = endpoint(server, tmp_path, requests_per_minute=1200)
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: asked.ask(NEGATIVE, text), "abcdef"))
    assert len(server.requests) == 6
    assert time.monotonic() - begin >= 5 * 0.05


def test_errors(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="url: is 'localhost'"):
        ChatEndpoint("localhost", "chat", tmp_path / "x")
    with pytest.raises(ValueError, match="requests_per_minute: is 0"):
        ChatEndpoint("http://localhost", "chat", tmp_path / "x", requests_per_minute=0)
    server.raw = b"{}"
    with pytest.raises(EndpointError, match="not a chat completion"):
        endpoint(server, tmp_path).ask(NEGATIVE, CAPTION)
    server.raw = b"<html>"
    with pytest.raises(EndpointError, match="not a chat completion"):
        endpoint(server, tmp_path).ask(NEGATIVE, CAPTION)
    nobody = ChatEndpoint("http://127.0.0.1:9", "chat", tmp_path / "x", tries=1)
    with pytest.raises(EndpointError, match="no answer in 1 tries"):
        nobody.ask(NEGATIVE, CAPTION)


def test_command(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(f"file,caption\n1.jpg,{CAPTION}\n2.jpg,nothing special\n")

    def run(*arguments: object):
        arguments = ("hard-captions", "own.csv", "-o", "out.jsonl", *arguments)
        return CliRunner().invoke(app, list(map(str, arguments)))

    result = run("--image-column", "file")
    assert result.exit_code == 0
    assert "out.jsonl: 2 captions, 1 with hard positives, 1 with hard negatives" in result.stdout
    assert server.requests == []
    items = read_hard_positives("out.jsonl", needs_negatives=False).items
    assert [item.image for item in items] == ["1.jpg", "2.jpg"]
    assert "an old man and a red car" in items[0].hard_positives
    with pytest.raises(ValueError, match="hard_negative is missing"):
        read_hard_positives("out.jsonl")
    chat = ("--endpoint", server.url, "--chat-model", "chat", "--requests-per-minute", 60000)
    result = run(*chat)
    assert result.exit_code == 0
    assert "2 captions" in result.stdout
    assert Path("out.jsonl.answers").is_file()
    assert run("--endpoint", server.url).exit_code == 2
