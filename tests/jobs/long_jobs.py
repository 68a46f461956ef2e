"""The five long jobs, small: what each reads, and one run of it; for killed.py."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import small
import torch
from PIL import Image
from tiny_encoder import TinyEncoder

import fastclip
from fastclip.data import HardPositiveItem, embed_images, find_captioned_images, find_item_images
from fastclip.generation import ChatEndpoint, generate_by_endpoint
from fastclip.training import ItemData, TrainingSettings
from fastclip.ttd import DistillationSettings, TaggedImages, distill

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange", "pink", "gray")


class Job(ABC):
    """Inputs in a folder of its own, and what a process does with them."""

    name: str

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Write the inputs."""

    @abstractmethod
    def run(self, folder: Path, output: Path) -> None:
        """Do the job, from the inputs in ``folder`` to results in ``output``."""

    def ends(self, output: Path) -> bool:
        """Whether the job is finished, by the file that it writes last."""
        return (output / self.last).exists()

    last: str

    def content(self, output: Path) -> dict[str, object]:
        """What must be equal, file by file; no file may be there besides."""
        files = (path for path in sorted(output.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }


class Embedding(Job):
    name, last = "embedding", "unreadable.jsonl"

    def prepare(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(40):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
        (folder / "17.png").write_bytes(b"no image")
        self.model = TinyEncoder()

    def run(self, folder: Path, output: Path) -> None:
        embed_images(folder, self.model, output, batch_size=4, shard_size=5, workers=2)


class Sweep(Job):
    name, last = "sweep", "shards/shard_00039.json"

    def prepare(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        for name, count in (("queries", 1600), ("keys", 1000)):
            np.save(folder / f"{name}.npy", rng.standard_normal((count, 16), np.float32))

    def run(self, folder: Path, output: Path) -> None:
        source = folder / "queries.npy", folder / "keys.npy"
        fastclip.sweep.run("topk", *source, output, shard_size=40, k=3)


class Train(Job):
    name, last = "train", "model.safetensors"
    shared: ClassVar = dict(epochs=2, batch_size=2, lr=1e-3, warmup=2, checkpoint_steps=3)

    def prepare(self, folder: Path) -> None:
        (folder / "images").mkdir()
        for i, colour in enumerate(COLOURS):
            Image.new("RGB", (32, 32), colour).save(folder / "images" / f"{i}.png")
            text = folder / "images" / f"{i}.txt"
            text.write_text(f"a {colour} house with a door")
        small.save(folder / "model", {**small.VIT, "layers": 1})

    def run(self, folder: Path, output: Path) -> None:
        items = [
            HardPositiveItem(str(i), f"a {colour} wall", (f"the {colour} wall",), ("a wall",))
            for i, colour in enumerate(COLOURS)
        ]
        data = ItemData(items, find_item_images(items, folder / "images"))
        settings = TrainingSettings(**self.shared)
        fastclip.train(str(folder / "model"), None, data, output, settings,
                       validate=lambda _: {"figure": 0.5}, progress=False)  # fmt: skip

    def content(self, output: Path) -> dict[str, object]:
        """A checkpoint has other bytes where two equal strings are one object, as after loading."""
        state = torch.load(output / "checkpoint.pt", weights_only=True)
        return {**super().content(output), "checkpoint.pt": _described(state)}


class Distill(Train):
    name = "distill"

    def run(self, folder: Path, output: Path) -> None:
        found = find_captioned_images(folder / "images")
        data = TaggedImages(found, [["house", "door"]] * len(COLOURS))
        settings = DistillationSettings(**self.shared)
        distill(str(folder / "model"), None, data, output, settings, progress=False)


class Generation(Job):
    """Asks a server of another process, which counts the requests in a file."""

    name, last = "generation", "train.jsonl"
    workers = 4
    captions = tuple(
        f"a {colour} {thing} and a small {other}"
        for colour in COLOURS
        for thing, other in (("cat", "dog"), ("car", "tree"))
    )

    def prepare(self, folder: Path) -> None:
        self.asked = folder / "asked"
        self.asked.write_bytes(b"")
        self.server = Server(("127.0.0.1", 0), Answering)
        self.server.asked = self.asked  # type: ignore[attr-defined]

    def run(self, folder: Path, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        answers = output / "train.jsonl.answers"
        chat = ChatEndpoint(url, "m", answers, requests_per_minute=1e6)
        found = generate_by_endpoint(self.captions, chat, workers=self.workers)
        found.write(output / "train.jsonl")

    def content(self, output: Path) -> dict[str, object]:
        """Answers are kept as they come, in any order, and lines that were cut off stay."""
        answers = []
        for line in (output / "train.jsonl.answers").read_text().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                answers.append((entry["key"], entry["answer"]))
        return {**super().content(output), "train.jsonl.answers": sorted(answers)}


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A process that is killed leaves its connections."""


class Answering(BaseHTTPRequestHandler):
    """Another wording of the caption, another caption, or a verdict; always the same."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        system, user = (message["content"] for message in request["messages"])
        with open(self.server.asked, "ab") as file:  # type: ignore[attr-defined]
            file.write(b".")
        number = int(hashlib.sha256(f"{system}{user}".encode()).hexdigest()[:4], 16)
        (key,) = request["response_format"]["json_schema"]["schema"]["properties"]
        value = number % 2 == 0 if key == "same" else f"{user} on day {number}"
        content = json.dumps({key: value})
        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _described(state: Any) -> Any:
    """What can be compared and printed of a state with tensors in it."""
    if isinstance(state, torch.Tensor):
        return str(state.dtype), state.shape, state.numpy().tobytes()
    if isinstance(state, dict):
        return {key: _described(value) for key, value in state.items()}
    return [_described(x) for x in state] if isinstance(state, (list, tuple)) else state


JOBS: dict[str, type[Job]] = {
    kind.name: kind for kind in (Embedding, Sweep, Train, Distill, Generation)
}


def warm(job: Job, folder: Path) -> None:
    """Import what each child would have to import, most of its time; starts no thread."""
    import concurrent.futures.thread  # noqa: F401

    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq
    import rich.progress  # noqa: F401

    torch.set_num_threads(1)
    Image.init()
    fsspec.filesystem("file")
    pq.write_table(pa.table({"x": np.zeros(1), "y": ["a"]}), folder / "x.parquet")
    (folder / "x.parquet").unlink()
