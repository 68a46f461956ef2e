#include <arm_neon.h>

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

struct NeonDot {
  typedef int32_t Ints __attribute__((vector_size(16)));
  typedef float Floats __attribute__((vector_size(16)));
  static constexpr int kRows = 2;         // 16 accumulators, 8 vectors of keys, 32 registers
  static constexpr int kProductRows = 2;  // of four keys each
  static constexpr int kQueryLevels = 127;
  static constexpr bool kSignedKeys = true;

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    return reinterpret_cast<Ints>(vdotq_s32(reinterpret_cast<int32x4_t>(sum),
                                            reinterpret_cast<int8x16_t>(keys),
                                            reinterpret_cast<int8x16_t>(queries)));
  }
  static Floats to_float(Ints x) {
    return reinterpret_cast<Floats>(vcvtq_f32_s32(reinterpret_cast<int32x4_t>(x)));
  }
  static uint32_t at_least(Floats x, float threshold) {
    constexpr uint32x4_t kBits = {1, 2, 4, 8};
    const uint32x4_t passed = vcgeq_f32(reinterpret_cast<float32x4_t>(x), vdupq_n_f32(threshold));
    return vaddvq_u32(vandq_u32(passed, kBits));
  }
};

}  // namespace

// 20 accumulators and 5 vectors of keys of 32 registers.
using NeonTile = Tile<2, 4, 5>;

const Kernels kNeonDot = {
    "neon_dot",
    5,
    NeonTile::load_rows,
    NeonTile::score_block,
    NeonTile::score_pairs,
    NeonTile::score_keys,
    NeonTile::find_nonfinite,
    encode_rows,
    NeonDot::kQueryLevels,
    ScreenTile<NeonDot>::screen,
    ScreenTile<NeonDot>::sum_squares,
    SelectTile<NeonDot>::favourite,
    SelectTile<NeonDot>::reaching,
    SelectTile<NeonDot>::kth_largest,
    SelectTile<NeonDot>::keep_at_least,
    ValueTile<4, 8, 2>::kernels(),
    pixel_kernels<4>(),
    GridTile<2>::kernels(),
};

}  // namespace fastclip::cpu
