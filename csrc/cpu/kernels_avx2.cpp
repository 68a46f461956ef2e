#include <immintrin.h>

#include "encode.h"
#include "kernels.h"
#include "pixel_kernels.h"
#include "screen_tile.h"
#include "tile.h"
#include "value_tile.h"

namespace fastclip::cpu {
namespace {

struct Avx2 {
  typedef int32_t Ints __attribute__((vector_size(32)));
  typedef float Floats __attribute__((vector_size(32)));
  static constexpr int kRows = 2;  // 8 accumulators, 4 vectors of keys, 16 registers

  // Pairs of products are added in 16 bits: 2 * 255 * 63 is the most that fits.
  static constexpr int kQueryLevels = 63;

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    const __m256i pairs =
        _mm256_maddubs_epi16(reinterpret_cast<__m256i>(keys), reinterpret_cast<__m256i>(queries));
    return sum + reinterpret_cast<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Floats to_float(Ints x) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(x)); }
  static uint32_t at_least(Floats x, float threshold) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(threshold), _CMP_GE_OQ));
  }
};

}  // namespace

// 12 accumulators of 16 registers.
using Avx2Tile = Tile<4, 4, 3>;

const Kernels kAvx2 = {
    "avx2",
    3,
    Avx2Tile::load_rows,
    Avx2Tile::score_block,
    Avx2Tile::find_nonfinite,
    encode_rows,
    Avx2::kQueryLevels,
    ScreenTile<Avx2>::screen,
    ValueTile<8, 6, 2>::kernels(),
    pixel_kernels<8>(),
};

}  // namespace fastclip::cpu
