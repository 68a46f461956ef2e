"""What the reference must have of the packages, in its sources and in the built site."""

from __future__ import annotations

import importlib
import inspect

PACKAGES = (
    "fastclip",
    "fastclip.coder",
    "fastclip.data",
    "fastclip.data.scenes",
    "fastclip.data.vocabularies",
    "fastclip.distributed",
    "fastclip.generation",
    "fastclip.metrics",
    "fastclip.metrics.openness",
    "fastclip.models",
    "fastclip.neighbors",
    "fastclip.report",
    "fastclip.sweep",
    "fastclip.training",
    "fastclip.ttd",
)


def documented_elsewhere(package: str, name: str) -> bool:
    """Tell whether a name is a package, or something that another package here has as its own.

    fastclip.train is fastclip.training.train, and fastclip.report repeats what it makes pages of.
    """
    found = getattr(importlib.import_module(package), name)
    if inspect.ismodule(found):
        return found.__name__ in PACKAGES
    homes = [other for other in PACKAGES if f"{found_in(found)}.".startswith(f"{other}.")]
    return any(
        home not in ("fastclip", package)
        and getattr(importlib.import_module(home), name, None) is found
        for home in homes
    )


def found_in(found: object) -> str:
    """Return the module that defines a function or class; constants have none."""
    return str(getattr(found, "__module__", ""))
