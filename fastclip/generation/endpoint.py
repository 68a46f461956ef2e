"""A chat model behind an OpenAI-compatible endpoint: answers kept on disk, requests rationed."""

import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from typing import Any

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0  # seconds between two tries


class EndpointError(OSError):
    """The endpoint could not be reached, or did not answer as it should."""


class ChatEndpoint:
    """Asks ``URL/chat/completions``; safe to call from several threads, which share the rate.

    Parameters
    ----------
    url : str
        Such as ``"http://localhost:8000/v1"``.
    model : str
        The name that the endpoint has for the model.
    cache : path-like
        A file with a line of JSON per answer: what is in it is not asked again. A line that a kill
        cut off is ignored.
    key : str, optional
        Sent as a bearer token; never written anywhere.
    requests_per_minute : float
        At most this many requests are begun per minute, evenly spaced.
    tries : int
        How often a request is sent to a busy or unreachable endpoint before `EndpointError`.
    timeout : float
        Seconds.

    Raises
    ------
    ValueError
        An argument is out of range.
    """

    def __init__(
        self,
        url: str,
        model: str,
        cache: str | os.PathLike[str],
        *,
        key: str | None = None,
        requests_per_minute: float = 60,
        tries: int = 6,
        timeout: float = 60,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: is {url!r}, allowed: one that begins with http:// or https://")
        for name, value in (("requests_per_minute", requests_per_minute), ("tries", tries)):
            if value <= 0:
                raise ValueError(f"{name}: is {value}, allowed: above 0")
        self.model = model
        self._url = url.rstrip("/") + "/chat/completions"
        self._key = key
        self._pause = 60 / requests_per_minute
        self._tries = tries
        self._timeout = timeout
        self._next = 0.0
        self._lock = threading.Lock()
        self._path = Path(cache)
        self._answers = _read_cache(self._path)
        self._asked: dict[str, Future[str]] = {}

    def ask(self, instruction: str, text: str) -> str:
        """Return the model's answer to an instruction and a text, from the cache if possible.

        Raises
        ------
        EndpointError
            It refuses the request, or is busy or gone at every try.
        """
        request = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": text},
            ],
            "temperature": 0,
            "max_tokens": 100,
        }
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self._lock:
            if key in self._answers:
                return self._answers[key]
            others = self._asked.get(key)
            mine = self._asked.setdefault(key, Future())
        if others is not None:  # another thread asks the same
            return others.result()
        try:
            answer = self._answer(request)
            self._keep(key, answer)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
        finally:
            del self._asked[key]
        return answer

    def _keep(self, key: str, answer: str) -> None:
        with self._lock:
            line = json.dumps({"key": key, "answer": answer}) + "\n"
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(line)
            self._answers[key] = answer

    def _answer(self, request: dict[str, Any]) -> str:
        reason, wait = "", 1.0
        for number in range(self._tries):
            if number:
                time.sleep(min(wait, _LONGEST_WAIT))
            self._wait_for_turn()
            try:
                return _content(self._post(request))
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.reason}: {error.read(300).decode(errors='replace')}"
                if error.code not in _AGAIN:
                    raise EndpointError(f"{self._url}: {reason}") from error
                told = error.headers.get("Retry-After", "")
                wait = float(told) if told.replace(".", "", 1).isdigit() else 2 * wait
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason, wait = str(error), 2 * wait
            except (ValueError, LookupError, TypeError) as error:
                raise EndpointError(f"{self._url}: not a chat completion: {error}") from error
        raise EndpointError(f"{self._url}: no answer in {self._tries} tries; the last: {reason}")

    def _post(self, request: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        body = json.dumps(request).encode()
        sent = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(sent, timeout=self._timeout) as response:
            return json.load(response)

    def _wait_for_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._pause
        time.sleep(turn - now)


def _content(response: Any) -> str:
    content = response["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise TypeError(f"the content is a {type(content).__name__}")
    return content.strip().strip("\"'").strip()


def _read_cache(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    data = path.read_text("utf-8")
    if data and not data.endswith("\n"):  # cut off by a kill: the next line must not join it
        path.write_text(data[: data.rfind("\n") + 1], "utf-8")
    answers = {}
    for line in data.splitlines():
        try:
            entry = json.loads(line)
            answers[str(entry["key"])] = str(entry["answer"])
        except (ValueError, LookupError, TypeError):
            continue
    return answers
