"""The small model that ships: its files, training and measures. See README.md."""

import json
from importlib.resources import files


def known_names() -> dict[str, str]:
    """Return the names that the small model was trained on, each with its group.

    Examples
    --------
    >>> from fastclip.models.tiny import known_names
    >>> known_names()["red apple"]
    'food-fruit'
    """
    return dict(json.loads((files(__package__) / "names.json").read_text("utf-8")))
