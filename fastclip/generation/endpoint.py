"""A chat model behind an OpenAI-compatible endpoint: answers kept on disk, requests rationed."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import tenacity

from fastclip.data.checks import check_at_least

from ._kept import KeptAnswers
from ._responses import (
    AnswerError,
    BadResponse,
    CutOff,
    EmptyAnswer,
    EndpointError,
    content,
    excerpt,
    seconds_to_wait,
)

MOST_TOKENS = 500
"""Of an answer; one that this cuts off may have 4,000 at a second try."""

_AGAIN = frozenset({408, 409, 425, 429})  # and all from 500 on
_UNKNOWN_FIELD = frozenset({400, 422, 501})  # what servers without structured output answer to it
_LONGEST_WAIT = 60.0  # seconds between two tries
_CUT_OFF_TOKENS = 4000
_MOST_BYTES = 1 << 20  # of a response


class ChatEndpoint:
    """Asks ``URL/chat/completions``; safe to call from several threads, which share the rate.

    Redirects are not followed: they would hand the key to another host. Busy, broken and empty
    responses are asked for again, with growing pauses or those that the endpoint asks for.

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
        Seconds that one response may take.

    Raises
    ------
    ValueError
        An argument is out of range, or the cache is a file of something else.
    FileNotFoundError
        The folder of the cache does not exist.
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
        self.model = model
        self._url = _completions(url)
        for name, value in (("requests_per_minute", requests_per_minute), ("timeout", timeout)):
            if not value > 0:
                raise ValueError(f"{name}: is {value}, allowed: above 0")
        check_at_least(1, tries=tries)
        # Not packed, for that may be longer than it looks.
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {_checked_key(key)}"
        self._client = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False)
        self._timeout = timeout
        self._pause = 60 / requests_per_minute
        self._tries = tries
        self._next = 0.0
        self._lock = threading.Lock()
        self._kept = KeptAnswers(Path(cache))
        self._asked: dict[str, Future[str]] = {}
        self._has_schemas = True  # until the endpoint refuses one

    def ask(self, instruction: str, text: str, schema: Mapping[str, Any] | None = None) -> str:
        """Return the model's answer to an instruction and a text, from the cache if possible.

        Parameters
        ----------
        instruction, text : str
        schema : mapping, optional
            A JSON schema of the answer. Endpoints that can bind the model to it do; the answer of
            others may be anything.

        Raises
        ------
        AnswerError
            The model refuses, or its answer is empty or too long. Others may still be answered.
        EndpointError
            The endpoint refuses the request, or is busy, broken or gone at every try.
        """
        request = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": text},
            ],
            "temperature": 0,
        }
        wanted = json.dumps({**request, "schema": schema}, sort_keys=True)
        key = hashlib.sha256(wanted.encode()).hexdigest()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                return kept
            others = self._asked.get(key)
            mine = self._asked.setdefault(key, Future())
        if others is not None:  # another thread asks the same
            return others.result()
        try:
            answer = self._answer(request, schema)
            self._kept.add(key, answer)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
        finally:
            del self._asked[key]
        return answer

    def _answer(self, request: dict[str, Any], schema: Mapping[str, Any] | None) -> str:
        for tokens in (MOST_TOKENS, _CUT_OFF_TOKENS):
            try:
                return self._tried({**request, "max_tokens": tokens}, schema)
            except CutOff:
                continue
        raise AnswerError(
            f"{self._url}: the answer is longer than {_CUT_OFF_TOKENS} tokens; does the model "
            "think aloud? Turn that off at the endpoint"
        )

    def _tried(self, request: dict[str, Any], schema: Mapping[str, Any] | None) -> str:
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._tries),
            wait=_wait,
            retry=tenacity.retry_if_exception_type((httpx.RequestError, BadResponse)),
            reraise=True,
        )
        try:
            return again(self._once, request, schema)
        except httpx.RequestError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise EndpointError(self._gave_up(reason)) from error
        except EmptyAnswer as error:
            raise AnswerError(self._gave_up(str(error))) from error
        except BadResponse as error:
            raise EndpointError(self._gave_up(str(error))) from error

    def _gave_up(self, reason: str) -> str:
        return f"{self._url}: no answer in {self._tries} tries; the last: {reason}"

    def _once(self, request: dict[str, Any], schema: Mapping[str, Any] | None) -> str:
        bound = schema is not None and self._has_schemas
        status, headers, body = self._post(_bound(request, schema) if bound else request)
        if bound and status in _UNKNOWN_FIELD:
            status, headers, body = self._post(request)
            if status == httpx.codes.OK:
                self._has_schemas = False
        if status == httpx.codes.OK:
            try:
                return content(body)
            except AnswerError as error:
                raise AnswerError(f"{self._url}: {error}") from error
        if status in _AGAIN or status >= 500:
            raise _Busy(f"{status}: {excerpt(body)}", seconds_to_wait(headers))
        if 300 <= status < 400:
            raise EndpointError(
                f"{self._url}: redirects to {headers.get('Location', 'nowhere')!r}, which is not "
                "followed because the key would go there; if that is the endpoint, give it as url"
            )
        raise EndpointError(f"{self._url}: {status}: {excerpt(body)}")

    def _post(self, request: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        self._wait_for_turn()
        end = time.monotonic() + self._timeout
        sent, body = json.dumps(request).encode(), bytearray()
        with self._client.stream("POST", self._url, content=sent) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise BadResponse(f"more than {_MOST_BYTES:,} bytes: {excerpt(bytes(body))}")
                if time.monotonic() > end:  # httpx's own limit is on the wait for each part
                    raise httpx.ReadTimeout(f"not complete after {self._timeout:g} seconds")
        return response.status_code, response.headers, bytes(body)

    def _wait_for_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._pause
        time.sleep(turn - now)


class _Busy(BadResponse):
    """An endpoint that may answer later."""

    def __init__(self, reason: str, wait: float | None) -> None:
        super().__init__(reason)
        self.wait = wait


_growing = tenacity.wait_exponential(max=_LONGEST_WAIT)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.wait if isinstance(error, _Busy) else None
    return _growing(state) if told is None else min(told, _LONGEST_WAIT)


def _bound(request: dict[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    form = {"name": "answer", "strict": True, "schema": schema}
    return {**request, "response_format": {"type": "json_schema", "json_schema": form}}


def _completions(url: str) -> httpx.URL:
    """The address of chat completions at an endpoint; a query, such as a version, stays."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"url: is {url!r}, which is none: {error}") from error
    if parsed.userinfo:
        raise ValueError("url: holds a user name or password, which is not allowed; give a key")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url: is {url!r}, allowed: one that begins with http:// or https://")
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    return parsed.copy_with(path=f"{path}/chat/completions")


def _checked_key(key: str) -> str:
    if not all("!" <= c <= "~" for c in key):
        raise ValueError(
            "key: holds a space, a line break or a character outside ASCII, which no key does"
        )
    return key
