// What AVX2 processors with and without VNNI share.
#pragma once

#include <immintrin.h>

#include "cpu/isa/kernel_table.h"

namespace fastclip::cpu {
namespace {

struct Avx2Base : Vectors<8> {
  static constexpr TileSizes kTiles = kAvx2Tiles;
  static constexpr bool kSignedKeys = false;

  static Floats to_float(Ints x) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(x)); }
  static uint32_t at_least(Floats x, float threshold) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(threshold), _CMP_GE_OQ));
  }
};

}  // namespace
}  // namespace fastclip::cpu
