import torch

class Matrix:
    def __init__(self, address: int, dtype: int, rows: int, cols: int, row_stride: int) -> None: ...
    @property
    def rows(self) -> int: ...

class Tensors:
    def __init__(self, tensor: type, storage: type) -> None: ...
    def topk(
        self,
        queries: object,
        keys: object,
        packed: bool,
        k: int,
        pack_from_queries: int,
        pack_from_keys: int,
        threads: int,
    ) -> tuple[torch.Tensor, torch.Tensor, int] | None: ...
    def are_plain(self, rows: object) -> bool: ...
    def plain(self, queries: object, keys: object) -> tuple[Matrix, Matrix] | None: ...

class ScreenKeys:
    def __init__(self, codes: int, bounds: int, center: int, keys: int, cols: int) -> None: ...

def dlpack_is_writable(capsule: object) -> bool: ...
def find_nonfinite(rows: Matrix, threads: int) -> int: ...
def similarity(queries: Matrix, keys: Matrix, out: Matrix, threads: int) -> None: ...
def topk(
    queries: Matrix,
    keys: Matrix,
    screen: ScreenKeys | None,
    k: int,
    values: int,
    indices: int,
    threads: int,
) -> int: ...
def count_ahead(
    queries: Matrix,
    keys: Matrix,
    screen: ScreenKeys | None,
    scores: int,
    ties: int,
    per_query: int,
    per_key: int,
    threads: int,
) -> int: ...
def pair_scores(
    queries: Matrix, keys: Matrix, indices: int, per_query: int, out: int, threads: int
) -> None: ...

class Pairs:
    def __len__(self) -> int: ...
    def write(self, rows: int, crow: int, col: int, values: int) -> None: ...

def pairs_above(
    queries: Matrix,
    keys: Matrix,
    screen: ScreenKeys | None,
    threshold: float,
    later_only: bool,
    threads: int,
) -> Pairs: ...
def group_beats(
    queries: Matrix,
    keys: Matrix,
    screen: ScreenKeys | None,
    scores: int,
    ties: int,
    groups: int,
    words: int,
    bits: int,
    threads: int,
) -> int: ...
def group_max(
    queries: Matrix,
    keys: Matrix,
    screen: ScreenKeys | None,
    groups: int,
    num_groups: int,
    values: int,
    indices: int,
    threads: int,
) -> int: ...
def code_width(cols: int) -> int: ...
def pack(keys: Matrix, codes: int, bounds: int, center: int, threads: int) -> int: ...
def worth_codes(queries: int, keys: int, k: int) -> bool: ...
def always_screen(always: bool) -> None: ...
def has_screen() -> bool: ...
def pixel_scores(
    pixels: Matrix, images: int, tags: Matrix, values: int, locations: int, threads: int
) -> None: ...
def pixel_labels(
    pixels: Matrix,
    images: int,
    tags: Matrix,
    shape: tuple[int, int, int, int, int],  # h, w, H, W, k
    background: float,
    values: int,
    indices: int,
    survivors: int,
    threads: int,
) -> None: ...
def refine_masks(
    images: int,
    masks: int,
    shape: tuple[int, int, int, int, int],  # B, channels, masks, H, W
    iterations: int,
    dilations: list[int],
    out: int,
    threads: int,
) -> None: ...
def logsumexp(
    queries: Matrix, keys: Matrix, check_keys: bool, scale: float, out: int, threads: int
) -> int: ...
def value_blocks(num_keys: int, cols: int) -> tuple[int, int, int]:
    """Keys of a block and of a part, and how many parts there are."""

def logsumexp_add(
    queries: Matrix,
    keys: Matrix,
    scale: float,
    begin: int,
    num_keys: int,
    max: int,
    sum: int,
    threads: int,
) -> None: ...
def logsumexp_merge(
    max: int, sum: int, other_max: int, other_sum: int, count: int, scale: float
) -> None: ...
def group_sums(keys: Matrix, groups: int, sums: int, threads: int) -> None: ...
def round_means(sums: int, counts: int, rows: int, cols: int, out: int, threads: int) -> None: ...
def to_float(x: object) -> float: ...
def park_other_threads() -> None: ...
def logsumexp_finish(max: int, sum: int, parts: int, rows: int, scale: float, out: int) -> None: ...
def gaussian_potential(x: Matrix, y: Matrix, symmetric: bool, t: float, threads: int) -> float: ...
def cache_logits(
    queries: Matrix, keys: Matrix, values: Matrix, beta: float, out: int, totals: int, threads: int
) -> None: ...
def cache_grid(
    shape: tuple[int, int, int],  # images, support images, classes
    affinities: int,
    zero_shot: int,
    labels: int,
    support_labels: int,
    betas: tuple[float, float, int],  # first, step, number
    alphas: int,
    num_alphas: int,
    right: int,
    threads: int,
) -> None: ...
def available_isas() -> list[str]: ...
def isa() -> str: ...
def select_isa(name: str) -> None: ...

compiler: str
panel: int

class _Plan:
    """How a search goes about its work."""

    def workspace(self, width: int) -> int: ...

class _Cuda:
    """Kernels for CUDA devices. Streams and memory are addresses."""

    emulated: bool  # on the CPU
    toolkit: int  # 13000 for CUDA 13.0
    architectures: str
    def driver_version(self) -> int: ...
    def capability(self, device: int) -> int: ...
    def find_nonfinite(self, rows: Matrix, row: int, stream: int) -> None: ...
    def similarity(self, queries: Matrix, keys: Matrix, out: Matrix, stream: int) -> None: ...
    def pair_scores(
        self, queries: Matrix, keys: Matrix, indices: int, per_query: int, out: int, stream: int
    ) -> None: ...
    def logsumexp_workspace(self, queries: Matrix, keys: Matrix, at_once: int) -> int: ...
    def logsumexp(
        self,
        queries: Matrix,
        keys: Matrix,
        scale: float,
        out: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...
    def gaussian_potential_workspace(
        self, x: int, y: int, cols: int, symmetric: bool, at_once: int
    ) -> int: ...
    def gaussian_potential(
        self,
        x: Matrix,
        y: Matrix,
        symmetric: bool,
        t: float,
        centre: int,
        out: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...
    def cache_logits_workspace(
        self, queries: Matrix, keys: Matrix, columns: int, at_once: int
    ) -> int: ...
    def cache_logits(
        self,
        queries: Matrix,
        keys: Matrix,
        values: Matrix,
        beta: float,
        out: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...
    def group_means(
        self, keys: Matrix, order: int, starts: int, groups: int, means: int, stream: int
    ) -> None: ...
    def pixel_scores_workspace(self, pixels: Matrix, tags: Matrix, at_once: int) -> int: ...
    def pixel_scores(
        self,
        pixels: Matrix,
        images: int,
        tags: Matrix,
        values: int,
        locations: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...
    def pixel_labels_workspace(
        self, pixels: Matrix, tags: Matrix, shape: tuple[int, int, int, int, int], at_once: int
    ) -> int: ...
    def pixel_labels(
        self,
        pixels: Matrix,
        images: int,
        tags: Matrix,
        shape: tuple[int, int, int, int, int],  # h, w, H, W, k
        background: float,
        values: int,
        indices: int,
        survivors: int,
        overflow: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...
    def refine_masks_workspace(
        self, shape: tuple[int, int, int, int, int], dilations: int, at_once: int
    ) -> int: ...
    def refine_masks(
        self,
        images: int,
        masks: int,
        low: int,
        high: int,
        shape: tuple[int, int, int, int, int],  # B, channels, masks, H, W
        iterations: int,
        dilations: list[int],
        out: int,
        at_once: int,
        workspace: int,
        stream: int,
    ) -> None: ...

    most_keys: int  # of one search
    most_best: int  # largest k of topk
    def pack(self, keys: Matrix, center: int, codes: int, bounds: int, stream: int) -> None: ...
    def TopKPlan(
        self, num_queries: int, k: int, max_queries: int, max_candidates: int
    ) -> _Plan: ...
    def topk(
        self,
        queries: Matrix,
        keys: Matrix,
        screen: ScreenKeys | None,
        plan: _Plan,
        values: int,
        indices: int,
        scored: int,
        memory: int,
        stream: int,
    ) -> None: ...
    def FixedPlan(
        self, num_queries: int, num_keys: int, max_queries: int, max_pairs: int, max_open: int
    ) -> _Plan: ...
    def count_ahead(
        self,
        queries: Matrix,
        keys: Matrix,
        screen: ScreenKeys | None,
        plan: _Plan,
        scores: int,
        ties: int,
        per_query: int,
        per_key: int,
        scored: int,
        memory: int,
        stream: int,
    ) -> None: ...
    def group_beats(
        self,
        queries: Matrix,
        keys: Matrix,
        screen: ScreenKeys | None,
        plan: _Plan,
        scores: int,
        ties: int,
        groups: int,
        words: int,
        bits: int,
        scored: int,
        memory: int,
        stream: int,
    ) -> None: ...
    def GroupPlan(
        self,
        num_queries: int,
        num_keys: int,
        num_groups: int,
        max_queries: int,
        max_pairs: int,
        max_open: int,
    ) -> _Plan: ...
    def group_max(
        self,
        queries: Matrix,
        keys: Matrix,
        screen: ScreenKeys | None,
        plan: _Plan,
        groups: int,
        values: int,
        indices: int,
        scored: int,
        memory: int,
        stream: int,
    ) -> None: ...
    def maybe_above_workspace(self, queries: int, width: int) -> int: ...
    def maybe_above(
        self,
        queries: Matrix,
        keys: ScreenKeys,
        range: tuple[int, int],  # of keys
        thresholds: int,
        later_only: bool,
        shift: int,
        pairs: int,
        capacity: int,
        count: int,
        memory: int,
        stream: int,
    ) -> None: ...
    def list_scores(
        self, queries: Matrix, keys: Matrix, pairs: int, count: int, scores: int, stream: int
    ) -> None: ...

cuda: _Cuda  # in builds with CUDA only
