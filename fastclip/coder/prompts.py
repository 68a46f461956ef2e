"""Templates of texts about classes, and the texts that are encoded."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import torch

from fastclip.coder._json import read_json

KINDS = ("attribute", "sentence", "analogous", "name", "synonym")
"""What a text says of its class, in the order of a class's texts."""

_SLOTS = {
    "name": ("name",),
    "attribute": ("name", "attribute"),
    "analogous": ("name", "other"),
    "one_to_one": ("name", "other", "feature"),
}


@dataclass(frozen=True)
class TextTemplates:
    """How texts are worded for one family of data sets.

    Parameters
    ----------
    name : str
        With ``{name}``; synonyms are put in it, too.
    attribute : str
        With ``{name}`` and ``{attribute}``.
    analogous : str
        With ``{name}`` and ``{other}``.
    one_to_one : tuple of str
        Each with ``{name}``, ``{other}`` and ``{feature}``; at least one.

    Raises
    ------
    ValueError, TypeError
        A slot is missing, or a template is no str.
    """

    name: str
    attribute: str
    analogous: str
    one_to_one: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.one_to_one, str) or not isinstance(self.one_to_one, Sequence):
            raise TypeError(f"one_to_one: a list of templates is needed, got {self.one_to_one!r}")
        object.__setattr__(self, "one_to_one", tuple(self.one_to_one))
        if not self.one_to_one:
            raise ValueError("one_to_one: at least one template is needed, got none")
        for key, slots in _SLOTS.items():
            value = getattr(self, key)
            for template in value if key == "one_to_one" else (value,):
                if not isinstance(template, str):
                    raise TypeError(f"{key}: a template is a str, got {template!r}")
                for slot in slots:
                    if f"{{{slot}}}" not in template:
                        raise ValueError(f"{key}: {template!r} lacks {{{slot}}}")


def text_templates(source: str | os.PathLike[str] = "default") -> TextTemplates:
    """Return the templates of a family of data sets, or those of a file.

    Parameters
    ----------
    source : str or path
        "default", "birds", "pets", "food", "flowers", "aircraft", "satellite", "textures",
        "places", "actions", or a JSON file that ends in .json with the keys ``name``,
        ``attribute``, ``analogous`` and ``one_to_one``. Names, attributes and analogous classes
        are worded as by the authors of CODER, except in "textures"; ``one_to_one`` is fastclip's
        own (see `fastclip.coder.protocol`).

    Raises
    ------
    ValueError
        There is no such family, or a template lacks a slot.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from fastclip.coder import text_templates
    >>> text_templates("food").name
    'a photo of {name}, a type of food.'
    """
    if str(source).endswith(".json"):
        found = read_json(source)
        if not isinstance(found, dict) or set(found) != set(_SLOTS):
            raise ValueError(f"{source}: an object with the keys {', '.join(_SLOTS)} is needed")
        try:
            return TextTemplates(**found)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {error}") from error
    families = json.loads((files(__package__) / "templates.json").read_text("utf-8"))
    if source not in families:
        raise ValueError(
            f"templates: is {str(source)!r}, allowed: {', '.join(families)} or a .json file"
        )
    return TextTemplates(**families[source])


@dataclass(frozen=True, eq=False)
class Prompts:
    """Texts of all classes, class by class, in the order of `KINDS`; made by `ClassTexts.prompts`.

    Attributes
    ----------
    class_names : tuple of C str
    texts : tuple of K str
    class_of : int64 tensor [K]
        From 0 to C - 1; never decreases.
    kind_of : int64 tensor [K]
        Rows of `KINDS`.
    pair_texts : tuple of P str
        One-to-one texts.
    pair_of : int64 tensor [P, 2]
        The class that each is about, and the one that it is told from.
    """

    class_names: tuple[str, ...]
    texts: tuple[str, ...]
    class_of: torch.Tensor
    kind_of: torch.Tensor
    pair_texts: tuple[str, ...]
    pair_of: torch.Tensor

    def of_kinds(self, kinds: Iterable[str]) -> torch.Tensor:
        """Return which texts are of one of ``kinds``: bool [K]."""
        wanted = [KINDS.index(kind) for kind in checked_kinds(kinds)]
        return torch.isin(self.kind_of, torch.tensor(wanted, dtype=torch.int64))


def checked_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise ValueError(f"kinds: holds {kind!r}, allowed: {', '.join(KINDS)}")
    return chosen


def spaced(name: str) -> str:
    """Return a name with spaces for underscores."""
    return " ".join(name.replace("_", " ").split())


def fill(template: str, **values: str) -> str:
    """Replace slots; braces in values stay, which ``str.format`` would read as slots."""
    parts = template.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        slot, brace, rest = part.partition("}")
        filled.append(values[slot] + rest if brace and slot in values else "{" + part)
    return "".join(filled)
