#include "cpu/isa/isa_avx512.h"

namespace fastclip::cpu {
namespace {

struct Avx512 : Avx512Base {
  typedef int16_t Shorts __attribute__((vector_size(64)));
  static constexpr CodeLimits kQueryCodes{.largest = 127, .narrow_sums = true};

  static Shorts products(Ints keys, Ints queries) {
    return reinterpret_cast<Shorts>(
        _mm512_maddubs_epi16(reinterpret_cast<__m512i>(keys), reinterpret_cast<__m512i>(queries)));
  }
  static Ints widen(Ints sum, Shorts pairs) {
    return sum + reinterpret_cast<Ints>(
                     _mm512_madd_epi16(reinterpret_cast<__m512i>(pairs), _mm512_set1_epi16(1)));
  }
};

}  // namespace

constinit const Kernels kAvx512 = make_kernels<Avx512>("avx512");

}  // namespace fastclip::cpu
