#include "cpu/isa/isa_avx2.h"

namespace fastclip::cpu {
namespace {

struct Avx2 : Avx2Base {
  typedef int16_t Shorts __attribute__((vector_size(32)));
  static constexpr TileSizes kTiles = kNarrowAvx2Tiles;
  static constexpr CodeLimits kQueryCodes{.largest = 127, .narrow_sums = true};

  static Shorts products(Ints keys, Ints queries) {
    return reinterpret_cast<Shorts>(
        _mm256_maddubs_epi16(reinterpret_cast<__m256i>(keys), reinterpret_cast<__m256i>(queries)));
  }
  static Ints widen(Ints sum, Shorts pairs) {
    return sum + reinterpret_cast<Ints>(
                     _mm256_madd_epi16(reinterpret_cast<__m256i>(pairs), _mm256_set1_epi16(1)));
  }
};

}  // namespace

constinit const Kernels kAvx2 = make_kernels<Avx2>("avx2");

}  // namespace fastclip::cpu
