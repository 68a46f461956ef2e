"""Prompt templates: those of CLIP by name, and what any must be."""

from collections.abc import Sequence

from fastclip.data.checks import check_choice, check_strings

_NAMES = {
    "imagenet": "OPENAI_IMAGENET_TEMPLATES",
    "imagenet-simple": "SIMPLE_IMAGENET_TEMPLATES",
}


def templates(name: str) -> tuple[str, ...]:
    """Return prompt templates of OpenAI's CLIP, for `Model.encode_text`.

    Parameters
    ----------
    name : str
        ``"imagenet"``: the 80 for ImageNet. ``"imagenet-simple"``: the 7 of them that OpenAI
        found to do best together.

    Returns
    -------
    tuple of str
        Each with one ``{}`` where the name of the class goes.

    Raises
    ------
    ValueError
        There are no templates of this name.

    Examples
    --------
    >>> from fastclip.models import templates
    >>> len(templates("imagenet")), templates("imagenet-simple")[0]
    (80, 'itap of a {}.')
    """
    check_choice("name", name, _NAMES)
    import open_clip

    return tuple(template("{}") for template in getattr(open_clip, _NAMES[name]))


def check_templates(templates: Sequence[str]) -> None:
    """Check that there are prompts, and that each has one ``{}``."""
    check_strings("templates", templates)
    if not templates:
        raise ValueError("templates: at least one is needed, got none")
    for i, template in enumerate(templates):
        if template.count("{}") != 1:
            raise ValueError(f"templates[{i}]: one {{}} is needed, got {template!r}")
