"""The schemas of the operators that torch sees, in one place.

Each operator's module adds its kernel, its fake kernel (shapes only, for ``torch.compile``) and,
where a value can be differentiated, its backward.
"""

import torch

library = torch.library.Library("fastclip", "DEF")

# `check_keys` is False where the keys are packed, and so known to be finite.
library.define(
    "similarity(Tensor queries, Tensor keys, ScalarType dtype, bool check_keys) -> Tensor"
)
library.define("similarity_out(Tensor queries, Tensor keys, Tensor(a!) out, bool check_keys) -> ()")
library.define("topk(Tensor queries, Tensor keys, int k, bool check_keys) -> (Tensor, Tensor)")
library.define(
    "scatter_rows(Tensor row, Tensor source, Tensor weight, Tensor features, int rows) -> Tensor"
)
library.define("logsumexp(Tensor queries, Tensor keys, Tensor scale, bool check_keys) -> Tensor")
library.define(
    "logsumexp_backward(Tensor grad, Tensor queries, Tensor keys, Tensor scale, Tensor result)"
    " -> (Tensor, Tensor, Tensor)"
)
# In float64: the gradient needs more digits of the result than float32 has.
library.define("gaussian_potential(Tensor x, Tensor? y, float t) -> Tensor")
library.define(
    "gaussian_potential_backward(Tensor grad, Tensor x, Tensor? y, float t, Tensor result)"
    " -> (Tensor, Tensor)"
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
