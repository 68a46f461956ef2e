// Vectors of W floats for the files compiled per instruction set.
#pragma once

#include <cstdint>

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

template <class Vec>
Vec load(const void* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

template <class Vec>
void store(void* to, Vec v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

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

  // Of each square of 2 Half rows and columns, exchanges the top right and the bottom left quarter.
  template <int Half, int N>
  static void exchange(Floats (&v)[N]) {
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      if ((r & Half) != 0) continue;
      int32_t upper[W], lower[W];
      for (int w = 0; w < W; ++w) {
        upper[w] = (w & Half) != 0 ? W + w - Half : w;
        lower[w] = (w & Half) != 0 ? W + w : w + Half;
      }
      Ints upper_lanes, lower_lanes;
      __builtin_memcpy(&upper_lanes, upper, sizeof(upper));
      __builtin_memcpy(&lower_lanes, lower, sizeof(lower));
      const Floats top = v[r], bottom = v[r + Half];
      v[r] = shuffle(top, bottom, upper_lanes);
      v[r + Half] = shuffle(top, bottom, lower_lanes);
    }
  }

  // Lanes of a, counted from 0, and b, counted from W; the types are
  // parameters since GCC takes a subscript of a vector only where they are.
  template <class Vec, class Lanes>
  static Vec shuffle(Vec a, Vec b, Lanes from) {
#if defined(__clang__)
    Vec result;
    for (int w = 0; w < W; ++w) result[w] = from[w] < W ? a[from[w]] : b[from[w] - W];
    return result;
#else
    return __builtin_shuffle(a, b, from);
#endif
  }

  // The lanes of a and then those of b, each half a vector.
  template <class Half>
  static Floats join(Half a, Half b) {
    if constexpr (W == 4) {
      return __builtin_shufflevector(a, b, 0, 1, 2, 3);
    } else if constexpr (W == 8) {
      return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    } else {
      static_assert(W == 16);
      return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    }
  }

  // The sums of the lanes of four vectors.
  static void sum_lanes(Floats (&v)[4], float* sums) {
    exchange<1>(v);
    exchange<2>(v);
    add_fours<W>((v[0] + v[1]) + (v[2] + v[3]), sums);
  }

 private:
  template <int Lanes, class Vec>
  static void add_fours(Vec v, float* sums) {
    if constexpr (Lanes == 4) {
      __builtin_memcpy(sums, &v, sizeof(v));
    } else {
      typedef float Half __attribute__((vector_size(Lanes * 2)));
      Half low, high;
      __builtin_memcpy(&low, &v, sizeof(Half));
      __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(Half), sizeof(Half));
      add_fours<Lanes / 2>(low + high, sums);
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
