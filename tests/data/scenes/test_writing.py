from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fastclip.cli import app
from fastclip.data.scenes import SceneMaker, caption, compose, load_drawings
from fastclip.data.scenes.writing import write_scenes

DRAWINGS = load_drawings()


def test_files_hold_what_is_composed(tmp_path: Path) -> None:
    write_scenes(DRAWINGS, tmp_path, count=3, seed=4, kind="pair", side=40)
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    scenes = [SceneMaker(DRAWINGS, 4).scene(i, "pair") for i in range(3)]
    images, masks = compose(DRAWINGS, scenes, 40)
    assert [line["caption"] for line in lines] == [caption(DRAWINGS, s) for s in scenes]
    for line, scene, image, layers in zip(lines, scenes, images, masks, strict=True):
        found = np.asarray(Image.open(tmp_path / line["image"])) / 255
        assert np.abs(found - image.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
        for name, layer in zip(line["masks"], layers, strict=True):
            found = torch.from_numpy(np.asarray(Image.open(tmp_path / name)) / 255)
            assert (found - layer).abs().max() <= 0.5 / 255 + 1e-6
        assert line["tags"] == [DRAWINGS.names[name] for name in scene.names]
        assert line["relation_swap"]["negative"] != line["relation_swap"]["true"]
        assert line["objects"][0]["x"] == scene.objects[0].x


def test_goes_on_after_an_interruption(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, count: int) -> None:
        raise Stop

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_scenes(DRAWINGS, whole, count=70, seed=1, kind="single", side=16)
    with pytest.raises(Stop):
        write_scenes(DRAWINGS, broken, count=70, seed=1, kind="single", side=16, progress=stop)
    assert not (broken / "captions.jsonl").exists()
    first = broken / "images" / "000000.png"
    written = first.stat().st_mtime_ns
    write_scenes(DRAWINGS, broken, count=70, seed=1, kind="single", side=16)
    assert first.stat().st_mtime_ns == written
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(broken) for p in broken.rglob("*") if p.is_file())
    assert all((whole / f).read_bytes() == (broken / f).read_bytes() for f in files)


def test_a_folder_holds_one_kind_of_scenes(tmp_path: Path) -> None:
    write_scenes(DRAWINGS, tmp_path, count=1, seed=0, side=16)
    with pytest.raises(ValueError, match=r"holds scenes of .*'seed': 0.* not of .*'seed': 1"):
        write_scenes(DRAWINGS, tmp_path, count=1, seed=1, side=16)
    with pytest.raises(ValueError, match="not of"):
        write_scenes(DRAWINGS.of_names(range(9)), tmp_path, count=1, seed=0, side=16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count: is 0, allowed: 1 or more"),
        ({"side": 5}, "side is 5, must be 8 to 1024"),
        ({"kind": "many"}, "kind is 'many', allowed: single, pair, several"),
        ({"seed": -2}, "seed: is -2, allowed: 0 or more"),
    ],
)
def test_errors_come_before_files(tmp_path: Path, change: dict[str, object], message: str) -> None:
    arguments = {"count": 1, "seed": 0, **change}
    with pytest.raises(ValueError, match=message):
        write_scenes(DRAWINGS, tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_command(tmp_path: Path) -> None:
    target = str(tmp_path / "scenes")
    done = CliRunner().invoke(
        app, ["scenes", "write", target, "--count", "2", "--kind", "several", "--side", "16"]
    )
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "scenes" / "captions.jsonl").read_text().splitlines()) == 2
    none = CliRunner().invoke(app, ["scenes", "write", target, "--drawings", str(tmp_path)])
    assert none.exit_code == 1
    assert "fastclip scenes fetch" in none.stderr
