"""What chat endpoints send back: the answer, or why it is none."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

_SHOWN = 300  # characters of an answer in a message


class EndpointError(OSError):
    """The endpoint could not be reached, or did not answer as it should."""


class AnswerError(EndpointError):
    """The endpoint works, but its model gave no answer of use to one request."""


class BadResponse(Exception):
    """A response without a chat completion in it, with the server's words."""


class EmptyAnswer(BadResponse):
    """A chat completion without text."""


class CutOff(Exception):
    """The answer was longer than the tokens that it may have."""


def content(body: bytes) -> str:
    """Return the text of the answer in the body of a chat completion.

    Raises
    ------
    BadResponse
        It is no chat completion, or one without text.
    CutOff
        The answer came to the end of its tokens.
    AnswerError
        The model refuses.
    """
    try:
        response = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadResponse(f"no JSON ({type(error).__name__}): {excerpt(body)}") from error
    if isinstance(response, dict) and response.get("error"):
        raise BadResponse(f"an error: {excerpt(body)}")
    try:
        choice = response["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
    except (LookupError, TypeError, AttributeError) as error:
        raise BadResponse(f"no chat completion: {excerpt(body)}") from error
    reason = choice.get("finish_reason")
    if reason == "length":
        raise CutOff
    if refusal or reason == "content_filter":
        raise AnswerError(f"the model refuses: {refusal or reason}")
    if not text.strip():
        raise EmptyAnswer(f"an empty answer: {excerpt(body)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadResponse(f"half a character: {excerpt(body)}") from error
    return text.strip()


def _text(parts: Any) -> str:
    """The text of a message, which some servers send in parts, such as thoughts and text."""
    if parts is None:
        return ""
    if isinstance(parts, str):
        return parts
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "".join(texts)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body, on one line."""
    if not body.strip():
        return "an empty body"
    text = " ".join(body[: 4 * _SHOWN].decode("utf-8", errors="replace").split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return what Retry-After tells, in seconds or as a date; None if it tells nothing."""
    told = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", told):
        return float(told)
    try:
        until = parsedate_to_datetime(told)
        if until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
