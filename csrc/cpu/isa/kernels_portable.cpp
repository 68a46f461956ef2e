#include "cpu/isa/encode.h"
#include "cpu/isa/grid_kernels.h"
#include "cpu/isa/kernels.h"
#include "cpu/isa/pixel_kernels.h"
#include "cpu/isa/screen_tile.h"
#include "cpu/isa/select_tile.h"
#include "cpu/isa/tile.h"
#include "cpu/isa/value_tile.h"

namespace fastclip::cpu {
namespace {

// Bytes are not multiplied any faster than floats here.
struct Portable {
  typedef int32_t Ints __attribute__((vector_size(16)));
  typedef float Floats __attribute__((vector_size(16)));
  static constexpr int kRows = 2;
  static constexpr int kProductRows = 2;  // of four keys each
  static constexpr int kQueryLevels = 0;

  static uint32_t at_least(Floats x, float threshold) {
    constexpr Ints kBits = {1, 2, 4, 8};
    const Ints passed = (x >= threshold) & kBits;
    return (passed[0] | passed[1]) | (passed[2] | passed[3]);
  }
};

}  // namespace

// 128-bit vectors: SSE2 or NEON, 9 accumulators of 16 registers.
using PortableTile = Tile<2, 3, 3>;

const Kernels kPortable = {
    "portable",
    3,
    PortableTile::load_rows,
    PortableTile::score_block,
    PortableTile::score_pairs,
    PortableTile::score_keys,
    PortableTile::find_nonfinite,
    encode_rows,
    Portable::kQueryLevels,
    ScreenTile<Portable>::screen,
    ScreenTile<Portable>::sum_squares,
    SelectTile<Portable>::favourite,
    SelectTile<Portable>::reaching,
    SelectTile<Portable>::kth_largest,
    SelectTile<Portable>::keep_at_least,
    ValueTile<4, 4, 2>::kernels(),
    pixel_kernels<4>(),
    GridTile<2>::kernels(),
};

}  // namespace fastclip::cpu
