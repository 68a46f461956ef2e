"""What the kernels of pages begin with; conf.py puts it where IPython looks for it.

Output of commands is as wide as a page and without the colours that kernels ask for. ``%%bash``
prints it in one piece, errors among it: in pieces, lines would be broken where these end.
"""

import os
import subprocess

from IPython.core.magic import register_cell_magic

for name in ("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR"):
    os.environ.pop(name, None)
os.environ |= {"COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}


@register_cell_magic
def bash(line: str, cell: str) -> None:
    """Run a script; an error ends the page."""
    done = subprocess.run(
        ["bash", *line.split(), "-c", cell],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, end="")
    done.check_returncode()
