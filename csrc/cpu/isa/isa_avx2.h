// What AVX2 processors with and without VNNI share.
#pragma once

#include <immintrin.h>

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

struct Avx2Base {
  typedef int32_t Ints __attribute__((vector_size(32)));
  typedef float Floats __attribute__((vector_size(32)));
  static constexpr int kRows = 2;         // 8 accumulators, 4 vectors of keys, 16 registers
  static constexpr int kProductRows = 2;  // of four keys each
  static constexpr bool kSignedKeys = false;

  static Floats to_float(Ints x) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(x)); }
  static uint32_t at_least(Floats x, float threshold) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(threshold), _CMP_GE_OQ));
  }
};

// 12 accumulators of 16 registers.
using Avx2Tile = Tile<4, 4, 3>;

template <class Isa>
constexpr Kernels avx2_kernels(const char* name) {
  return {
      name,
      3,
      Avx2Tile::load_rows,
      Avx2Tile::score_block,
      Avx2Tile::score_pairs,
      Avx2Tile::score_keys,
      Avx2Tile::find_nonfinite,
      encode_rows,
      Isa::kQueryLevels,
      ScreenTile<Isa>::screen,
      ScreenTile<Isa>::sum_squares,
      SelectTile<Isa>::favourite,
      SelectTile<Isa>::reaching,
      SelectTile<Isa>::kth_largest,
      SelectTile<Isa>::keep_at_least,
      ValueTile<8, 6, 2>::kernels(),
      pixel_kernels<8>(),
      GridTile<4>::kernels(),
  };
}

}  // namespace
}  // namespace fastclip::cpu
