// What AVX-512 processors with VNNI share.
#pragma once

#include "cpu/isa/isa_avx512.h"

namespace fastclip::cpu {
namespace {

struct Avx512Vnni : Avx512Base {
  static constexpr CodeLimits kQueryCodes{};

  static Ints multiply_add(Ints sum, Ints keys, Ints queries) {
    return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                      reinterpret_cast<__m512i>(keys),
                                                      reinterpret_cast<__m512i>(queries)));
  }
};

}  // namespace
}  // namespace fastclip::cpu
