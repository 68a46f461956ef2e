#include "cpu/isa/isa_avx512.h"

namespace fastclip::cpu {
namespace {

struct Avx512 : Avx512Base {
  // Pairs of products are added in 16 bits: 2 * 255 * 63 is the most that fits.
  static constexpr int kQueryLevels = 63;

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    const __m512i pairs =
        _mm512_maddubs_epi16(reinterpret_cast<__m512i>(keys), reinterpret_cast<__m512i>(queries));
    return sum + reinterpret_cast<Ints>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
};

}  // namespace

constinit const Kernels kAvx512 = make_kernels<Avx512>("avx512");

}  // namespace fastclip::cpu
