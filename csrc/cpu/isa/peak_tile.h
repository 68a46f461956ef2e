// What one core can do at most: multiply and add from registers, and read from memory. Benches
// compare what is reached with it. Whoever calls these takes the time.
#pragma once

#include <cstdint>

#include "cpu/isa/vectors.h"

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

template <class Isa>
class PeakTile {
  static constexpr int kBytes = Isa::kTiles.vector_bytes;
  typedef float Floats __attribute__((vector_size(kBytes)));
  typedef double Doubles __attribute__((vector_size(kBytes)));
  typedef int32_t Ints __attribute__((vector_size(kBytes)));

 public:
  static double float32(int64_t steps) { return floats<Floats>(kBytes / 4, steps); }
  static double float64(int64_t steps) { return floats<Doubles>(kBytes / 8, steps); }

  static double int8(int64_t steps) {
    if constexpr (Isa::kQueryCodes.largest == 0) {
      return 0;
    } else if constexpr (requires { typename Isa::Tiles; }) {
      return Isa::Tiles::multiply_registers(steps);
    } else if constexpr (requires { typename Isa::Shorts; }) {
      // Four pairs of products are added in 16 bits, as the screen does it.
      return repeat<Ints>(4 * kBytes, steps, [](Ints sum, Ints a, Ints b) {
        auto pairs = Isa::products(a, b);
        for (int i = 1; i < 4; ++i) {
          hide(a);
          pairs += Isa::products(a, b);
        }
        return Isa::widen(sum, pairs);
      });
    } else {
      return repeat<Ints>(kBytes, steps,
                          [](Ints sum, Ints a, Ints b) { return Isa::multiply_add(sum, a, b); });
    }
  }

  static double read(const float* numbers, int64_t count) {
    constexpr int64_t kLanes = kBytes / 4;
    Floats sums[kSums] = {};
    int64_t i = 0;
    for (; i + kSums * kLanes <= count; i += kSums * kLanes) {
#pragma GCC unroll 16
      for (int s = 0; s < kSums; ++s) sums[s] += load<Floats>(numbers + i + s * kLanes);
    }
    for (Floats& sum : sums) hide(sum);
    return 4.0 * static_cast<double>(i);
  }

 private:
  static constexpr int kSums = 12;  // that do not wait for one another

  // Keeps the compiler from seeing through the sums.
  template <class Vec>
  static void hide(Vec& v) {
#if defined(__x86_64__)
    asm volatile("" : "+v"(v));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(v));
#else
    asm volatile("" : "+m"(v));
#endif
  }

  template <class Vec>
  static double floats(double lanes, int64_t steps) {
    return repeat<Vec>(lanes, steps, [](Vec sum, Vec a, Vec b) { return sum + a * b; });
  }

  // Multiplies and adds `products` pairs into each sum in each step.
  template <class Vec, class Multiply>
  static double repeat(double products, int64_t steps, Multiply multiply) {
    Vec sums[kSums] = {}, a = {}, b = {};
    hide(b);
    for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) {
        hide(a);  // or products that are the same in every step are made once
        sums[i] = multiply(sums[i], a, b);
        hide(sums[i]);
      }
    }
    return 2 * products * kSums * static_cast<double>(steps);
  }
};

}  // namespace
}  // namespace fastclip::cpu
