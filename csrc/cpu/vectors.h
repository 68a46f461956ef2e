// Vectors of W floats for the files compiled per instruction set; see tile.h for what may not be
// used here.
#pragma once

#include <cstdint>

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

template <int W>
struct Vectors {
  typedef float Floats __attribute__((vector_size(W * 4)));
  typedef int32_t Ints __attribute__((vector_size(W * 4)));

  static Floats load(const float* from) {
    Floats v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  }

  static Ints load(const int32_t* from) {
    Ints v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  }

  static void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof(v)); }
  static void store(int32_t* to, Ints v) { __builtin_memcpy(to, &v, sizeof(v)); }

  static Floats fill(float x) { return Floats{} + x; }

  static Floats min(Floats a, Floats b) { return a < b ? a : b; }
  static Floats max(Floats a, Floats b) { return a > b ? a : b; }

  static bool any(Ints mask) {
    int32_t lanes[W], found = 0;
    __builtin_memcpy(lanes, &mask, sizeof(mask));
    for (int w = 0; w < W; ++w) found |= lanes[w];
    return found != 0;
  }

  // A product, rounded before anything is added to it: the baseline has no fused multiply-add, and
  // every instruction set must give the same bits. Costs no instruction.
  static Floats times(Floats a, Floats b) {
    Floats product = a * b;
#if defined(__x86_64__)
    asm("" : "+v"(product));
#elif defined(__aarch64__)
    asm("" : "+w"(product));
#else
    asm("" : "+m"(product));
#endif
    return product;
  }
};

}  // namespace
}  // namespace fastclip::cpu
