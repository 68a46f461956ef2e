#include "kernels.h"
#include "tile.h"
#include "value_tile.h"

namespace fastclip::cpu {

// 12 accumulators of 16 registers.
using Avx2Tile = Tile<4, 4, 3>;

const Kernels kAvx2 = {
    "avx2",
    3,
    Avx2Tile::load_rows,
    Avx2Tile::score_block,
    Avx2Tile::find_nonfinite,
    ValueTile<8, 6, 2>::kernels(),
};

}  // namespace fastclip::cpu
