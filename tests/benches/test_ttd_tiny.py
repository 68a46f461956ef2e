"""The experiment at the smallest size: that it runs, goes on, and says what its numbers say."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import ttd_tiny as experiment
import ttd_tiny_data as data
import ttd_tiny_report as report
from made_up_drawings import made_up_drawings
from PIL import Image
from tiny_model_folder import write_model

from fastclip.data.scenes import SceneMaker

pytestmark = pytest.mark.host
pytest.importorskip("torchmetrics")
DRAWINGS = made_up_drawings()
SETTINGS = {
    "steps": 2, "batch_size": 4, "lr": 1e-3, "seeds": 1, "test_scenes": 6, "test_side": 32,
}  # fmt: skip


def coco(folder: Path) -> Path:
    """Two pictures of two things each, in the layout of coco_mini."""
    lines = []
    with zipfile.ZipFile(folder / "coco_mini.zip", "w") as archive:
        for name, number in (("cat", 16), ("dog", 17)):
            labels = np.zeros((40, 64), dtype=np.uint8)
            labels[10:30, 10:30], labels[:9, :9], labels[0] = number, 1, 255
            pictures = Image.new("RGB", (64, 40), "red"), Image.fromarray(labels)
            for kind, picture in zip(("JPEG", "PNG"), pictures, strict=True):
                file = io.BytesIO()
                picture.save(file, kind)
                archive.writestr(f"{name}.{kind}", file.getvalue())
            entry = {"file": f"{name}.JPEG", "labels": f"{name}.PNG"}
            entry |= {"classes": {name: 0.1, "person": 0.1}, "captions": [f"a {name}", "a person"]}
            lines.append(json.dumps(entry))
    (folder / "coco_mini.jsonl").write_text("\n".join(lines))
    return folder


def test_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {arm: experiment.ARMS[arm] for arm in ("contrastive", "TTD, min-max")}
    monkeypatch.setattr(experiment, "ARMS", arms)
    model = write_model(tmp_path / "model", DRAWINGS)
    runs, folder = tmp_path / "runs", coco(tmp_path)
    runs.mkdir()
    found = experiment.run_all(DRAWINGS, folder, model, runs, SETTINGS)
    assert [len(rows) for rows in found.values()] == [1, 1, 1]
    both = found["TTD, min-max"][0]
    for prefix in ("", "photographs: "):
        for name in report.COLUMNS:
            assert 0 <= both[prefix + name] <= 1
        shares = [both[f"{prefix}{name}"] for name in ("mIoU", "mFPR", "mFNR")]
        assert sum(shares) == pytest.approx(1)
    assert both != found["before"][0] != found["contrastive"][0]
    for name in ("train", "distill", "measure"):  # nothing is left to do
        monkeypatch.setattr(experiment, name, None)
    assert experiment.run_all(DRAWINGS, folder, model, runs, SETTINGS) == found


def test_says_what_the_numbers_say() -> None:
    names = [*report.COLUMNS, *report.KEPT]

    def rows(value: float, count: int = 2, **changes: float) -> list[dict[str, float]]:
        own = {key.replace("_", " "): v for key, v in changes.items()}
        return [
            dict.fromkeys(names, value + 0.01 * i) | {k: v + 0.01 * i for k, v in own.items()}
            for i in range(count)
        ]

    before = [dict.fromkeys(names, 0.5) | {"image-tag f1": 0.6, "positive rate": 0.3}]
    found = {
        "before": before,
        "contrastive": rows(0.5),
        "TTD, sigmoid": rows(0.9),
        "TTD, min-max": rows(0.5, caption_IoU=0.8, caption_dominance=0.1, mIoU=0.2),
    }
    lines = report.verdicts(found)
    assert lines[0].endswith("(F1, before training): does not hold (-10.0).")
    said = {}
    for line in lines[2:]:
        claim, words = line.split(". TTD, sigmoid: ")
        said[claim] = [part.split(" (")[0] for part in words.split("; TTD, min-max: ")]
    assert said["TTD raises caption IoU"] == ["holds", "holds"]
    assert said["TTD raises mIoU"] == ["holds", "the opposite holds"]
    assert said["TTD raises the F1 of pixel-tag scoring"] == ["holds", "not decided"]
    bias = said["TTD lowers single-tag bias, captions against their tags"]
    assert bias == ["the opposite holds", "holds"]
    assert "TTD, min-max: holds (-39.5 ± 6.4)." in lines[5]
    text = report.report(found, SETTINGS, "c")
    assert "photographs" not in text
    assert "| caption IoU | 50.0 | 50.5 ± 6.4 | 90.5 ± 6.4 | 80.5 ± 6.4 |" in text


def test_captions_and_what_is_shown() -> None:
    maker = SceneMaker(DRAWINGS, 3)
    for index in range(20):
        scene = maker.scene(index, "pair")
        found = data.worded(DRAWINGS, scene, 3, index)
        names = [DRAWINGS.names[name] for name in found.names]
        assert len(set(names)) == 3
        for tag, shown in zip(found.tags, found.shown, strict=True):
            assert any(tag in name for name in names[:2]) == shown
        assert len(found.tags) == 3
    scenes = data.SceneData(DRAWINGS, 3, 20)
    assert torch.equal(scenes.images([0, 7], None)[1:], scenes.images([7], None))
    assert scenes.texts(7)[0] == data.worded(DRAWINGS, maker.scene(7, "pair"), 3, 7).caption
