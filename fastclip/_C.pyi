class Matrix:
    def __init__(self, address: int, dtype: int, rows: int, cols: int, row_stride: int) -> None: ...

def find_nonfinite(rows: Matrix, threads: int) -> int: ...
def similarity(queries: Matrix, keys: Matrix, out: Matrix, threads: int) -> None: ...
def topk(
    queries: Matrix, keys: Matrix, k: int, values: int, indices: int, threads: int
) -> None: ...
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
def available_isas() -> list[str]: ...
def isa() -> str: ...
def select_isa(name: str) -> None: ...

compiler: str
