#include "cell.h"
#include "kernels.h"
#include "neighbours.h"
#include "tile.h"

namespace fastclip::cpu {

// 24 accumulators of 32 registers.
using Avx512Tile = Tile<8, 6, 4>;

using Avx512Cell = CellKernels<16>;
using Avx512Neighbours = NeighbourKernels<16>;

const Kernels kAvx512 = {
    "avx512",
    4,
    Avx512Tile::load_rows,
    Avx512Tile::score_block,
    Avx512Tile::find_nonfinite,
    Avx512Cell::corner_bounds,
    Avx512Cell::label_cell,
    Avx512Neighbours::affinities,
    Avx512Neighbours::weighted_mean,
};

}  // namespace fastclip::cpu
