#include "cpu/isa/kernel_table.h"

namespace fastclip::cpu {
namespace {

struct Portable : Vectors<4> {
  static constexpr TileSizes kTiles = kPortableTiles;
  static constexpr CodeLimits kQueryCodes{.largest = 0};

  static uint32_t at_least(Floats x, float threshold) {
    constexpr Ints kBits = {1, 2, 4, 8};
    const Ints passed = (x >= threshold) & kBits;
    return (passed[0] | passed[1]) | (passed[2] | passed[3]);
  }
};

}  // namespace

constinit const Kernels kPortable = make_kernels<Portable>("portable");

}  // namespace fastclip::cpu
