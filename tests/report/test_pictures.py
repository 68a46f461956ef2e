import pytest
import torch

from fastclip.data.scenes import SceneMaker, caption
from fastclip.models import load
from fastclip.models.tiny import known_names
from fastclip.models.tiny.evaluate import encode_names
from fastclip.report import Pictures, run_pictures


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return run_pictures(captions=400)


def test_names_and_ranks_are_those_of_all_scores(pictures: Pictures) -> None:
    assert pictures.names == tuple(known_names())
    names = [pictures.drawings.names[i] for i in pictures.drawings.name_index]
    for row, name in enumerate(names):
        listed = [pictures.names[i] for i in pictures.named.indices[row]]
        place = int(pictures.name_ranks[row])
        assert (name in listed) == (place < 5)
        if place < 5:
            assert listed[place] == name
    features = encode_names(load("tiny"), pictures.names)
    assert features.shape == (len(pictures.names), 128)


def test_captions_are_all_different_and_hold_those_of_the_scenes(pictures: Pictures) -> None:
    assert len(set(pictures.captions)) == len(pictures.captions) == 400
    maker = SceneMaker(pictures.drawings, 1)
    for row, own in enumerate(pictures.own_captions):
        assert own == caption(pictures.drawings, maker.scene(row, "pair"))
        place = int(pictures.caption_ranks[row])
        found = [pictures.captions[i] for i in pictures.found.indices[row]]
        assert (own in found) == (place < 5)


def test_examples_span_the_ranks(pictures: Pictures) -> None:
    for examples, ranks in (
        (pictures.shown_drawings(), pictures.name_ranks),
        (pictures.shown_scenes(), pictures.caption_ranks),
    ):
        shown = [example.rank - 1 for example in examples]
        assert shown == sorted(shown)
        assert (shown[0], shown[-1]) == (int(ranks.min()), int(ranks.max()))
        for example in examples:
            places = [i for i, (text, _) in enumerate(example.matches) if text == example.right]
            assert places == ([example.rank - 1] if example.rank <= 5 else [])


def test_equal_runs_are_equal(pictures: Pictures) -> None:
    again = run_pictures(captions=400)
    assert torch.equal(again.caption_ranks, pictures.caption_ranks)
    assert again.captions == pictures.captions


def test_fewer_captions_than_scenes_are_an_error() -> None:
    with pytest.raises(ValueError, match="captions: must be at least 200"):
        run_pictures(captions=199)
