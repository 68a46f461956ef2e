#include "encode.h"
#include "kernels.h"
#include "pixel_kernels.h"
#include "tile.h"
#include "value_tile.h"

namespace fastclip::cpu {

// 128-bit vectors: SSE2 or NEON, 9 accumulators of 16 registers.
using PortableTile = Tile<2, 3, 3>;

const Kernels kPortable = {
    "portable",
    3,
    PortableTile::load_rows,
    PortableTile::score_block,
    PortableTile::score_pairs,
    PortableTile::find_nonfinite,
    encode_rows,
    0,
    nullptr,
    nullptr,
    nullptr,
    ValueTile<4, 4, 2>::kernels(),
    pixel_kernels<4>(),
};

}  // namespace fastclip::cpu
