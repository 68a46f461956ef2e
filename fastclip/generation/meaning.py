"""Which rewordings cannot be right, by their words alone."""

import re

_GRAMMAR = frozenset(
    re.findall(r"\w+", "a an the and or of in on at by to with is are was were be")
)
_NEGATIONS = frozenset({"no", "not", "none", "never", "without", "isn't", "aren't"})
_CHATTER = re.compile(r"^(sure|here is|here's|the new caption|new caption|answer)\b", re.IGNORECASE)


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
    if "\n" in changed.strip() or _CHATTER.match(changed.strip()):
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


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())
