"""Embedding jobs: features of many images or texts, in shards, which outlive a kill."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .checks import check_at_least, check_strings
from .files import bytes_of
from .image_decoding import decode_image
from .image_sources import ImageSource, find_images
from .job import Contents, Job, Unreadable, open_job
from .job_folder import Progress
from .parallel import in_order, processors
from .templates import check_templates

if TYPE_CHECKING:
    from PIL import Image


class Encoder(Protocol):
    """What a job needs of a model; one of `fastclip.models.load` has it.

    ``encode_image`` and ``encode_text`` return finite rows of unit length, [B, dim].
    """

    @property
    def precision(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def module(self) -> torch.nn.Module: ...
    @property
    def preprocess(self) -> Callable[[Image.Image], torch.Tensor]: ...

    def encode_image(self, images: torch.Tensor, *, batch_size: int) -> torch.Tensor: ...
    def encode_text(
        self, texts: Sequence[str], *, batch_size: int, templates: Sequence[str] | None
    ) -> torch.Tensor: ...


@dataclass(frozen=True)
class EmbeddingSummary:
    """What a job did.

    Parameters
    ----------
    rows, dim : int
        Shape of the features in the output, those of earlier runs included.
    shards, kept : int
        Shards in the output, and how many of them an earlier run had finished.
    damaged : tuple of str
        Files of an earlier run that were damaged; their shards were computed again.
    unreadable : tuple of Unreadable
        Images without a row: index in the source, name and reason.
    """

    rows: int
    dim: int
    shards: int
    kept: int
    damaged: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()


def embed_images(
    source: str | os.PathLike[str] | ImageSource,
    model: Encoder,
    output: str | os.PathLike[str],
    *,
    model_name: str | None = None,
    pretrained: str | None = None,
    batch_size: int = 128,
    shard_size: int = 10_000,
    workers: int | None = None,
    progress: Progress | None = None,
) -> EmbeddingSummary:
    """Write the features of many images to a folder, in shards.

    `read_features` reads the folder, as does whatever reads the folders of clip-retrieval. Rows
    are in the order of the source and have unit length; the names beside them are those of
    `find_images`. An image that cannot be read gets no row and is listed in
    ``OUT/unreadable.jsonl``, with its index, name and reason.

    Called again, an interrupted job resumes: finished shards stay, damaged ones are computed
    again. The files are then the same to the byte as those of an uninterrupted job, if
    ``batch_size`` and the device are the same, and the model is deterministic.

    The names and sizes of the images must be those that the job began with. Images of finished
    shards whose files have another time than they had are read again and compared, byte by byte;
    what a data set of torchvision holds is not compared.

    Memory: a shard of features, ``4 shard_size d`` bytes, ``3 batch_size`` preprocessed images, and
    a whole picture per worker.

    Parameters
    ----------
    source : path-like or ImageSource
        See `find_images`.
    model : Encoder
        A model of `fastclip.models.load`.
    output : path-like
        A new folder, an empty one, or that of the same job; missing parents are made.
    model_name, pretrained : str, optional
        open_clip's names of the model and of its weights, kept with the features
        (`FeatureMetadata`).
    batch_size : int
        Images of one forward pass, >= 1.
    shard_size : int
        Images of one shard, >= 1: the most that an interruption can cost.
    workers : int, optional
        Threads that read and decode while the model computes, >= 1; default: one per available
        processor, 8 at most.
    progress : callable, optional
        Called with the number of images done, those of earlier runs included, and of all images.

    Returns
    -------
    EmbeddingSummary
        What is in the output, and what was skipped.

    Raises
    ------
    ValueError
        An argument out of range; a source without images; an output that holds something else, or
        a job with another model, source or option (the message says what changed); images that
        are others than those of a finished shard; a model that gives NaN or infinity.
    OSError
        The output cannot be written; a file cannot be read that was there when the source was
        listed, or has changed since. What is finished stays.

    Examples
    --------
    >>> import fastclip, tempfile
    >>> from PIL import Image
    >>> from fastclip.data import embed_images, read_features
    >>> model = fastclip.models.load("ViT-S-32-alt", "random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (300, 200), "red").save(f"{folder}/red.png")
    ...     summary = embed_images(folder, model, f"{folder}/out")
    ...     read_features(f"{folder}/out").names
    ('red.png',)
    """
    check_at_least(1, batch_size=batch_size, shard_size=shard_size, workers=workers)
    threads = processors() if workers is None else workers
    images = source if isinstance(source, ImageSource) else find_images(source)
    inputs = {
        **_identity(model, model_name, pretrained),
        "preprocess": _described(model.preprocess),
        "names_and_sizes_sha256": images.digest(),
    }
    with open_job(Path(output), "img_emb", len(images), shard_size, inputs) as job:
        _check_unchanged(images, job, threads)
        kept, report = job.begin(progress)
        wanted = (index for number in job.pending for index in job.ranges[number])
        with _loaded(images, model.preprocess, wanted, threads, 2 * batch_size) as loaded:
            for number in job.pending:
                shard = itertools.islice(loaded, len(job.ranges[number]))
                stamps = _stamps(images, job.ranges[number])
                features, good, bad, read = _encode_images(model, shard, batch_size, report)
                columns: dict[str, list[str | None]] = {"image_path": [row.name for row in good]}
                if images.has_captions:
                    columns["caption"] = [row.caption for row in good]
                job.write(number, features, columns, bad, Contents(stamps, read))
        return _end(job, model.dim, kept)


def embed_texts(
    texts: Sequence[str],
    model: Encoder,
    output: str | os.PathLike[str],
    *,
    model_name: str | None = None,
    pretrained: str | None = None,
    templates: Sequence[str] | None = None,
    batch_size: int = 256,
    shard_size: int = 10_000,
    progress: Progress | None = None,
) -> EmbeddingSummary:
    """Write the features of many texts to a folder, in shards.

    As `embed_images`; the names of the rows are the texts, duplicates included. With templates,
    a row is the mean of the text's prompts, each of unit length, brought to unit length again.

    Parameters
    ----------
    texts : sequence of str
        At least one; `read_texts` reads them from a file.
    model, output, model_name, pretrained, shard_size, progress
        As for `embed_images`.
    batch_size : int
        Texts of one forward pass, or prompts where there are templates.
    templates : sequence of str, optional
        Prompts with ``{}`` for the text, such as ``"a photo of a {}"``; default: the text itself.

    Returns
    -------
    EmbeddingSummary
        What is in the output.

    Raises
    ------
    ValueError, OSError
        As `embed_images`; a template without one ``{}``; a blank text, or one that UTF-8 cannot
        hold.
    TypeError
        A text or template that is not a str.

    Examples
    --------
    >>> import fastclip, tempfile
    >>> from fastclip.data import embed_texts, read_features
    >>> model = fastclip.models.load("ViT-S-32-alt", "random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = embed_texts(["cat", "dog"], model, f"{folder}/out", templates=["a {}"])
    ...     read_features(f"{folder}/out")
    Features(2 x 256, named)
    """
    check_at_least(1, batch_size=batch_size, shard_size=shard_size)
    if templates is not None:
        check_templates(templates)
    inputs = {
        **_identity(model, model_name, pretrained),
        "templates": None if templates is None else list(templates),
        "texts_sha256": _digest(texts),
    }
    with open_job(Path(output), "text_emb", len(texts), shard_size, inputs) as job:
        kept, report = job.begin(progress)
        step = max(
            1, batch_size // (1 if templates is None else len(templates))
        )  # texts whose prompts make a batch
        for number in job.pending:
            parts = []
            start, stop = job.ranges[number].start, job.ranges[number].stop
            for first in range(start, stop, step):
                batch = texts[first : min(first + step, stop)]
                rows = model.encode_text(batch, batch_size=batch_size, templates=templates)
                parts.append(_checked(rows, batch, model))
                report(len(batch))
            job.write(number, np.concatenate(parts), {"caption": texts[start:stop]})
        return _end(job, model.dim, kept)


def _digest(texts: Sequence[str]) -> str:
    check_strings("texts", texts)
    if not texts:
        raise ValueError("texts is empty, allowed: at least one")
    digest = hashlib.sha256()
    for i, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"texts[{i}] is blank, allowed: at least one letter")
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"texts[{i}] is {text!r}, allowed: what UTF-8 can hold") from error
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _identity(model: Encoder, name: str | None, pretrained: str | None) -> dict[str, object]:
    """What tells one model from another; the hash notices weights that changed under a name."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(bytes_of(tensor.detach().cpu()).numpy().data)
    return {
        "model": name,
        "pretrained": pretrained,
        "precision": model.precision,
        "weights_sha256": digest.hexdigest(),
        "dim": model.dim,
    }


def _described(preprocess: object) -> str:
    """The transform in words, without the addresses that differ from process to process."""
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(preprocess)).split())


def _end(job: Job, dim: int, kept: int) -> EmbeddingSummary:
    job.list_unreadable()
    damaged = tuple(job.name(number) for number in job.damaged)
    return EmbeddingSummary(job.rows, dim, len(job.ranges), kept, damaged, tuple(job.unreadable))


def _check_unchanged(images: ImageSource, job: Job, workers: int) -> None:
    """Compare the images of finished shards with what they were, where their files are others."""

    def digest(index: int) -> bytes:
        try:
            images.names[index].encode()  # as where they are loaded
            return _digest_of(images.read(index), _caption(images, index))
        except (OSError, ValueError):
            return _digest_of(None, None)

    for number in sorted(job.records):
        before = job.contents(number)
        if before is None or before.stamps == _stamps(images, job.ranges[number]):
            continue
        indices = job.ranges[number]
        with closing(in_order(digest, indices, workers)) as digests:
            if _joined(digests) != before.sha256:
                raise ValueError(
                    f"{job.output}: has features of other images: of {images.names[indices[0]]!r} "
                    f"to {images.names[indices[-1]]!r} in the source, one or more have changed "
                    "since. Give the images as they were, or another output folder"
                )


def _stamps(images: ImageSource, indices: Iterable[int]) -> str | None:
    stamps = [images.stamp(index) for index in indices]
    if not any(stamps):
        return None
    return hashlib.sha256("\n".join(map(str, stamps)).encode()).hexdigest()


def _digest_of(data: bytes | None, caption: str | None) -> bytes:
    """Of an image with its caption; of none where it cannot be read."""
    if data is None:
        return bytes(32)
    text = b"" if caption is None else b"\1" + caption.encode("utf-8", "surrogatepass")
    return hashlib.sha256(hashlib.sha256(data).digest() + text).digest()


def _joined(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _caption(images: ImageSource, index: int) -> str | None:
    return images.caption(index) if images.has_captions else None


@dataclass(frozen=True)
class _Row:
    name: str
    caption: str | None


_Loaded: TypeAlias = tuple[bytes, tuple[_Row, torch.Tensor] | Unreadable]
"""A digest of what was read, and what came of it."""


@contextmanager
def _loaded(
    images: ImageSource,
    preprocess: Callable[[Image.Image], torch.Tensor],
    indices: Iterable[int],
    workers: int,
    ahead: int,
) -> Iterator[Iterator[_Loaded]]:
    """Images in the order of ``indices``, loaded by threads; at most ``ahead`` wait to be taken."""

    def load(index: int) -> _Loaded:
        name = images.names[index]
        digest = _digest_of(None, None)
        try:
            name.encode()  # a file name can hold bytes that are no text
            data = images.read(index)
            caption = _caption(images, index)
            digest = _digest_of(data, caption)
            picture = decode_image(data)
        except UnicodeEncodeError:
            return digest, Unreadable(index, name, "the name is not UTF-8")
        except OSError as error:
            # A disk that fails or goes away must end the job, not every image from here on.
            if images.sizes[index] >= 0 and not isinstance(error, PermissionError):
                raise
            return digest, Unreadable(index, name, error.strerror or str(error))
        except ValueError as error:
            return digest, Unreadable(index, name, str(error))
        return digest, (_Row(name, caption), preprocess(picture))

    with warnings.catch_warnings(), closing(in_order(load, indices, workers, ahead)) as loaded:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of them is an error here
        yield loaded


def _encode_images(
    model: Encoder,
    loaded: Iterator[_Loaded],
    batch_size: int,
    report: Callable[[int], None],
) -> tuple[npt.NDArray[np.float32], list[_Row], list[Unreadable], str]:
    """Features, their rows, what was skipped, and a hash of all that was read."""
    features = [np.empty((0, model.dim), np.float32)]
    good: list[_Row] = []
    bad: list[Unreadable] = []
    batch: list[torch.Tensor] = []
    digests: list[bytes] = []

    def encode() -> None:
        if batch:
            rows = model.encode_image(torch.stack(batch), batch_size=batch_size)
            features.append(_checked(rows, [row.name for row in good[-len(batch) :]], model))
            report(len(batch))
            batch.clear()

    for digest, entry in loaded:
        digests.append(digest)
        if isinstance(entry, Unreadable):
            bad.append(entry)
            report(1)
            continue
        row, pixels = entry
        good.append(row)
        batch.append(pixels)
        if len(batch) == batch_size:
            encode()
    encode()
    return np.concatenate(features), good, bad, _joined(digests)


def _checked(rows: torch.Tensor, names: Sequence[Any], model: Encoder) -> npt.NDArray[np.float32]:
    expected = (len(names), model.dim)
    if tuple(rows.shape) != expected:
        raise ValueError(f"model gives shape {list(rows.shape)}, allowed: {list(expected)}")
    bad = torch.nonzero(~torch.isfinite(rows).all(1))
    if len(bad):
        raise ValueError(
            f"model gives NaN or infinity for {names[int(bad[0, 0])]!r}, "
            f"allowed: finite features (precision is {model.precision})"
        )
    return rows.detach().to("cpu", torch.float32).numpy()
