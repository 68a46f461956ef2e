#include "cpu/isa/isa_avx512_vnni.h"
// After the intrinsics.
#include "cpu/isa/amx_tiles.h"

namespace fastclip::cpu {
namespace {

struct Amx : Avx512Vnni {
  using Tiles = AmxTiles;
};

}  // namespace

constinit const Kernels kAmx = make_kernels<Amx>("amx");

}  // namespace fastclip::cpu
