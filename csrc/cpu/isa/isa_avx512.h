// What AVX-512 processors with and without VNNI share.
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

struct Avx512Base {
  typedef int32_t Ints __attribute__((vector_size(64)));
  typedef float Floats __attribute__((vector_size(64)));
  typedef int64_t Longs __attribute__((vector_size(64)));
  static constexpr int kRows = 12;        // 24 accumulators of 32 registers
  static constexpr int kProductRows = 6;  // of four keys each
  static constexpr bool kSignedKeys = false;

  // The plain intrinsic makes GCC 12 warn of an uninitialised pass-through; this is the same
  // instruction.
  static Floats to_float(Ints x) {
    return _mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(x));
  }
  // The lanes of x whose bits are set, first.
  static Ints compress(Ints x, uint32_t lanes) {
    return reinterpret_cast<Ints>(
        _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), reinterpret_cast<__m512i>(x)));
  }
  static Floats compress(Floats x, uint32_t lanes) {
    return reinterpret_cast<Floats>(compress(reinterpret_cast<Ints>(x), lanes));
  }
  static Longs compress(Longs x, uint32_t lanes) {
    return reinterpret_cast<Longs>(
        _mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), reinterpret_cast<__m512i>(x)));
  }
  static uint32_t at_least(Floats x, float threshold) {
    return _mm512_cmp_ps_mask(x, _mm512_set1_ps(threshold), _CMP_GE_OQ);
  }
};

// 24 accumulators of 32 registers.
using Avx512Tile = Tile<8, 6, 4>;

template <class Isa>
constexpr Kernels avx512_kernels(const char* name) {
  return {
      name,
      4,
      Avx512Tile::load_rows,
      Avx512Tile::score_block,
      Avx512Tile::score_pairs,
      Avx512Tile::score_keys,
      Avx512Tile::find_nonfinite,
      encode_rows,
      Isa::kQueryLevels,
      ScreenTile<Isa>::screen,
      ScreenTile<Isa>::sum_squares,
      SelectTile<Isa>::favourite,
      SelectTile<Isa>::reaching,
      SelectTile<Isa>::kth_largest,
      SelectTile<Isa>::keep_at_least,
      ValueTile<16, 12, 2>::kernels(),
      pixel_kernels<16>(),
      GridTile<8>::kernels(),
  };
}

}  // namespace
}  // namespace fastclip::cpu
