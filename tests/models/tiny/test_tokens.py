from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastclip.data.scenes import load_drawings
from fastclip.models.tiny.tokens import tokenizer, words_of, write_pruned_bpe

open_clip = pytest.importorskip("open_clip")


def test_words_in_use_split_as_clip_splits_them(tmp_path: Path) -> None:
    words = words_of(load_drawings())
    assert {"apple", "guitar", "left", "small"} <= words
    size = write_pruned_bpe(tmp_path / "bpe.txt.gz", words)
    pruned = open_clip.tokenizer.SimpleTokenizer(str(tmp_path / "bpe.txt.gz"))
    full = open_clip.tokenizer.SimpleTokenizer()
    assert pruned.vocab_size == size < 6000
    for word in sorted(words):
        parts = [[t.decoder[i] for i in t.encode(word)] for t in (pruned, full)]
        assert parts[0] == parts[1], word
    # Other words are spelt in smaller parts, but no text is lost.
    assert pruned.decode(pruned.encode("zugzwang, twice!")).strip() == "zugzwang , twice !"
    assert pruned.eot_token_id == size - 1  # the largest id: open_clip pools there


def test_equal_words_give_equal_bytes(tmp_path: Path) -> None:
    for name, words in (("a", ["penguin", "owl"]), ("b", ["owl", "penguin"])):
        write_pruned_bpe(tmp_path / name, words)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tokenizer_of_a_folder_needs_no_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fastclip.models.tiny.train as train

    size = write_pruned_bpe(tmp_path / "bpe.txt.gz", ["penguin"])
    config = json.dumps(train.configuration(train.Recipe(), size))
    (tmp_path / "open_clip_config.json").write_text(config)
    monkeypatch.chdir("/")
    tokens = tokenizer(tmp_path)(["a penguin"])
    assert tokens.shape == (1, 32)
    assert int(tokens.max()) == size - 1
