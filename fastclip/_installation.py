"""What else is installed under the name ``fastclip``: this project's own package has another.

``fastclip`` on the Python package index is a package of strangers with a module of the same name.
Where both are installed, files of the one replace files of the other.
"""

import warnings
from pathlib import Path

DISTRIBUTION = "fastclip-kernels"  # `pip install DISTRIBUTION`

_CURE = (
    "pip uninstall fastclip; "
    f"pip install --force-reinstall --no-deps {DISTRIBUTION}"  # brings back what goes with it
)


def mixed(package: Path) -> str | None:
    """Return what to do where the strangers' package is installed into the folder of this one."""
    others = sorted(package.parent.glob("fastclip-*.dist-info"))
    if not others:
        return None
    return (
        f"{others[0]}: the package 'fastclip' of another project shares the folder {package} with "
        f"{DISTRIBUTION}, whose files it replaces or takes along when it goes: {_CURE}"
    )


def warn_of_strangers() -> None:
    """Warn where `mixed` finds something in the folder of this module."""
    if problem := mixed(Path(__file__).parent):
        warnings.warn(problem, stacklevel=3)  # the module that imports fastclip


def incomplete(package: Path) -> str | None:
    """Return what to do where the strangers' package has replaced or taken this one's own files."""
    start = package / "__init__.py"
    if start.exists() and start.stat().st_size > 0:
        return None
    return (
        f"{start}: is empty or missing, as the package 'fastclip' of another project leaves it "
        f"behind: {_CURE}"
    )
