from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tenacity
from chat_server import Server, completion, response
from typer.testing import CliRunner

from fastclip.cli import app
from fastclip.coder import ClassTexts, EndpointSource, generate_texts
from fastclip.coder.endpoint_source import ANALOGOUS, CONTRAST
from fastclip.data import read_hard_positives
from fastclip.generation import (
    INSTRUCTIONS,
    AnswerError,
    ChatEndpoint,
    EndpointError,
    generate_by_endpoint,
)
from fastclip.generation.instructions import JUDGE, NEGATIVE

CAPTION = "a red car and an old man"
# As a chat model answered, for each instruction.
RECORDED = {
    INSTRUCTIONS["swap"]: "an old man and a red car",
    INSTRUCTIONS["replace"]: "a crimson car and an old man",
    INSTRUCTIONS["replace-verb"]: None,
    INSTRUCTIONS["replace-spatial"]: "a car",
    NEGATIVE: "a red car and a young man",
}


def recorded(instruction: str, text: str) -> str:
    if instruction == JUDGE:
        return json.dumps({"same": "young" not in text})
    return json.dumps({"caption": RECORDED.get(instruction)})


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(recorded)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries, but those that the endpoint asks for."""
    monkeypatch.setattr("fastclip.generation.endpoint._growing", tenacity.wait_none())


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
    server.failures = [(200, {})] * 3 + [(401, {})]
    with pytest.raises(EndpointError, match="401"):
        generate_by_endpoint(captions, endpoint(server, tmp_path), judge=False, workers=1)
    with open(tmp_path / "answers.jsonl", "a") as file:
        file.write('{"key": "cut o')  # as a kill leaves it
    generate_by_endpoint(captions, endpoint(server, tmp_path), judge=False, workers=1)
    assert len(server.requests) == 3 * 4 + 1  # each once, and the one that failed
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert lines.pop(3) == '{"key": "cut o'  # never rewritten, so that no kill can lose the others
    assert len([json.loads(line) for line in lines]) == 12
    generate_by_endpoint(captions, endpoint(server, tmp_path), judge=False)
    assert len(server.requests) == 3 * 4 + 1


def test_waits_and_tries_again(server: Server, tmp_path: Path) -> None:
    server.failures = [(429, {"Retry-After": "0.2"}), (503, {"Retry-After": "0"})]
    asked = endpoint(server, tmp_path, key="secret")
    assert asked.ask(NEGATIVE, CAPTION) == recorded(NEGATIVE, CAPTION)
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
    phrases = [f"thing {number}"]
    if instruction == ANALOGOUS:  # of the first class, one that is another class
        phrases = ["zebra", "antelope"] if text == "horse" else [f"like {number}"]
    elif "goat" in text and instruction == CONTRAST:
        phrases = ["no " * 99]
    return json.dumps({"phrases": phrases})


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
    server.failures = [(200, {})] * 20 + [(401, {})]
    with pytest.raises(EndpointError, match="401"):
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
    assert "thing" in asked.ask("Say.", "pig")


def test_parallel_requests_share_the_rate(server: Server, tmp_path: Path) -> None:
    asked = endpoint(server, tmp_path, requests_per_minute=1200)
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: asked.ask(NEGATIVE, text), "abcdef"))
    assert len(server.requests) == 6
    assert time.monotonic() - begin >= 5 * 0.05


BAD = {
    "an empty body": response(b""),
    "HTML": response(b"<html><h1>Wait</h1>\n a moment</html>"),
    "no UTF-8": response(b"\xff\xfe"),
    "deep JSON": response(b"[" * 100_000),
    "another JSON": response(b"[1]"),
    "null": response(b"null"),
    "an error": response(b'{"error": {"message": "overloaded", "code": 529}}'),
    "no choices": response(b'{"choices": []}'),
    "a choice of text": response(b'{"choices": ["yes"]}'),
    "content of numbers": response(completion(7)),
    "content null": response(completion(None)),
    "content empty": response(completion(" \n")),
    "half a character": response(completion("\ud83d")),
    "more than a megabyte": response(completion("word " * 300_000)),
    "less than promised": response(completion("{}"), Content_Length=10_000),
    "no chunks": response(b"xyz\r\n", Transfer_Encoding="chunked"),
    "not packed": response(completion("{}"), Content_Encoding="gzip"),
    "unpacked too long": response(
        gzip.compress(b" " * (2 << 20) + completion("{}")), Content_Encoding="gzip"
    ),
    "a bad status line": b"HELLO\r\n\r\n",
    "a bad header": b"HTTP/1.1 200 OK\r\n: \x00\r\n\r\n",
    "a cut-off header": b"HTTP/1.1 200 OK\r\nContent-",
    "524": response(b"a timeout", 524),
    "529": response(b"overloaded", 529),
    "a superscript": response(b"", 503, Retry_After="\xb2"),
    "a word": response(b"", 503, Retry_After="soon"),
    "less than nothing": response(b"", 503, Retry_After="-1"),
    "a day gone by": response(b"", 429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_responses_are_asked_for_again_and_not_kept(
    server: Server, tmp_path: Path, bad: str
) -> None:
    server.raw = [BAD[bad]]
    asked = endpoint(server, tmp_path)
    assert asked.ask(NEGATIVE, CAPTION) == recorded(NEGATIVE, CAPTION)
    assert len(server.requests) == 2
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 1
    server.raw = [BAD[bad]] * 2
    with pytest.raises(EndpointError, match=r"no answer in 2 tries; the last: ."):
        endpoint(server, tmp_path, tries=2).ask(NEGATIVE, "another")
    assert server.raw == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("HTML", "<html><h1>Wait</h1> a moment</html>"),
        ("an error", '"overloaded", "code": 529'),
        ("524", "524: a timeout"),
        ("an empty body", "an empty body"),
        ("content null", '{"content": null}'),
    ],
)
def test_messages_hold_the_words_of_the_server(
    server: Server, tmp_path: Path, bad: str, words: str
) -> None:
    server.raw = [BAD[bad]]
    with pytest.raises(EndpointError) as error:
        endpoint(server, tmp_path, tries=1).ask(NEGATIVE, CAPTION)
    assert words in str(error.value)


def test_a_response_that_never_ends(server: Server, tmp_path: Path) -> None:
    server.drips = True
    asked = endpoint(server, tmp_path, tries=1, timeout=0.2)
    with pytest.raises(EndpointError, match=r"not complete after 0\.2 seconds"):
        asked.ask(NEGATIVE, CAPTION)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_goes_to_no_other_host(server: Server, tmp_path: Path, status: int) -> None:
    other = Server(recorded)
    server.raw = [response(b"", status, Location=other.url + "chat/completions")]
    with pytest.raises(EndpointError, match=r"redirects to 'http://127.+give it as url"):
        endpoint(server, tmp_path, key="secret").ask(NEGATIVE, CAPTION)
    other.stop()
    assert other.requests == []
    assert not (tmp_path / "answers.jsonl").exists()


def test_an_answer_that_is_cut_off_gets_more_room(server: Server, tmp_path: Path) -> None:
    cut_off = response(completion("", finish_reason="length"))
    server.raw = [cut_off]
    asked = endpoint(server, tmp_path)
    assert asked.ask(NEGATIVE, CAPTION) == recorded(NEGATIVE, CAPTION)
    assert [request["max_tokens"] for request in server.requests] == [500, 4000]
    server.raw = [cut_off, response(completion('{"caption": "half', finish_reason="length"))]
    with pytest.raises(AnswerError, match="longer than 4000 tokens; does the model think aloud"):
        asked.ask(NEGATIVE, "another")
    server.raw = [response(completion(None, finish_reason="content_filter"))]
    with pytest.raises(AnswerError, match="the model refuses: content_filter"):
        asked.ask(NEGATIVE, "another")


def test_asks_for_a_schema_until_it_is_refused(server: Server, tmp_path: Path) -> None:
    asked = endpoint(server, tmp_path)
    asked.ask(NEGATIVE, "one", {"type": "object"})
    form = server.requests[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == {"type": "object"}
    server.failures = [(400, {})]
    asked.ask(NEGATIVE, "two", {"type": "object"})
    asked.ask(NEGATIVE, "three", {"type": "object"})
    assert ["response_format" in one for one in server.requests] == [True, True, False, False]
    server.failures = [(400, {})]
    with pytest.raises(EndpointError, match="400"):
        asked.ask(NEGATIVE, "four", {"type": "object"})


def test_text_in_parts(server: Server, tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]
    server.raw = [response(completion(parts))]
    assert endpoint(server, tmp_path).ask(NEGATIVE, CAPTION) == "yes"


def test_errors(server: Server, tmp_path: Path) -> None:
    def made(url: str = "http://localhost", cache: str = "x", **options: Any) -> ChatEndpoint:
        return ChatEndpoint(url, "chat", tmp_path / cache, **options)

    for url in (
        "localhost",
        "ftp://localhost",
        "http://",
        "http://x:port",
        "http://me:pw@localhost",
    ):
        with pytest.raises(ValueError, match="url: ") as error:
            made(url)
        assert "pw" not in str(error.value)
    for name in ("requests_per_minute", "tries", "timeout"):
        with pytest.raises(ValueError, match=f"{name}: is 0"):
            made(**{name: 0})
    for key in ("secret\n", "s\u0435cret", "sec ret"):
        with pytest.raises(ValueError, match="key: holds a space") as error:
            made(key=key)
        assert "cret" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"cache: .+there is no folder"):
        made(cache="missing/x")
    (tmp_path / "x").write_text('{"key": "a", "answer": "b"}\nmy thesis\n')
    with pytest.raises(ValueError, match=r"cache: .+x, line 2: is no answer of a chat model"):
        made()
    with pytest.raises(EndpointError, match="no answer in 1 tries"):
        made("http://127.0.0.1:9", "y", tries=1).ask(NEGATIVE, CAPTION)


def test_urls_with_a_version_and_whole_ones(server: Server, tmp_path: Path) -> None:
    for url in ("?api-version=1", "chat/completions", "chat/completions/"):
        asked = ChatEndpoint(server.url + url, "chat", tmp_path / "x", requests_per_minute=60_000)
        asked.ask(NEGATIVE, url)
    assert len(server.requests) == 3


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
    assert server.keys[0] is None
    assert run("--endpoint", server.url).exit_code == 2
    monkeypatch.setenv("OPENAI_API_KEY", "not for this host")
    monkeypatch.setenv("FASTCLIP_ENDPOINT_KEY", "secret")
    Path("out.jsonl.answers").unlink()
    assert run(*chat).exit_code == 0
    assert set(server.keys[-3:]) == {"Bearer secret"}
