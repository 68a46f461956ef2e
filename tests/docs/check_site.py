"""Check a built site: python tests/docs/check_site.py FOLDER.

Every public name has an entry in the reference, everything that a page points to within the site is
there, and every picture says in words what it shows.
"""

from __future__ import annotations

import importlib
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from documented import PACKAGES, documented_elsewhere

GENERATED = ("genindex.html", "search.html", "py-modindex.html")  # by Sphinx and furo


class Page(HTMLParser):
    """What a page points to, and what can be pointed to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.wordless: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {str(found[name]) for name in ("id", "name") if found.get(name)}
        self.targets += [str(found[name]) for name in ("href", "src") if found.get(name)]
        if tag == "img" and "alt" not in found:
            self.wordless.append(str(found.get("src")))


def missing_names(site: Path) -> list[str]:
    """Return the public names that the index of the site does not hold."""
    from sphinx.util.inventory import (
        InventoryFile,
    )  # where only the other tests run, it is not there

    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, uri: uri)
    known = {
        name for domain, names in inventory.items() if domain.startswith("py:") for name in names
    }
    return [
        f"{package}.{name}"
        for package in PACKAGES
        for name in importlib.import_module(package).__all__
        if f"{package}.{name}" not in known and not documented_elsewhere(package, name)
    ]


def problems(site: Path) -> list[str]:
    """Return a line for everything that is wrong."""
    found = [f"{name}: not in the reference" for name in missing_names(site)]
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site)
        if path.name not in GENERATED:
            found += [
                f"{where}: {source} has no words for who does not see it"
                for source in page.wordless
            ]
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            to = to / "index.html" if to.is_dir() else to
            if not to.exists():
                found.append(f"{where}: {target} does not exist")
            elif (
                parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors
            ):
                found.append(f"{where}: {target} has no such anchor")
    return list(dict.fromkeys(found))


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    found = problems(site)
    print("\n".join(found) or f"{site}: every link and every public name is there")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
