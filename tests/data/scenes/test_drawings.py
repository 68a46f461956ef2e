from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from made_up_drawings import made_up_drawings
from safetensors.torch import save_file

from fastclip.data.scenes import is_held_out, load_drawings, sources, split
from fastclip.data.scenes.drawings import LEVELS, mips


def test_shipped_drawings_fill_their_squares_in_colours_below_alpha() -> None:
    drawings = load_drawings()
    assert len(drawings) == len(drawings.names) == len(set(drawings.names)) >= 60
    for side, level in zip(LEVELS, drawings.mips, strict=True):
        assert level.shape == (len(drawings), 4, side, side)
        assert level.dtype == torch.uint8
        assert (level[:, :3] <= level[:, 3:]).all()
    covered = drawings.mips[0][:, 3] > 8
    longest = torch.maximum(covered.any(1).sum(1), covered.any(2).sum(1))
    assert (longest >= 110).all()


def test_shipped_names_are_in_groups_of_which_some_have_several() -> None:
    drawings = load_drawings()
    assert len(set(drawings.groups)) > 10
    assert max(map(drawings.groups.count, drawings.groups)) > 5
    assert sources()["artwork"]["noto"]["license"] == "Apache-2.0"
    assert drawings.held_out.sum() > 5


def test_split_lets_no_held_out_name_and_no_test_set_into_training() -> None:
    drawings = made_up_drawings(("cat", "dog", "owl", "penguin"), tuple(sources()["artwork"]))
    train, test = split(drawings, "train"), split(drawings, "test")
    sets = [{drawings.sets[i] for i in part.set_index.tolist()} for part in (train, test)]
    assert not sets[0] & sets[1]
    assert sets[1] == {"noto", "openmoji", "emojione-v1"}
    names = {drawings.names[i] for i in train.name_index.tolist()}
    assert names == {"cat", "dog"}
    assert {n for n in drawings.names if is_held_out(n)} == {"owl", "penguin"}
    assert set(test.name_index.tolist()) == {0, 1, 2, 3}


def test_about_15_percent_of_names_are_held_out() -> None:
    share = sum(is_held_out(f"name {i}") for i in range(4000)) / 4000
    assert 0.13 < share < 0.17


def test_sets_of_one_drawing_in_two_shadings_are_one_source() -> None:
    drawings = dataclasses.replace(made_up_drawings(), sources=("same", "same"))
    assert drawings.by_name[0] == ((0, 5),)
    assert made_up_drawings().by_name[0] == ((0,), (5,))


def test_selections_keep_the_names() -> None:
    drawings = made_up_drawings()
    chosen = drawings.select(["noto"]).of_names([4, 1])
    assert chosen.names == drawings.names
    assert chosen.present == (1, 4)
    assert torch.equal(chosen.mips[1], drawings.mips[1][[6, 9]])


def test_selection_errors() -> None:
    drawings = made_up_drawings()
    with pytest.raises(ValueError, match="sets holds 'nato', allowed: twemoji, noto"):
        drawings.select(["nato"])
    with pytest.raises(ValueError, match="no drawing is left"):
        drawings.select([])
    with pytest.raises(ValueError, match="names: no drawing is left"):
        drawings.of_names([])
    with pytest.raises(ValueError, match="part is 'dev', allowed: train, test"):
        split(drawings, "dev")  # type: ignore[arg-type]


def test_a_folder_reads_back(tmp_path: Path) -> None:
    drawings = made_up_drawings()
    tensors = {f"pixels_{s}": level for s, level in zip(LEVELS, drawings.mips, strict=True)}
    tensors |= {"name_index": drawings.name_index, "set_index": drawings.set_index}
    save_file(tensors, tmp_path / "drawings.safetensors")
    tables = {key: getattr(drawings, key) for key in ("names", "groups", "tags", "sets", "sources")}
    (tmp_path / "drawings.json").write_text(json.dumps(tables))
    found = load_drawings(tmp_path)
    assert found.names == drawings.names
    assert found.tags == drawings.tags
    assert torch.equal(found.mips[0], drawings.mips[0])


def test_a_folder_without_drawings_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fastclip scenes fetch"):
        load_drawings(tmp_path)


def test_mips_keep_the_mean() -> None:
    pixels = torch.rand(3, 4, 128, 128, generator=torch.Generator().manual_seed(1)) * 255
    for level in mips(pixels):
        assert torch.allclose(level.float().mean((2, 3)), pixels.mean((2, 3)), atol=0.6)
