#include "cpu/isa/isa_avx512_vnni.h"

namespace fastclip::cpu {

constinit const Kernels kAvx512Vnni = make_kernels<Avx512Vnni>("avx512_vnni");

}  // namespace fastclip::cpu
