"""Every page in a browser: what it asks for, how wide and long it is, and who can read it.

`make browser` runs this; it needs Chromium, playwright and axe-core, and is skipped without them.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from named_pictures import NAMES, write_pictures
from typer.testing import CliRunner

from fastclip.cli import app
from fastclip.coder import ClassTexts, OneClass

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[2] / "build/browser/package/axe.min.js"

pytestmark = [
    pytest.mark.host,
    pytest.mark.once,
    pytest.mark.skipif(
        CHROMIUM is None or not AXE.exists(), reason="make browser installs Chromium and axe-core"
    ),
]
# Pixels at 1280 and at 400; the demonstration was 18,433 once.
LONGEST = {"demo": (6_500, 10_000), "coder": (5_000, 8_000), "openness": (4_500, 5_500)}
PAGES = ("demo", "openness", "coder", "hard_positives", "tag", "classify", "bench")


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the commands write, with names that are long and hold markup."""
    folder = tmp_path_factory.mktemp("pages")
    write_pictures(folder / "pictures")
    long = folder / "pictures" / "a_folder_whose_name_is_long_and_has_no_place_to_break" / "<b>.png"
    long.parent.mkdir()
    shutil.copy(folder / "pictures" / "banana" / "banana.png", long)
    paths = sorted((folder / "pictures").glob("*/*.png"))
    right = ["banana" if path == long else path.stem for path in paths]
    (folder / "labels.txt").write_text("\n".join(right), "utf-8")
    ClassTexts(
        tuple(OneClass(name, (f"parts of a {name}" * 3,), ("<i>text</i>",)) for name in NAMES),
        {(a, b): (f"what {a} has",) for a in NAMES for b in NAMES if a != b},
    ).save(folder / "texts.json")
    with open(folder / "items.csv", "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "caption", "hard_positive", "hard_negative", "category"])
        for i, path in enumerate(paths):
            texts = ("things", right[i]) if i % 2 else (right[i], "stuff")
            lines.writerow([path.relative_to(folder / "pictures"), *texts, right[i - 1], i % 2])

    tiny = ("--model", "tiny")
    run("demo", "--captions", 200, "--output", folder / "demo.html")
    run("openness", "scenes", "-o", folder / "openness", "--scenes", 240, "--vocabulary", 400)
    run(
        *("coder", "classify", folder / "pictures", folder / "texts.json", "--threshold", 1),
        *("--labels", folder / "labels.txt", "-o", folder / "coder"),
    )
    run(
        *("hard-positives", folder / "items.csv", *tiny, "--images", folder / "pictures"),
        *("--resamples", 20, "-o", folder / "hard_positives.html"),
    )
    caption = "a banana, a cactus and an elephant"
    run("tag", paths[0], "--text", caption, *tiny, "--size", 64, "-o", folder / "tag")
    run("classify", folder / "pictures", "-o", folder / "classify.html")
    run(
        *("bench", "--keys", 300, "--queries", 20, "--dim", 8, "-k", 2, "--rounds", 1),
        *("--peers", "torch", "--op", "topk,logsumexp", "-o", folder / "bench.html"),
    )
    found = {name: folder / f"{name}.html" for name in PAGES}
    return {
        name: path if path.exists() else folder / name / "report.html"
        for name, path in found.items()
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        # Chromium's sandbox does not work for root.
        alone = [] if os.getuid() else ["--no-sandbox"]
        yield started.chromium.launch(executable_path=CHROMIUM, args=alone)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", PAGES)
def test_page(pages: dict[str, Path], browser: Any, name: str, width: int, scheme: str) -> None:
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    shown = page.evaluate("[document.documentElement.scrollHeight, document.title]")
    assert shown[0] <= LONGEST.get(name, (9_000, 9_000))[width < 1280]
    assert shown[1]
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(one => !one.naturalWidth).length"
    assert page.evaluate(broken) == 0
    targets = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash))"
    assert page.evaluate(f"{targets}.length") == 0
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []

    # Rows beyond these are like them, and axe takes 10 s for all.
    page.evaluate("document.querySelectorAll('tr:nth-child(n + 40)').forEach(one => one.remove())")
    page.add_script_tag(path=AXE)
    violations = page.evaluate(
        "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes[0].html))"
    )
    assert violations == []
    page.close()


def test_the_keyboard_skips_and_scrolls(pages: dict[str, Path], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(pages["demo"].as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    summary = page.locator("details:not([open]) > summary").first.element_handle()
    summary.focus()
    page.keyboard.press("Enter")
    assert summary.evaluate("one => one.parentElement.open")
    table = page.locator(".scroll").last
    table.focus()
    page.keyboard.press("End")
    page.wait_for_function("one => one.scrollTop > 0", arg=table.element_handle())
    page.fill("#filter", "alarm clock")
    shown = page.locator("#classes tr:visible").count()
    assert 1 < shown < 10
    assert page.inner_text("#count") == f"{shown} classes"
    page.close()


def test_print_shows_what_is_folded(pages: dict[str, Path], browser: Any) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(pages["openness"].as_uri())
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"{style}.color") == "rgb(29, 33, 38)"  # dark ink, on paper
    assert page.locator("details:not([open]) table").first.is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowY") == (
        "visible"
    )
    page.close()
