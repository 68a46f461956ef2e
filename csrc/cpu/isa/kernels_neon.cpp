#include <arm_neon.h>

#include "cpu/isa/kernel_table.h"

namespace fastclip::cpu {
namespace {

struct NeonDot : Vectors<4> {
  static constexpr TileSizes kTiles = kNeonTiles;
  static constexpr CodeLimits kQueryCodes{};
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

constinit const Kernels kNeonDot = make_kernels<NeonDot>("neon_dot");

}  // namespace fastclip::cpu
