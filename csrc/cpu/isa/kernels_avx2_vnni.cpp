#include "cpu/isa/isa_avx2.h"

namespace fastclip::cpu {
namespace {

struct Avx2Vnni : Avx2Base {
  static constexpr CodeLimits kQueryCodes{};

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    return reinterpret_cast<Ints>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sum),
                                                          reinterpret_cast<__m256i>(keys),
                                                          reinterpret_cast<__m256i>(queries)));
  }
};

}  // namespace

constinit const Kernels kAvx2Vnni = make_kernels<Avx2Vnni>("avx2_vnni");

}  // namespace fastclip::cpu
