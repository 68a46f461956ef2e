#include "cell.h"
#include "kernels.h"
#include "neighbours.h"
#include "tile.h"

namespace fastclip::cpu {

// 12 accumulators of 16 registers.
using Avx2Tile = Tile<4, 4, 3>;

using Avx2Cell = CellKernels<8>;
using Avx2Neighbours = NeighbourKernels<8>;

const Kernels kAvx2 = {
    "avx2",
    3,
    Avx2Tile::load_rows,
    Avx2Tile::score_block,
    Avx2Tile::find_nonfinite,
    Avx2Cell::corner_bounds,
    Avx2Cell::label_cell,
    Avx2Neighbours::affinities,
    Avx2Neighbours::weighted_mean,
};

}  // namespace fastclip::cpu
