#include "cell.h"
#include "kernels.h"
#include "neighbours.h"
#include "tile.h"

namespace fastclip::cpu {

// 128-bit vectors: SSE2 or NEON, 9 accumulators of 16 registers.
using PortableTile = Tile<2, 3, 3>;

using PortableCell = CellKernels<4>;
using PortableNeighbours = NeighbourKernels<4>;

const Kernels kPortable = {
    "portable",
    3,
    PortableTile::load_rows,
    PortableTile::score_block,
    PortableTile::find_nonfinite,
    PortableCell::corner_bounds,
    PortableCell::label_cell,
    PortableNeighbours::affinities,
    PortableNeighbours::weighted_mean,
};

}  // namespace fastclip::cpu
