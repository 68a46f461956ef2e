from __future__ import annotations

from pathlib import Path

from fastclip.training.validation import read_classes


def test_blanks_around_a_class_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("image,class\na.jpg,cat\nb.jpg,cat \n")
    paths, classes = read_classes(tmp_path / "val.csv")
    assert paths == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert classes == ("cat", "cat")
