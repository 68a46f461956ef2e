"""The experiment at the smallest size: that it runs, goes on, and says what its numbers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hard_positives_tiny as experiment
import pytest
import torch
from made_up_drawings import made_up_drawings
from tiny_model_folder import write_model

pytestmark = pytest.mark.host
DRAWINGS = made_up_drawings()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_model(tmp_path / "model", DRAWINGS)


def test_runs_and_goes_on(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(experiment, "ARMS", {k: experiment.ARMS[k] for k in ("both",)})
    monkeypatch.setattr(experiment, "RATES", (1e-3,))
    runs = experiment.Experiment(DRAWINGS, model, tmp_path / "runs", steps=2, batch_size=4)
    test = experiment.Test(DRAWINGS, 5)
    rates = runs.accuracy_by_rate(5)
    assert list(rates) == [1e-3]
    assert 0 <= rates[1e-3] <= 1
    found = experiment.run_all(runs, test, 2, 1e-3)
    assert [len(rows) for rows in found.values()] == [1, 2]
    assert found["both"][0] != found["both"][1] or found["both"][0] != found["before"][0]
    for name in experiment.MEASURES:
        assert 0 <= found["both"][0][name] <= 1
    monkeypatch.setattr(experiment, "train", None)  # nothing is left to train
    assert experiment.run_all(runs, test, 2, 1e-3) == found
    assert runs.accuracy_by_rate(5) == rates


def figures(**arms: tuple[float, float, float]) -> dict[str, Any]:
    """Two seeds a point apart of original, augmented and brittle."""
    names = dict(zip(("hn", "both", "control"), ("hard negatives", "both", "no hard captions"),
                     strict=True))  # fmt: skip
    rows = dict.fromkeys(experiment.ARMS, (0.6, 0.5, 0.2))
    rows |= {names[arm]: values for arm, values in arms.items()}
    return {
        arm: [
            {
                **dict(zip(experiment.MEASURES, [*(v + d for v in values), 0.3], strict=True)),
                **{f"{k} {m}": 0.9 for k in experiment.KINDS for m in experiment.MEASURES[:3]},
            }
            for d in (0, 0.01)
        ]
        for arm, values in rows.items()
    }


def test_says_what_the_numbers_say() -> None:
    found = figures(control=(0.6, 0.4, 0.2), hn=(0.8, 0.5, 0.4), both=(0.8, 0.7, 0.1))
    lines = experiment.verdicts(found)
    assert lines[0].startswith("Hard negatives alone raise original accuracy: appears (+20.0 ±")
    assert all(": appears (" in line for line in lines[:4])
    # Half of the negatives: (60, 50, 20), as none of them; all of them: (80, 70, 10).
    assert "in augmented accuracy: appears (50.5, 50.5, 70.5 for 0, 1/2 and 1)." in lines[4]
    outside = found | {"both, 1/2 of the negatives": found["no hard captions"]}
    assert (
        "in augmented accuracy: does not appear (50.5, 40.5, 70.5"
        in (experiment.verdicts(outside)[4])
    )
    found = figures(control=(0.6, 0.4, 0.2), hn=(0.6, 0.5, 0.1), both=(0.8, 0.5, 0.1))
    lines = experiment.verdicts(found)
    assert ": does not appear (+0.0" in lines[0]
    assert ": the opposite appears (-10.0" in lines[1]
    settings = {"seeds": 2, "steps": 1, "batch_size": 2, "test_scenes": 3}
    rates = {1e-4: 0.7, 1e-3: 0.8}
    settings |= {"lr": 1e-3, "original_accuracy_by_rate": rates}
    assert ": none and all of them do not differ (50.5, 50.5, 50.5 for" in lines[4]
    text = experiment.report(found, settings, "c")
    assert "| both | 90.0 ± 0.0 | 90.0 ± 0.0 |" in text
    assert "| hard negatives | 60.5 ± 6.4 |" in text
    assert "is 0.001: of 0.0001 (70.0), 0.001 (80.0) the one" in text


def test_data_agree_with_their_pictures() -> None:
    data = experiment.SceneData(DRAWINGS, 3, 20)
    images = data.images([0, 7], None)
    assert images.shape == (2, 3, 64, 64)
    assert torch.equal(images[1:], data.images([7], None))
    seen = [data.texts(i) for i in range(20)]
    for caption, (negative,), (positive,) in seen:
        assert len({caption, negative, positive}) == 3
    assert {" and " in caption for caption, *_ in seen} == {True, False}
