#include "kernels.h"
#include "tile.h"
#include "value_tile.h"

namespace fastclip::cpu {

// 24 accumulators of 32 registers.
using Avx512Tile = Tile<8, 6, 4>;

const Kernels kAvx512 = {
    "avx512",
    4,
    Avx512Tile::load_rows,
    Avx512Tile::score_block,
    Avx512Tile::find_nonfinite,
    ValueTile<16, 12, 2>::kernels(),
};

}  // namespace fastclip::cpu
