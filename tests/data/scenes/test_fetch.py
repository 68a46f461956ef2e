from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fastclip.data.scenes import fetch as fetch_module
from fastclip.data.scenes import sources
from fastclip.data.scenes.vocabulary import plain, read_vocabulary

DISC = '<circle cx="8" cy="8" r="4" fill="#ff0000"/>'


def entry(label: str, hexcode: str, subgroup: int = 0, **more: Any) -> dict[str, Any]:
    return {"label": label, "hexcode": hexcode, "subgroup": subgroup, "tags": [], **more}


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A package of names as emojibase-data has them."""
    folder = tmp_path / "names"
    (folder / "meta").mkdir(parents=True)
    (folder / "en/shortcodes").mkdir(parents=True)
    groups = {"0": "animal-mammal", "1": "country-flag", "2": "time"}
    (folder / "meta/groups.json").write_text(json.dumps({"subgroups": groups}))
    entries = [
        entry("dog face", "1F436", tags=["dog", "Pet"]),
        entry("dog", "1F415"),
        entry("piñata", "1FA85"),
        entry("flag: Chad", "1F1F9", 1),
        entry("one o\u2019clock", "1F550", 2),
        entry("woman health worker", "1F469-2695", gender=0),
        entry("upward button", "1F53C"),
        {"label": "regional indicator", "hexcode": "1F1E6"},
    ]
    (folder / "en/data.json").write_text(json.dumps(entries))
    for preset in ("cldr", "joypixels", "github", "iamcal", "emojibase"):
        (folder / f"en/shortcodes/{preset}.json").write_text("{}")
    (folder / "en/shortcodes/github.json").write_text('{"1F436": "dog", "1FA85": ["pinata_x"]}')
    return folder


def artwork(folder: Path, icons: list[str], aliases: dict[str, Any], chars: dict[str, str]) -> Path:
    folder.mkdir()
    table = {
        "icons": {name: {"body": f"{DISC}<!--{name}-->"} for name in icons},
        "aliases": aliases,
        "width": 16,
        "height": 16,
    }
    (folder / "icons.json").write_text(json.dumps(table))
    (folder / "chars.json").write_text(json.dumps(chars))
    return folder


def matched(names: Path, package: Path) -> dict[str, str]:
    words = read_vocabulary(names)
    found = fetch_module._match(words, package)
    return {words[i].name: svg.split("<!--")[1].split("-->")[0] for i, svg in found}


def test_vocabulary_leaves_signs_and_variants_out(names: Path) -> None:
    words = read_vocabulary(names)
    assert [word.name for word in words] == ["dog face", "dog", "pinata"]
    assert words[0].tags == ("dog", "pet")
    assert words[0].slugs == ("dog-face", "dog")
    assert plain("T-Rex: Mother\u2019s  No. 1") == "t rex mothers no 1"


def test_labels_go_before_shortcodes(names: Path, tmp_path: Path) -> None:
    package = artwork(tmp_path / "a", ["dog"], {}, {})
    assert matched(names, package) == {"dog": "dog"}
    package = artwork(tmp_path / "b", ["dogface", "dog", "pinata-x"], {}, {})
    assert matched(names, package) == {"dog face": "dogface", "dog": "dog", "pinata": "pinata-x"}


def test_codes_and_upright_aliases_match(names: Path, tmp_path: Path) -> None:
    aliases = {"pinata": {"parent": "party"}, "dog-face": {"parent": "party", "hFlip": True}}
    package = artwork(tmp_path / "a", ["party", "k-9"], aliases, {"1f415-fe0f": "k-9"})
    assert matched(names, package) == {"dog": "k-9", "pinata": "party"}


def test_rendering_fills_the_square() -> None:
    pytest.importorskip("resvg_py")
    pixels = fetch_module.render(fetch_module._svg(DISC, [0, 0, 16, 16]))
    assert pixels is not None
    assert pixels.shape == (4, 128, 128)
    assert (pixels[3].any(0).sum(), pixels[3].any(1).sum()) == (128, 128)
    assert pixels[:, 64, 64].tolist() == [255, 0, 0, 255]
    assert pixels[:, 0, 0].tolist() == [0, 0, 0, 0]
    wide = fetch_module.render(fetch_module._svg(DISC, [0, 4, 32, 8]))
    assert wide is not None
    assert (wide[3].int() - pixels[3]).abs().max() <= 8
    assert fetch_module.render(fetch_module._svg("", [0, 0, 16, 16])) is None


def test_near_copies_of_test_drawings_are_found() -> None:
    noise = torch.rand(4, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    noise[:, 3] = 255
    noise[1] = noise[0] + 3 * torch.randn(4, 16, 16)  # twemoji near noto
    thumbnails = noise.clamp(0, 255).byte()
    table = sources()["artwork"]
    found = fetch_module.near_copies(
        list(table),
        table,
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([list(table).index(n) for n in ("noto", "twemoji", "fxemoji", "twemoji")]),
        thumbnails,
    )
    assert found.tolist() == [False, True, False, False]


def tarball(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_packages_are_checked_and_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tarball(b"{}")
    asked = []

    def urlopen(url: str) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(fetch_module.shutil, "which", lambda name: None)
    monkeypatch.setattr(fetch_module.urllib.request, "urlopen", urlopen)
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    source = {"package": "@iconify-json/noto", "version": "1.2.9", "integrity": f"sha512-{digest}"}
    with pytest.raises(OSError, match=r"noto 1\.2\.9: is sha512-"):
        fetch_module._package({**source, "integrity": "sha512-x"}, tmp_path)
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        folder = fetch_module._package(source, tmp_path)
        assert (folder / "icons.json").read_bytes() == b"{}"
    assert asked == ["https://registry.npmjs.org/@iconify-json/noto/-/noto-1.2.9.tgz"] * 2


def test_a_missing_renderer_is_named_before_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="resvg-py is needed"):
        fetch_module.fetch(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_source_has_a_licence_that_its_role_allows() -> None:
    for source in sources()["artwork"].values():
        assert source["integrity"].startswith("sha512-")
        assert source["credit"]
        if source["role"] == "train":
            assert source["license"] in ("MIT", "Apache-2.0", "CC-BY-4.0")
