"""``fastclip scenes fetch``: download the artwork sets, render them, write one file of drawings."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch

from fastclip.data.files import replacing, write_safetensors
from fastclip.data.progress import progress

from .drawings import LEVELS, SIDE, mips, sources
from .vocabulary import Word, read_vocabulary

_REGISTRY = "https://registry.npmjs.org"
# Cosine of two thumbnails above which a training drawing counts as a copy of a test drawing.
_NEAR_COPY = {"noto-v1": 0.85}
_NEAR_COPY_ELSE = 0.95
_MIN_COVERED = 0.02  # share of the square; less is an empty drawing


def fetch(folder: Path, workers: int = 2) -> None:
    """Write ``drawings.safetensors`` and ``drawings.json`` into ``folder``.

    Packages are downloaded once into ``folder/packages``, by npm where it is installed and from
    the same registry over https where not; each is checked against its SHA-512.
    """
    if find_spec("resvg_py") is None:
        raise ValueError("resvg-py is needed to render: pip install 'fastclip-kernels[scenes]'")
    table = sources()
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    packed = {"names": table["names"], **table["artwork"]}
    with progress("downloading", "packages") as report:
        unpacked: dict[str, Path] = {}
        for key, source in packed.items():
            report(len(unpacked), len(packed))
            unpacked[key] = _package(source, packages)
    words = read_vocabulary(unpacked.pop("names"))
    jobs = [
        (index, artwork, svg)
        for artwork, path in enumerate(unpacked.values())
        for index, svg in _match(words, path)
    ]
    pixels, kept = [], []
    with progress("rendering", "drawings") as report, ProcessPoolExecutor(workers) as pool:
        drawings = pool.map(render, (svg for *_, svg in jobs), chunksize=32)
        for done, (job, drawing) in enumerate(zip(jobs, drawings, strict=True), start=1):
            if drawing is not None:
                pixels.append(drawing)
                kept.append(job[:2])
            report(done, len(jobs))
    name_index, set_index = torch.tensor(kept).T
    _write(folder, words, table["artwork"], name_index, set_index, torch.stack(pixels))


def _write(
    folder: Path,
    words: list[Word],
    artwork: Mapping[str, Mapping[str, str]],
    name_index: torch.Tensor,
    set_index: torch.Tensor,
    pixels: torch.Tensor,
) -> None:
    levels = mips(pixels)
    keep = ~near_copies(list(artwork), artwork, name_index, set_index, levels[-1])
    # A name that only one set draws cannot be told apart from that set's style.
    counts = torch.zeros(len(words), dtype=torch.int64)
    counts.index_add_(0, name_index[keep], torch.ones_like(name_index[keep]))
    keep &= counts[name_index] >= 3
    used = sorted(set(name_index[keep].tolist()))
    renumbered = torch.full((len(words),), -1).index_copy(
        0, torch.tensor(used), torch.arange(len(used))
    )
    tensors = {f"pixels_{s}": level[keep] for s, level in zip(LEVELS, levels, strict=True)}
    tensors["name_index"] = renumbered[name_index[keep]]
    tensors["set_index"] = set_index[keep]
    tables = {
        "names": [words[i].name for i in used],
        "groups": [words[i].group for i in used],
        "tags": [words[i].tags for i in used],
        "sets": list(artwork),
        "sources": [source["source"] for source in artwork.values()],
    }
    with replacing(folder / "drawings.json") as part:
        part.write_text(json.dumps(tables, indent=1), "utf-8")
    write_safetensors(folder / "drawings.safetensors", tensors, {"format": "fastclip drawings"})


def _package(source: Mapping[str, str], folder: Path) -> Path:
    """Download and unpack one package of npm's registry; return the folder of its files."""
    name, version = source["package"], source["version"]
    target = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}"
    if target.is_dir():
        return target / "package"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if shutil.which("npm"):
            command = [
                "npm",
                "pack",
                "--silent",
                f"{name}@{version}",
                "--pack-destination",
                scratch,
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            content = next(Path(scratch).glob("*.tgz")).read_bytes()
        else:
            url = f"{_REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
            with urllib.request.urlopen(url) as reply:
                content = reply.read()
        digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        if digest != source["integrity"]:
            raise OSError(f"{name} {version}: is {digest}, should be {source['integrity']}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(unpacked, filter="data")
        unpacked.rename(target)
    return target / "package"


def _match(words: list[Word], package: Path) -> Iterator[tuple[int, str]]:
    """Yield the index of a word and the SVG that an artwork set draws it with."""
    table = json.loads((package / "icons.json").read_text("utf-8"))
    chars = json.loads((package / "chars.json").read_text("utf-8"))
    icons = table["icons"]
    # An alias that turns or mirrors its drawing would need another name.
    aliases = {
        name: alias["parent"]
        for name, alias in table.get("aliases", {}).items()
        if alias.keys() == {"parent"} and alias["parent"] in icons
    }
    by_char = {code.replace("-fe0f", ""): name for code, name in chars.items()}
    joined = {name.replace("-", ""): name for name in icons}
    taken: set[str] = set()
    found: dict[int, str] = {}

    def look_up(index: int, slug: str | None) -> None:
        icon = slug if slug in icons else aliases.get(slug or "")
        if index not in found and icon is not None and icon not in taken:
            found[index] = icon
            taken.add(icon)

    for index, word in enumerate(words):
        look_up(index, by_char.get(word.hexcode.replace("-fe0f", "")))
    # Labels before shortcodes: "dog" is the animal, though a shortcode says it for "dog face".
    for index, word in enumerate(words):
        look_up(index, word.slugs[0])
        look_up(index, joined.get(word.slugs[0].replace("-", "")))
    for index, word in enumerate(words):
        for slug in word.slugs[1:]:
            look_up(index, slug)
            look_up(index, joined.get(slug.replace("-", "")))
    for index, name in sorted(found.items()):
        icon = icons[name]
        box = [
            icon.get(key, table.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        ]
        yield index, _svg(icon["body"], box)


def _svg(body: str, box: list[float]) -> str:
    view = " ".join(f"{number:.6g}" for number in box)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" width="{SIDE}" height="{SIDE}">{body}</svg>'
    )


def render(svg: str) -> torch.Tensor | None:
    """Render to [4, 128, 128] premultiplied uint8, filling the square; None if nearly empty."""
    pixels = _render(svg)
    covered = pixels[3] > 8
    if covered.float().mean() < _MIN_COVERED:
        return None
    rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
    top, left = int(rows[0]), int(columns[0])
    side = max(int(rows[-1]) - top, int(columns[-1]) - left) + 1
    if side < SIDE - 6:  # sets leave different margins, which would tell them apart
        start = svg.index('viewBox="') + len('viewBox="')
        end = svg.index('"', start)
        x, y, width, height = map(float, svg[start:end].split())
        unit = max(width, height) / SIDE  # the view is centred in the square
        x, y = x - (max(width, height) - width) / 2, y - (max(width, height) - height) / 2
        middle_x = left + (int(columns[-1]) + 1 - left) / 2
        middle_y = top + (int(rows[-1]) + 1 - top) / 2
        box = [x + (middle_x - side / 2) * unit, y + (middle_y - side / 2) * unit]
        cropped = " ".join(f"{number:.6g}" for number in (*box, side * unit, side * unit))
        try:
            return _render(svg[:start] + cropped + svg[end:])
        except BaseException as error:  # a panic of resvg is no Exception
            if type(error).__name__ != "PanicException":
                raise
    return pixels


def _render(svg: str) -> torch.Tensor:
    import numpy as np
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, width=SIDE, height=SIDE)
    with Image.open(io.BytesIO(bytes(png))) as image:
        straight = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1).float()
    straight[:3] *= straight[3:] / 255
    return straight.round().to(torch.uint8)


def near_copies(
    sets: list[str],
    artwork: Mapping[str, Mapping[str, str]],
    name_index: torch.Tensor,
    set_index: torch.Tensor,
    thumbnails: torch.Tensor,
) -> torch.Tensor:
    """[D] bool: training drawings that come near a test drawing of the same name."""
    unit = torch.nn.functional.normalize(_features(thumbnails), dim=1)
    test = torch.tensor([artwork[name]["role"] == "test" for name in sets])[set_index]
    limits = torch.tensor([_NEAR_COPY.get(name, _NEAR_COPY_ELSE) for name in sets])[set_index]
    copies = torch.zeros(len(unit), dtype=torch.bool)
    for name in set(name_index.tolist()):
        rows = (name_index == name).nonzero()[:, 0]
        train, tested = rows[~test[rows]], rows[test[rows]]
        if len(train) and len(tested):
            nearest = (unit[train] @ unit[tested].T).max(1).values
            copies[train] = nearest > limits[train]
    return copies


def _features(thumbnails: torch.Tensor) -> torch.Tensor:
    """Thumbnails on mid-grey, as differences from it, so that the background counts for nothing."""
    alpha = thumbnails[:, 3:].float()
    return (thumbnails[:, :3].float() - 127.5 * alpha / 255).flatten(1)
