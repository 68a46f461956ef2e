"""Which rewordings cannot be right, by their words alone."""

import re

_GRAMMAR = frozenset(
    re.findall(r"\w+", "a an the and or of in on at by to with is are was were be")
)
_NEGATIONS = frozenset({"no", "not", "none", "never", "without", "isn't", "aren't"})
_MARKUP = re.compile(r"[*`<>|\n\r\u2028\u2029]|^(?:[-#\u2022]|\d+[.)])\s")
_CHATTER = re.compile(
    r"(?:sure|certainly|okay|ok|of course|sorry)[,.!:]|here (?:is|are)\b|here['\u2019]s\b"
    r"|(?:the |my )?(?:new )?(?:caption|answer)(?::| is\b)|i(?:['\u2019]m| am) (?:sorry|unable)"
    r"|i can(?:['\u2019]t|not)\b|as an ai\b",
    re.IGNORECASE,
)


def reject_reason(caption: str, changed: str, kind: str) -> str | None:
    """Return why a generated caption is not usable, or None if it is.

    The words alone are looked at: it must differ from the caption, be about as long, keep some of
    its words, say no more than the caption and add no negation. "swap" must keep all words.
    A judgement of the meaning is left to a model (`generate_by_endpoint`) or to people.

    Examples
    --------
    >>> from fastclip.generation import reject_reason
    >>> reject_reason("a cat and a dog", "a dog and a cat", "swap")
    >>> reject_reason("a cat and a dog", "a dog and a cow", "swap")
    'has other words'
    """
    before, after = _words(caption), _words(changed)
    if not after or changed.strip().upper() == "NONE":
        return "is no caption"
    if is_more_than_a_phrase(changed) and not is_more_than_a_phrase(caption):
        return "is more than a caption"
    if before == after:
        return "is the caption itself"
    if abs(len(after) - len(before)) > max(3, len(before) // 3):
        return "is much longer or shorter"
    if kind == "swap" and sorted(before) != sorted(after):
        return "has other words"
    if (_NEGATIONS & set(after)) - set(before):
        return "adds a negation"
    content = set(before) - _GRAMMAR
    if len(content) > 1 and not content & set(after):
        return "shares no word with the caption"
    return None


def is_more_than_a_phrase(text: str) -> bool:
    """Whether there is markup, an introduction or an excuse in a text."""
    text = text.strip()
    return bool(_MARKUP.search(text) or _CHATTER.match(text) or text.endswith(":"))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())
