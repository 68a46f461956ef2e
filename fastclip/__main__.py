"""``python -m fastclip``: the command ``fastclip``."""

from fastclip.cli import main

if __name__ == "__main__":
    main()
