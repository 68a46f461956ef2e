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
