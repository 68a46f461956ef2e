"""Keys prepared once for many calls."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastclip.ops._arguments import Array, as_rows, check_finite, with_adjacent_elements


@dataclass(frozen=True, eq=False)
class PackedKeys:
    """Keys that were checked and laid out for the kernels. Made by :func:`pack`.

    Attributes
    ----------
    rows : Tensor [V, d] float32
        The keys, all finite, on aligned memory of their own. Not to be written to.
    """

    rows: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(V, d)."""
        return self.rows.shape[0], self.rows.shape[1]

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __repr__(self) -> str:
        return f"PackedKeys({self.shape[0]} x {self.shape[1]})"


def pack(keys: Array) -> PackedKeys:
    """Prepare keys for many calls: check them and convert them to float32 once.

    The answers of every function are the same to the bit for packed keys and for the keys
    themselves. Packed keys are a constant: no gradient flows into them.

    Parameters
    ----------
    keys : tensor or array [V, d], float32, float16 or bfloat16
        Any row stride. Copied: later changes of ``keys`` do not reach the packed keys.

    Returns
    -------
    PackedKeys
        Holds 4 V d bytes.

    Raises
    ------
    TypeError
        ``keys`` is no array or has another dtype.
    ValueError
        ``keys`` is not 2-D, is not on the CPU, or holds NaN or infinity.

    Examples
    --------
    >>> import fastclip
    >>> keys = fastclip.pack(fastclip.data.load_sample("coco-captions").features)
    >>> keys
    PackedKeys(500 x 512)
    >>> images = fastclip.data.load_sample("coco-images").features
    >>> fastclip.topk(images[:2], keys, k=1).indices
    tensor([[ 0],
            [53]])
    """
    rows = with_adjacent_elements(as_rows("keys", keys).detach())
    check_finite("keys", rows)
    return PackedKeys(rows.to(torch.float32, copy=True, memory_format=torch.contiguous_format))
