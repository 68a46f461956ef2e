// The mainloop of the screen, written once over the few instructions that differ: Isa names vectors
// of 32-bit numbers and multiplies bytes. Included by each instruction set's file; nothing from the
// standard library.
#pragma once

#include <cstdint>

#include "fastclip/screen.h"

namespace fastclip::cpu {
namespace {

// M queries x one panel of keys are in registers at a time.
template <class Isa>
struct ScreenTile {
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  static constexpr int kLanes32 = sizeof(Ints) / 4;
  static constexpr int kVectors = kPanel / kLanes32;

  struct Queries {
    const int8_t* codes;
    const ScreenQuery* coefficients;
    const float* thresholds;
    int32_t first;
  };

  static int64_t screen(const int8_t* codes, const ScreenQuery* coefficients,
                        const float* thresholds, int64_t num_queries, const ScreenKeys& keys,
                        int64_t first, int64_t last, Hit* hits) {
    Hit* end = hits;
    for (int64_t panel = first; panel < last; ++panel) {
      int64_t i = 0;
      for (; i + Isa::kRows <= num_queries; i += Isa::kRows) {
        end = screen_rows<Isa::kRows>(at(codes, coefficients, thresholds, i, keys.width), keys,
                                      panel, first, end);
      }
      end = screen_rest<Isa::kRows - 1>(num_queries - i,
                                        at(codes, coefficients, thresholds, i, keys.width), keys,
                                        panel, first, end);
    }
    return end - hits;
  }

 private:
  static Queries at(const int8_t* codes, const ScreenQuery* coefficients, const float* thresholds,
                    int64_t i, int64_t width) {
    return {codes + i * width, coefficients + i, thresholds + i, static_cast<int32_t>(i)};
  }

  template <class Vec>
  static Vec load(const void* from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  }

  template <int M>
  static Hit* screen_rest(int64_t left, const Queries& queries, const ScreenKeys& keys,
                          int64_t panel, int64_t first, Hit* end) {
    if constexpr (M > 0) {
      if (left == M) return screen_rows<M>(queries, keys, panel, first, end);
      return screen_rest<M - 1>(left, queries, keys, panel, first, end);
    }
    return end;
  }

  template <int M>
  static Hit* screen_rows(const Queries& queries, const ScreenKeys& keys, int64_t panel,
                          int64_t first, Hit* end) {
    Ints dots[M][kVectors];
    multiply<M>(queries, keys, panel, dots);
    for (int v = 0; v < kVectors; ++v) {
      const int64_t key = panel * kPanel + v * kLanes32;
      const Floats scale = load<Floats>(keys.scale + key);
      const Floats error = load<Floats>(keys.error + key);
      const Floats norm = load<Floats>(keys.norm + key);
      const uint32_t valid = keys.keys - key >= kLanes32 ? ~0u
                             : keys.keys > key           ? (1u << (keys.keys - key)) - 1
                                                         : 0u;
      for (int m = 0; m < M; ++m) {
        const ScreenQuery& query = queries.coefficients[m];
        const Floats x = Isa::to_float(dots[m][v]) * scale;
        const Floats margin = query.alpha * error + query.beta * norm;
        uint32_t passed = Isa::at_least(x + margin, queries.thresholds[m]) & valid;
        if (__builtin_expect(passed != 0, 0)) {
          float lanes[kLanes32];
          __builtin_memcpy(lanes, &x, sizeof(x));
          for (; passed != 0; passed &= passed - 1) {
            const int lane = __builtin_ctz(passed);
            *end++ = {queries.first + m, static_cast<int32_t>(key - first * kPanel) + lane,
                      lanes[lane]};
          }
        }
      }
    }
    return end;
  }

  // dots[m][v] = q8.k8 of query m and the keys of vector v.
  template <int M>
  static void multiply(const Queries& queries, const ScreenKeys& keys, int64_t panel,
                       Ints (&dots)[M][kVectors]) {
    Ints sums[M][kVectors];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        sums[m][v] = Ints{} + queries.coefficients[m].correction;
      }
    }
    const uint8_t* codes = keys.codes + panel * kPanel * keys.width;
    for (int64_t i = 0; i < keys.width; i += 4, codes += kPanel * 4) {
      Ints k[kVectors];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) k[v] = load<Ints>(codes + v * sizeof(Ints));
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        int32_t four;
        __builtin_memcpy(&four, queries.codes + m * keys.width + i, 4);
        const Ints q = Ints{} + four;
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) sums[m][v] = Isa::multiply_add(sums[m][v], k[v], q);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) dots[m][v] = sums[m][v];
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
