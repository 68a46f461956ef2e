"""The schemas of the operators that torch sees, in one place.

Each operator's module adds its kernel (which calls what the extension has for the device), its fake
kernel (shapes only, for ``torch.compile``) and, where a value can be differentiated, its backward.
"""

from collections.abc import Callable
from typing import Any

import torch

from fastclip.engine.devices import BUILT, EMULATED

library = torch.library.Library("fastclip", "DEF")

KERNELS: dict[str, Callable[..., Any]] = {}
"""What the operators call for tensors that have memory."""

# `check_keys` is False where the keys are packed, and so known to be finite.
library.define(
    "similarity(Tensor queries, Tensor keys, ScalarType dtype, bool check_keys) -> Tensor"
)
library.define("similarity_out(Tensor queries, Tensor keys, Tensor(a!) out, bool check_keys) -> ()")
# `screen` is empty, or codes, bounds and center of packed keys; the third result counts survivors.
library.define(
    "topk(Tensor queries, Tensor keys, Tensor[] screen, int k) -> (Tensor, Tensor, Tensor)"
)
library.define(
    "scatter_rows(Tensor row, Tensor source, Tensor weight, Tensor features, int rows) -> Tensor"
)
# Counts of keys ahead of each threshold, [N], or of the thresholds that each key is ahead of, [V].
library.define(
    "count_ahead(Tensor queries, Tensor keys, Tensor[] screen, Tensor scores, Tensor ties,"
    " bool per_key) -> (Tensor, Tensor)"
)
# Indices of one key for each query, [N], or of p, [N, p].
library.define("pair_scores(Tensor queries, Tensor keys, Tensor indices) -> Tensor")
library.define(
    "group_max(Tensor queries, Tensor keys, Tensor[] screen, Tensor groups, int num_groups)"
    " -> (Tensor, Tensor, Tensor)"
)
library.define(
    "group_beats(Tensor queries, Tensor keys, Tensor[] screen, Tensor scores, Tensor ties,"
    " Tensor groups, int num_groups) -> (Tensor, Tensor)"
)
# Row starts, columns and scores of a CSR matrix.
library.define(
    "pairs_above(Tensor queries, Tensor keys, Tensor[] screen, float threshold, bool later_only)"
    " -> (Tensor, Tensor, Tensor)"
)
library.define(
    "pixel_scores(Tensor pixels, Tensor tags, bool check_tags) -> (Tensor values, Tensor locations)"
)
library.define(
    "pixel_labels(Tensor pixels, Tensor tags, SymInt[2] size, int k, float? background, "
    "bool check_tags) -> (Tensor values, Tensor indices, Tensor survivors)"
)
library.define(
    "refine_masks(Tensor images, Tensor masks, int iterations, int[] dilations) -> Tensor"
)
library.define("logsumexp(Tensor queries, Tensor keys, Tensor scale, bool check_keys) -> Tensor")
library.define(
    "logsumexp_backward(Tensor grad, Tensor queries, Tensor keys, Tensor scale, Tensor result)"
    " -> (Tensor, Tensor, Tensor)"
)
# In float64, for those who add up several.
library.define("gaussian_potential(Tensor x, Tensor? y, float t) -> Tensor")
library.define(
    "gaussian_potential_backward(Tensor grad, Tensor x, Tensor? y, float t) -> (Tensor, Tensor)"
)
library.define(
    "group_mean_keys(Tensor keys, Tensor groups, int num_groups, bool check_keys) -> Tensor"
)
library.define(
    "cache_logits(Tensor queries, Tensor keys, Tensor values, float beta, bool check_keys)"
    " -> Tensor"
)
library.define(
    "cache_logits_backward(Tensor grad, Tensor queries, Tensor keys, Tensor values, float beta)"
    " -> (Tensor, Tensor, Tensor)"
)


def implement(name: str, kernel: Callable[..., Any]) -> None:
    """Register the kernel of an operator for tensors on all devices of this build."""

    def in_full_precision(*arguments: Any) -> Any:
        with torch._C._DisableAutocast():  # which would lower the products that a kernel asks for
            return kernel(*arguments)

    KERNELS[name] = in_full_precision
    library.impl(name, in_full_precision, "CPU")
    if BUILT and not EMULATED:
        library.impl(name, in_full_precision, "CUDA")
