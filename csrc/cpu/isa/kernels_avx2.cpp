#include "cpu/isa/isa_avx2.h"

namespace fastclip::cpu {
namespace {

struct Avx2 : Avx2Base {
  // Pairs of products are added in 16 bits: 2 * 255 * 63 is the most that fits.
  static constexpr int kQueryLevels = 63;

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    const __m256i pairs =
        _mm256_maddubs_epi16(reinterpret_cast<__m256i>(keys), reinterpret_cast<__m256i>(queries));
    return sum + reinterpret_cast<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace

constinit const Kernels kAvx2 = make_kernels<Avx2>("avx2");

}  // namespace fastclip::cpu
