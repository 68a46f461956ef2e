from __future__ import annotations

import gzip

import pytest

from fastclip.data import read_texts

FILES = {
    "a.txt": "a cat\na  dog \nüber\n",
    "a.csv": 'id,text\n1,a cat\n2,"a  dog "\n3,über\n',
    "a.tsv": "id\ttext\n1\ta cat\n2\ta  dog \n3\tüber\n",
    "a.jsonl": '{"text": "a cat"}\n{"n": 1, "text": "a  dog "}\n{"text": "\\u00fcber"}\n',
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("name", FILES)
def test_all_kinds(tmp_path, name, ending, line_end, start):
    data = (start + FILES[name].replace("\n", line_end)).encode()
    path = tmp_path / (name + ending)
    path.write_bytes(gzip.compress(data) if ending else data)
    column = None if name == "a.txt" else "text"
    assert read_texts(path, column=column) == ("a cat", "a  dog ", "über")


def test_one_column_needs_no_name(tmp_path):
    (tmp_path / "a.CSV").write_text("text\na\na\n")
    assert read_texts(tmp_path / "a.CSV") == ("a", "a")
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    assert read_texts(tmp_path / "a.jsonl") == ("a",)


@pytest.mark.parametrize("end", ["\n", "\n\n", "\n \t\n\r\n", "\n" * 99])
@pytest.mark.parametrize("name", FILES)
def test_blank_lines_at_the_end(tmp_path, name, end):
    if name.endswith("sv") and " " in end:
        return  # a field of blanks
    (tmp_path / name).write_text(FILES[name].rstrip("\n") + end)
    column = None if name == "a.txt" else "text"
    assert read_texts(tmp_path / name, column=column) == ("a cat", "a  dog ", "über")


def test_a_column_whose_name_has_a_semicolon(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\nx;y\n")
    assert read_texts(tmp_path / "a.csv", column="a;b") == ("x;y",)


def test_only_line_feeds_end_a_line(tmp_path):
    text = "a\rb\x0bc\u2028d\x85e"
    (tmp_path / "a.txt").write_bytes(f"{text}\nx".encode())
    assert read_texts(tmp_path / "a.txt") == (text, "x")
    (tmp_path / "a.csv").write_bytes(b'text\n"two\nlines, one text"\n')
    assert read_texts(tmp_path / "a.csv") == ("two\nlines, one text",)


@pytest.mark.parametrize(
    ("name", "content", "column", "reason"),
    [
        ("a.txt", "a\n\nb\n", None, "line 2: the text is blank"),
        ("a.txt", "a\n \t\nb", None, "line 2: the text is blank"),
        ("a.txt", "\n\n", None, "no text in it"),
        ("a.txt", "", None, "no text in it"),
        ("a.txt", "a", "x", "column is 'x', allowed for .csv, .tsv and .jsonl only"),
        ("a.txt", b"a\xff", None, "not UTF-8"),
        ("a.txt.gz", b"a", None, "Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"a\n" * 9999, mtime=0)[:-20], None, "ended before"),
        ("a.csv", "id,text\n1,a\n", None, "several columns (id, text): name one"),
        ("a.csv", "id,text\n1,a\n", "x", "column is 'x', allowed: id, text"),
        ("a.csv", "id,text\n1,a\n2\n", "text", "line 3: the text is missing"),
        ("a.csv", "id,text\n1,a, b\n", "text", "line 2: more fields than columns, allowed: 2"),
        ("a.csv", 'id,text\n1,"a"b\n', "text", "line 2: ',' expected after '\"'"),
        ("a.csv", 'id,text\n1,"a\n', "text", "unexpected end of data"),
        ("a.csv", "id,text\n", "text", "no text in it"),
        (
            "a.csv",
            "id;text\n1;a\n",
            None,
            "line 1: 'id;text' is one column, but looks like several",
        ),
        ("a.csv", "id\ttext\n1\ta\n", None, "several with tabs between them, allowed: commas"),
        ("a.tsv", "id,text\n1,a\n", None, "several with commas between them, allowed: tabs"),
        ("a.csv", "id,text,text\n1,a,b\n", "text", "line 1: two columns are called 'text'"),
        ("a.csv", "", None, "no line in it, allowed: a first one that names the columns"),
        ("a.csv", "id,text\r1,a\r", "text", "line 1: a line ends with a carriage return alone"),
        ("a.jsonl", '{"a": 1}\n', None, "line 1: the text is a int, allowed: a string"),
        ("a.jsonl", '{"a": "x"}\n{"b": "x"}', None, "line 2: the text is missing"),
        ("a.jsonl", '["a"]\n', None, "line 1: a list, allowed: a JSON object"),
        ("a.jsonl", '{"a": "x"}\n{"a"', None, "line 2: not JSON"),
        ("a.jsonl", '{"a": "x"}\n\n{"a": "y"}', None, "line 2: not JSON"),
        ("a.jsonl", '{"a": "\\ud800"}', None, "line 1: '\\ud800' is not text"),
        ("a.jsonl", "[" * 100_000, None, "line 1: not JSON"),
        ("a.parquet", "", None, "not a file of texts, allowed: .txt, .csv, .tsv or .jsonl"),
    ],
)
def test_errors_name_file_and_line(tmp_path, name, content, column, reason):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r".") as caught:
        read_texts(path, column=column)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_nothing_there_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_texts(tmp_path / "a.txt")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(ValueError, match="not a file of texts"):
        read_texts(tmp_path / "b.txt")


def test_a_real_vocabulary(real_data):
    nouns = read_texts(real_data / "vocab" / "wordnet_nouns.txt.gz")
    assert len(nouns) == 117_798
