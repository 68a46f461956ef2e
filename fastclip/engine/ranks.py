"""Tensors between the ranks of a process group, and errors that reach all of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from fastclip.data.files import bytes_of

Tensors = tuple[torch.Tensor, ...]

DTYPES = (
    torch.uint8,
    torch.int64,
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
)
_FAILED = -1  # in the place of a dtype: an error, whose text follows


class RankError(RuntimeError):
    """Another rank has failed, has ended or does not answer: the call has no result anywhere."""


class Ranks:
    """The ranks of a process group.

    Parameters
    ----------
    group : ProcessGroup, optional
        Default: all ranks.

    Raises
    ------
    RuntimeError
        torch.distributed has not been started.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "torch.distributed has no process group: start the program with torchrun and call "
                'torch.distributed.init_process_group("gloo"), or "nccl" for GPUs'
            )
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: this process is not one of its ranks")
        nccl = "nccl" in str(dist.get_backend_config(group))
        self._device = torch.device("cuda", torch.cuda.current_device()) if nccl else "cpu"

    def exchange(self, count: int, make: Callable[[], Sequence[Tensors]]) -> list[Tensors]:
        """Send to each rank what is for it, and return what each has sent to this one.

        Parameters
        ----------
        count : int
            How many tensors each rank sends to each: the same on all ranks.
        make : callable
            Returns ``count`` tensors for each rank, 1-D or 2-D. Where it raises on some rank, that
            rank raises the same, and all others a `RankError` with its text.

        Returns
        -------
        list of tuples of tensors
            From rank 0, rank 1, ...; on the device of the tensors that this rank has sent.
        """
        error: Exception | None = None
        try:
            outgoing = make()
        except Exception as caught:
            error = caught
            text = f"{type(caught).__name__}: {caught}".encode()
            outgoing = [(torch.tensor(list(text), dtype=torch.uint8),)] * self.size
        headers = torch.zeros(self.size, count, 3, dtype=torch.int64)
        for header, tensors in zip(headers, outgoing, strict=True):
            for place, tensor in zip(header, tensors, strict=False):
                place[:] = torch.tensor(_header(tensor))
        sent = [sum(map(_bytes, header)) for header in headers.tolist()]
        if error is not None:
            headers[:, 0, 0] = _FAILED
        received = torch.empty_like(headers)
        self._all_to_all(received, headers)
        sizes = [[_bytes(place) for place in header] for header in received.tolist()]
        flat = [
            bytes_of(tensor.detach()).to(self._device) for tensors in outgoing for tensor in tensors
        ]
        incoming = flat[0].new_empty(sum(map(sum, sizes)))
        self._all_to_all(incoming, torch.cat(flat), [sum(size) for size in sizes], sent)
        if error is not None:
            raise error
        device = outgoing[0][0].device
        results = []
        for rank, (header, size, message) in enumerate(
            zip(received.tolist(), sizes, incoming.split([sum(s) for s in sizes]), strict=True)
        ):
            if header[0][0] == _FAILED:
                raise RankError(f"rank {rank} failed: {bytes(message.tolist()).decode()}")
            parts = zip(header, message.split(size), strict=True)
            results.append(tuple(_tensor(place, part).to(device) for place, part in parts))
        return results

    def share(self, *tensors: torch.Tensor) -> list[Tensors]:
        """Return the tensors of all ranks."""
        return self.exchange(len(tensors), lambda: [tensors] * self.size)

    def agree(self, describe: Callable[[], dict[str, Any]], own: str) -> list[Any]:
        """Return what each rank says of a call, as JSON: all the same, but for the entry ``own``.

        Where ``describe`` raises, all ranks do, before work starts.
        """

        def message() -> list[Tensors]:
            text = json.dumps(describe()).encode()
            return [(torch.tensor(list(text), dtype=torch.uint8),)] * self.size

        found = [json.loads(bytes(text.tolist())) for (text,) in self.exchange(1, message)]
        for rank, call in enumerate(found):
            for name, value in found[0].items():
                if name != own and call.get(name) != value:
                    raise ValueError(
                        f"{name}: must be the same on all ranks, got {value!r} on rank 0 and "
                        f"{call.get(name)!r} on rank {rank}"
                    )
        return [call.get(own) for call in found]

    def add_up(self, rows: torch.Tensor) -> None:
        """Replace ``rows``, of one shape and dtype on all ranks, by their sum over the ranks.

        All ranks get the same bits.
        """
        there = rows.to(self._device)
        with self._answers():
            dist.all_reduce(there, group=self.group)
        if there is not rows:
            rows.copy_(there)

    def _all_to_all(
        self,
        output: torch.Tensor,
        given: torch.Tensor,
        output_sizes: list[int] | None = None,
        sizes: list[int] | None = None,
    ) -> None:
        """Send parts of ``given`` to the ranks, of some sizes or all of one."""
        there = output.to(self._device)
        with self._answers():
            dist.all_to_all_single(
                there, given.to(self._device), output_sizes, sizes, group=self.group
            )
        if there is not output:
            output.copy_(there)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn torch's error where a rank does not take part into a `RankError`."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).split(". This is", 1)[0]  # gloo's guess at what may be wrong
            raise RankError(
                f"rank {self.rank} of {self.size} had no answer from another rank, which has ended "
                f"or is stuck: {reason}"
            ) from error


def _header(tensor: torch.Tensor) -> tuple[int, int, int]:
    """Dtype, rows and columns; no columns for 1-D."""
    columns = tensor.shape[1] if tensor.ndim == 2 else -1
    return DTYPES.index(tensor.dtype), tensor.shape[0], columns


def _bytes(header: list[int]) -> int:
    dtype, rows, columns = header
    return rows * (1 if columns < 0 else columns) * DTYPES[max(dtype, 0)].itemsize


def _tensor(header: list[int], message: torch.Tensor) -> torch.Tensor:
    dtype, rows, columns = header
    shape = (rows,) if columns < 0 else (rows, columns)
    # A copy: the bytes of a message need not lie where numbers may.
    return message.clone().view(DTYPES[dtype]).view(shape)
