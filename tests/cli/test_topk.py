import contextlib
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import FeatureMetadata, Features, load_sample, write_features

topk_module = sys.modules["fastclip.cli.topk"]

COMMAND = [sys.executable, "-c", "from fastclip.cli import main; main()", "topk"]


def run(*arguments):
    return CliRunner().invoke(app, ["topk", *map(str, arguments)])


def check_error(result, message):
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {message}\n")


def unit(name):
    rows = load_sample(name).features.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def random_files(tmp_path):
    """Rows of many lengths, in files of three kinds: queries [57, 24] and keys [31, 24]."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((57, 24)).astype(np.float32) * rng.uniform(0.1, 9, (57, 1))
    keys = rng.standard_normal((31, 24)).astype(np.float32) * rng.uniform(0.1, 9, (31, 1))
    queries, keys = queries.astype(np.float32), keys.astype(np.float32)
    np.save(tmp_path / "queries.npy", queries)
    np.savez(tmp_path / "keys.npz", keys=keys, other=queries)
    return queries, keys, tmp_path / "queries.npy", f"{tmp_path / 'keys.npz'}:keys"


def test_json_on_samples_is_the_float64_ranking_of_cosines():
    result = run("coco-images", "coco-captions", "-k", "4", "--format", "json")
    assert result.exit_code == 0
    entries = json.loads(result.stdout)
    images, captions = load_sample("coco-images").names, load_sample("coco-captions").names
    scores = unit("coco-images") @ unit("coco-captions").T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    assert [entry["query_index"] for entry in entries] == list(range(500))
    assert [entry["query"] for entry in entries] == list(images)
    for row, entry in enumerate(entries):
        matches = entry["matches"]
        assert [match["rank"] for match in matches] == [1, 2, 3, 4]
        assert [match["key_index"] for match in matches] == order[row].tolist()
        assert [match["key"] for match in matches] == [captions[i] for i in order[row]]
        # features are rounded to float32 after they were brought to unit length
        np.testing.assert_allclose(
            [match["score"] for match in matches], scores[row, order[row]], atol=2e-7, rtol=0
        )


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_metric(random_files, metric):
    queries, keys, queries_file, keys_file = random_files
    result = run(queries_file, keys_file, "-k", 3, "--metric", metric, "--format", "json")
    queries, keys = queries.astype(np.float64), keys.astype(np.float64)
    if metric == "cosine":
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    order = np.argsort(-(queries @ keys.T), axis=1)[:, :3]
    found = [[m["key_index"] for m in entry["matches"]] for entry in json.loads(result.stdout)]
    assert found == order.tolist()


def test_all_formats_read_back_to_the_bits_of_one_call(random_files, tmp_path, monkeypatch):
    queries, keys, queries_file, keys_file = random_files
    monkeypatch.setattr(topk_module, "_PRODUCTS_PER_CALL", 1)  # parts of 16 queries
    best = fastclip.topk(queries, keys, 5)
    expected = best.values.numpy().tobytes()
    for ending in ("json", "csv", "parquet"):
        output = tmp_path / f"best.{ending}"
        result = run(queries_file, keys_file, "--metric", "dot", "--output", output)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")

    entries = json.loads((tmp_path / "best.json").read_text())
    scores = np.array([[m["score"] for m in e["matches"]] for e in entries], np.float32)
    assert scores.tobytes() == expected
    assert [[m["key_index"] for m in e["matches"]] for e in entries] == best.indices.tolist()
    assert {e["query"] for e in entries} == {None}

    with open(tmp_path / "best.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert np.array([x["score"] for x in lines]).astype(np.float32).tobytes() == expected
    assert [int(x["key_index"]) for x in lines] == best.indices.ravel().tolist()
    assert [int(x["query_index"]) for x in lines] == np.repeat(np.arange(57), 5).tolist()
    assert [int(x["rank"]) for x in lines] == [1, 2, 3, 4, 5] * 57

    table = pq.read_table(tmp_path / "best.parquet")
    assert table.column_names == ["query_index", "query", "rank", "key_index", "key", "score"]
    assert table["score"].to_numpy().tobytes() == expected
    assert table["key_index"].to_pylist() == best.indices.ravel().tolist()
    assert table["query_index"].to_pylist() == np.repeat(np.arange(57), 5).tolist()
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 5] * 57
    assert table["query"].null_count == table["key"].null_count == 57 * 5


def test_names_survive_all_formats(tmp_path):
    names = ['say "a, b"', "two\nlines", "größe 大きさ", "[bold]", ""]
    write_features(tmp_path / "names.safetensors", Features(torch.eye(5), names))
    for ending in ("json", "csv", "parquet"):
        source, output = tmp_path / "names.safetensors", tmp_path / f"out.{ending}"
        assert run(source, source, "-k", 1, "--output", output).exit_code == 0
    entries = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [e["query"] for e in entries] == [e["matches"][0]["key"] for e in entries] == names
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        assert [(x["query"], x["key"]) for x in csv.DictReader(file)] == [(n, n) for n in names]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["query"].to_pylist() == table["key"].to_pylist() == names
    lines = run(tmp_path / "names.safetensors", tmp_path / "names.safetensors", "-k", 1).stdout
    assert "   1  1.0000  two lines\n" in lines
    assert "   1  1.0000  [bold]\n" in lines


def test_parquet_in_several_row_groups(random_files, tmp_path, monkeypatch):
    _, _, queries_file, keys_file = random_files
    monkeypatch.setattr("fastclip.cli._write._QUERIES_PER_GROUP", 10)
    run(queries_file, keys_file, "--output", tmp_path / "groups.parquet")
    monkeypatch.undo()
    run(queries_file, keys_file, "--output", tmp_path / "group.parquet")
    assert pq.ParquetFile(tmp_path / "groups.parquet").num_row_groups == 6
    assert pq.read_table(tmp_path / "groups.parquet") == pq.read_table(tmp_path / "group.parquet")


def test_table_shows_the_first_rows_and_counts_the_others():
    result = run("coco-images", "coco-captions", "-k", 2, "--rows", 3)
    assert result.exit_code == 0
    images, captions = load_sample("coco-images"), load_sample("coco-captions")
    best = fastclip.topk(images.normalized().features, captions.normalized().features, 2)
    expected = []
    for row in range(3):
        expected.append(images.names[row])
        for rank in range(2):
            caption = captions.names[best.indices[row, rank]].strip()
            expected.append(f"   {rank + 1}  {best.values[row, rank]:.4f}  {caption}")
    assert result.stdout.splitlines() == expected
    assert result.stderr == "497 more queries; --rows sets how many are shown\n"


def test_format_wins_over_the_ending_of_output(random_files, tmp_path):
    _, _, queries_file, keys_file = random_files
    run(queries_file, keys_file, "--format", "csv", "--output", tmp_path / "best.json")
    assert (tmp_path / "best.json").read_text().startswith("query_index,query,rank")
    run(queries_file, keys_file, "--output", tmp_path / "best.txt")
    assert (tmp_path / "best.txt").read_text().startswith("query 0\n   1  ")


def test_path_wins_over_sample_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "traffic light" in run("coco", "coco", "-k", 1).stdout
    (tmp_path / "coco").mkdir()
    np.save(tmp_path / "coco" / "0.npy", np.eye(3, dtype=np.float32))
    assert run("coco", "coco", "-k", 1, "--format", "csv").stdout.count("\n") == 4


def test_no_queries_give_an_empty_result(tmp_path):
    np.save(tmp_path / "none.npy", np.ones((0, 512), np.float32))
    result = run(tmp_path / "none.npy", "coco", "--format", "json")
    assert json.loads(result.stdout) == []
    run(tmp_path / "none.npy", "coco", "--output", tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    check_error(
        run(tmp_path / "none.npy", "coco", "-k", 81),
        "k: must be from 1 to the number of keys 80, got 81",
    )


def test_features_of_different_models_are_not_compared(tmp_path):
    check_error(
        run("coco-images", "lvis"),
        "features of different models cannot be compared "
        "(ViT-B-16-quickgelu vs ViT-B-32-quickgelu)",
    )
    for pretrained in ("openai", "laion2b_e16"):
        metadata = FeatureMetadata("ViT-B-32", pretrained)
        file = tmp_path / f"{pretrained}.safetensors"
        write_features(file, Features(torch.eye(3), metadata=metadata))
    files = tmp_path / "openai.safetensors", tmp_path / "laion2b_e16.safetensors"
    check_error(
        run(*files), "features of different models cannot be compared (openai vs laion2b_e16)"
    )
    assert run(files[0], files[0], "-k", 1).exit_code == 0


def test_errors_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("zero.npy", np.array([[1, 0], [0, 0]], np.float32))
    np.save("nan.npy", np.array([[1, 0]] * 40 + [[0, np.nan]], np.float32))
    np.save("eye.npy", np.eye(2, dtype=np.float32))
    np.savez("two.npz", a=np.eye(2, dtype=np.float32), b=np.eye(2, dtype=np.float32))
    samples = "coco-images, coco-captions, lvis, objects365, openimages, coco"
    check_error(run("a", "lvis"), f"a: no such file or folder, nor a sample ({samples})")
    check_error(run("a.npz:b", "lvis"), "a.npz: no such file or folder")
    check_error(
        run("lvis", "eye.npy", "-k", 1),
        "keys: rows must be as long as those of queries, got 2 and 512",
    )
    check_error(run("coco", "coco", "-k", 0), "k: must be from 1 to the number of keys 80, got 0")
    check_error(
        run("eye.npy", "zero.npy"),
        "zero.npy: features: row 1 is zero, allowed: rows that can have unit length",
    )
    monkeypatch.setattr(topk_module, "_PRODUCTS_PER_CALL", 1)  # row 40 is in the third part
    check_error(
        run("nan.npy", "eye.npy", "--metric", "dot", "-k", 1),
        "queries: row 40 holds NaN or infinity, all numbers must be finite",
    )
    assert run("two.npz", "eye.npy").stderr.startswith("error: two.npz: ")
    assert run("two.npz:b", "eye.npy", "-k", 1).exit_code == 0


def test_infinite_scores_are_written_except_as_json_which_has_none(tmp_path):
    np.save(tmp_path / "huge.npy", np.full((1, 2), 3e38, np.float32))
    arguments = (tmp_path / "huge.npy", tmp_path / "huge.npy", "-k", 1, "--metric", "dot")
    assert run(*arguments, "--format", "csv").stdout.endswith("\n0,,1,0,,inf\n")
    result = run(*arguments, "--output", tmp_path / "best.json")
    assert result.exit_code == 1
    assert "JSON" in result.stderr
    assert not (tmp_path / "best.json").exists()


def test_output_is_checked_before_the_work(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    check_error(
        run("absent", "lvis", "--output", tmp_path / "file" / "a.csv"),
        f"{tmp_path / 'file'}: is not a folder",
    )
    for path in (tmp_path / "folder", "/dev/null"):
        check_error(run("absent", "lvis", "--output", path), f"{path}: is not a regular file")


def test_missing_parents_of_the_output_are_made(random_files, tmp_path):
    _, _, queries, keys = random_files
    output = tmp_path / "new" / "deeper" / "best.csv"
    assert run(queries, keys, "-k", 1, "--output", output).exit_code == 0
    assert output.read_text().count("\n") > 1


def test_output_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert run("coco", "coco", "--output", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().count("\n") == 401


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco", "coco", "--format", "parquet"), "parquet needs --output"),
        (("coco",), "KEYS"),
        (("coco", "coco", "--metric", "euclidean"), "euclidean"),
        (("coco", "coco", "--rows", "0"), "--rows"),
    ],
)
def test_usage_errors_exit_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in re.sub(r"\x1b\[[0-9;]*m", "", result.stderr)  # coloured in some CI


def test_exit_codes_of_the_program():
    done = subprocess.run([*COMMAND, "coco", "absent"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: absent: ")
    assert done.stderr.count("\n") == 1
    done = subprocess.run([*COMMAND, "coco"], capture_output=True, text=True)
    assert done.returncode == 2


def test_closed_pipe_ends_quietly():
    arguments = [*COMMAND, "lvis", "lvis", "-k", "100", "--format", "csv"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"query_index,query,rank,key_index,key,score\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def hear_ctrl_c():
    """Undo that a test run in the background ignores SIGINT, which its children would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_when(ready, arguments, folder, stderr):
    """Run the command, send SIGINT once ``ready()``, and return its status."""
    before = sorted(file.name for file in folder.iterdir())
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], cwd=folder, stderr=stderr, preexec_fn=hear_ctrl_c
    )
    try:
        deadline = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, "ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert sorted(file.name for file in folder.iterdir()) == before
    return status


def test_interrupted_search_shows_its_progress_and_leaves_no_file(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "many.npy", rng.standard_normal((200_000, 64), np.float32))
    terminal, stderr = pty.openpty()
    os.set_blocking(terminal, False)
    shown = io.BytesIO()

    def bar_is_there():
        with contextlib.suppress(BlockingIOError):
            shown.write(os.read(terminal, 4096))
        return b"/200000" in shown.getvalue()

    arguments = ("many.npy", "many.npy", "--output", "best.csv")
    assert interrupt_when(bar_is_there, arguments, tmp_path, stderr) == 130
    bar_is_there()
    assert b"Traceback" not in shown.getvalue()
    os.close(terminal)
    os.close(stderr)


def test_interrupted_writing_leaves_no_file_and_keeps_the_old_one(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "many.npy", rng.standard_normal((500_000, 4), np.float32))
    np.save(tmp_path / "few.npy", rng.standard_normal((50, 4), np.float32))
    (tmp_path / "best.json").write_text("old")

    def writing():
        return any(tmp_path.glob(".best.json.*"))

    arguments = ("many.npy", "few.npy", "-k", 20, "--output", "best.json")
    assert interrupt_when(writing, arguments, tmp_path, subprocess.DEVNULL) == 130
    assert (tmp_path / "best.json").read_text() == "old"
