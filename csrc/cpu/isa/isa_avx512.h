// What AVX-512 processors with and without VNNI share.
#pragma once

#include <immintrin.h>

#include "cpu/isa/kernel_table.h"

namespace fastclip::cpu {
namespace {

struct Avx512Base : Vectors<16> {
  typedef int64_t Longs __attribute__((vector_size(64)));
  static constexpr TileSizes kTiles = kAvx512Tiles;
  static constexpr bool kSignedKeys = false;

  // The plain intrinsic makes GCC 12 warn of an uninitialised pass-through; this is the same
  // instruction.
  static Floats to_float(Ints x) {
    return _mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(x));
  }
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

}  // namespace
}  // namespace fastclip::cpu
