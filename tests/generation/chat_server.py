"""A chat endpoint on this machine, which answers as it is told and can be made to fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str, str], Any]
"""Takes the instruction and the text; the content of the answer."""


def completion(content: object, **choice: object) -> bytes:
    """The body of a chat completion."""
    return json.dumps({"choices": [{"message": {"content": content}, **choice}]}).encode()


def response(body: bytes, status: int = 200, **headers: object) -> bytes:
    """A response as it goes over the wire; headers with _ for -."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Server:
    def __init__(self, reply: Reply) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: list[str | None] = []
        self.failures: list[tuple[int, dict[str, str]]] = []
        self.raw: list[bytes] = []  # whole responses, the first for the next request
        self.drips = False  # a byte now and then
        self.reply = reply
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
                    raw = outer.raw.pop(0) if outer.raw else None
                answer = outer.answer(body) if status == 200 and raw is None else b""
                with outer.lock:
                    outer.open -= 1
                if raw is None:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                for part in answer if outer.drips else [raw or answer]:
                    self.wfile.write(bytes([part]) if outer.drips else part)
                    time.sleep(0.02 * outer.drips)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Clients that hang up are meant to."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> bytes:
        instruction, text = (message["content"] for message in body["messages"])
        return completion(self.reply(instruction, text))

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
