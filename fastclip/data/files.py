"""Files that appear whole or not at all."""

import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

# safetensors' names of the dtypes that fastclip's files hold.
_SAFETENSORS_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


@contextmanager
def folder_or_temporary(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield a folder to keep things in, or one that is gone afterwards."""
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="fastclip-") as temporary:
        yield Path(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` on success.

    After a failure, Ctrl-C included, ``path`` is as it was and nothing else is left. What takes its
    place is on the disk, not only in the system's memory: a power failure cannot leave half of it.
    """
    # Not tempfile: its files are readable by their owner only.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say of itself what was written
        raise
    finally:
        part.unlink(missing_ok=True)


class Sink:
    """A binary file to write to, of whose errors none is lost.

    torch and NumPy write into files of Python by themselves, and then hide why that failed: on a
    full disk they speak of positions or counts. Into this they write what they are asked to write.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def sink(path: Path) -> Iterator[Sink]:
    """Yield what `torch.save` and `numpy.save` can write to; it appears whole or not at all."""
    with replacing(path) as part, open(part, "xb") as file:
        made = Sink(file)
        try:
            yield made
        except Exception:
            if made.error is not None:
                raise made.error from None
            raise


def remove_unfinished(folder: Path) -> None:
    """Remove what `replacing` left in a folder when a process was killed.

    Only whoever holds the lock of the folder may do so.
    """
    for part in folder.glob(f".*.{'[0-9a-f]' * 8}.tmp"):
        part.unlink()


def dump_json(path: Path, content: object, **options: Any) -> None:
    """Write JSON and the end of a line, all of it or nothing; ``options`` of ``json.dumps``."""
    text = json.dumps(content, **options) + "\n"
    with replacing(path) as part:
        part.write_text(text, "utf-8")


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, all of it or nothing; equal contents give equal bytes.

    The tensors lie in the order given, from a multiple of 64 bytes on and with nothing between
    them: the caller orders them so that each starts at a multiple of its item size.
    """
    # safetensors.torch.save_file orders the metadata differently in every process.
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with replacing(path) as part, open(part, "xb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            file.write(bytes_of(tensor.detach().cpu()).numpy().data)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements' bytes in order, a view where they lie so.

    The stride of a dimension of one element may be any number, which torch does not view as bytes.
    """
    return tensor.contiguous().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
