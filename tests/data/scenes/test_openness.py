from __future__ import annotations

import json

import pytest

from fastclip.data.scenes.openness import openness_scenes
from fastclip.models.tiny import known_names


def test_classes_labels_and_words(tmp_path) -> None:
    seen, known = [], known_names()
    found = openness_scenes(
        tmp_path, known, count=80, words=1000, progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (80, 80)
    lines = (tmp_path / "captions.jsonl").read_text().splitlines()
    captions = {json.loads(line)["image"]: json.loads(line)["caption"] for line in lines}
    assert len(found.images) == len(found.labels) == 80
    for name, label in zip(found.images.names, found.labels, strict=True):
        assert captions[f"images/{name}"] == found.classes.names[label]

    things = [name.split(" ", 1)[1] for name in found.classes.names]
    assert set(things) <= set(known)
    assert 3 <= len(found.classes.group_names) <= 24
    for thing, group in zip(things, found.classes.groups, strict=True):
        name = found.classes.group_names[group]
        assert name in ("other", known[thing].split("-")[0])

    assert len(found.words) == len(set(found.words)) == 1000
    parts = {part for thing in things for part in thing.split()}
    shared = {part for word in found.words for part in word.split() if part in parts}
    assert shared <= {"of", "left", "right", "a", "an", "big", "small"}  # words of the captions
    again = openness_scenes(tmp_path, known, count=80, words=1010)
    assert again.words[:1000] == found.words
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="holds scenes of"):
        openness_scenes(tmp_path, known, count=80, words=10)
