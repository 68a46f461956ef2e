"""Texts that a model can take whole."""

from collections.abc import Sequence

from fastclip.models import Model


def check_context(name: str, texts: Sequence[str], model: Model) -> None:
    """Raise ValueError for the first of the ``texts`` that leaves no place in the model's context.

    The tokenizer cuts longer ones without a word. One that just fits is refused as well.
    """
    tokens = model.tokenizer(["", *texts])
    full = tokens[1:, -1] != tokens[0, -1]
    if full.any():
        i = int(full.int().argmax())
        raise ValueError(
            f"{name}[{i}]: longer than the model's context of {tokens.shape[1]} tokens: "
            f"{texts[i][:60]!r}..."
        )
