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
    "fastclip.report",
    "fastclip.sweep",
    "fastclip.training",
    "fastclip.ttd",
)


def documented_elsewhere(package: str, name: str) -> bool:
    """Tell whether a name is a package, or the same object as that of another package here.

    fastclip.train is fastclip.training.train, and fastclip.report repeats what it makes pages of.
    """
    found = getattr(importlib.import_module(package), name)
    if inspect.ismodule(found):
        return found.__name__ in PACKAGES
    if (package, name) != ("fastclip", "train") and package != "fastclip.report":
        return False
    others = [other for other in PACKAGES if other not in ("fastclip", "fastclip.report")]
    return any(
        getattr(module, name, None) is found and name in module.__all__
        for module in map(importlib.import_module, others)
    )
