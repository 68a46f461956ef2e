#include "cell.h"
#include "kernels.h"
#include "tile.h"

namespace fastclip::cpu {

// 24 accumulators of 32 registers.
using Avx512Tile = Tile<8, 6, 4>;

using Avx512Cell = CellKernels<16>;

const Kernels kAvx512 = {
    "avx512",
    4,
    Avx512Tile::load_rows,
    Avx512Tile::score_block,
    Avx512Tile::find_nonfinite,
    Avx512Cell::corner_bounds,
    Avx512Cell::label_cell,
};

}  // namespace fastclip::cpu
