// The mainloop of the screen, written once over the vectors of an Isa (kernel_table.h).
#pragma once

#include <cstdint>

#include "cpu/isa/row_tile.h"
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
  static constexpr int kRows = Isa::kTiles.screen_queries;
  using Rows = RowTile<kLanes32, Isa::kTiles.row_queries>;
  // Of four codes with 128 added each: makes them signed again.
  static constexpr int32_t kTake128 = static_cast<int32_t>(0x80808080u);

  static int64_t screen(const ScreenCall& call) {
    if constexpr (Isa::kQueryLevels > 0) {
      if (call.keys.codes != nullptr) return screen_as<Codes>(call);
    }
    return screen_as<Unpacked>(call);
  }

  static void sum_squares(const FloatRows& rows, int64_t count, int64_t cols, float* squares) {
    Rows::squares(rows, count, cols, squares);
  }

 private:
  enum Mode { kHits, kCount, kUppers };

  template <class Numbers>
  static int64_t screen_as(const ScreenCall& call) {
    if (call.uppers != nullptr) return screen_panels<Numbers, kUppers>(call);
    return call.sure != nullptr ? screen_panels<Numbers, kCount>(call)
                                : screen_panels<Numbers, kHits>(call);
  }

  template <class Numbers, Mode mode>
  static int64_t screen_panels(const ScreenCall& call) {
    Hit* end = call.hits;
    for (int64_t first_key = 0; first_key < call.keys.keys; first_key += kPanel) {
      int64_t i = 0;
      for (; i + kRows <= call.num_queries; i += kRows) {
        end = screen_rows<Numbers, mode, kRows>(call, i, first_key, end);
      }
      end = screen_rest<Numbers, mode, kRows - 1>(call, i, first_key, end);
    }
    return end - call.hits;
  }

  // Fewer than kRows queries are left: instantiate the narrower tiles and pick one.
  template <class Numbers, Mode mode, int M>
  static Hit* screen_rest(const ScreenCall& call, int64_t i, int64_t first_key, Hit* end) {
    if constexpr (M > 0) {
      if (call.num_queries - i == M) {
        return screen_rows<Numbers, mode, M>(call, i, first_key, end);
      }
      return screen_rest<Numbers, mode, M - 1>(call, i, first_key, end);
    }
    return end;
  }

  template <class Numbers, Mode mode, int M>
  static Hit* screen_rows(const ScreenCall& call, int64_t first_query, int64_t first_key,
                          Hit* end) {
    const ScreenKeys& keys = call.keys;
    typename Numbers::Sums dots[M][kVectors];
    Numbers::template multiply<M>(call, first_query, first_key, dots);
    for (int v = 0; v < kVectors; ++v) {
      const int64_t key = first_key + v * kLanes32;
      const int64_t left = keys.keys - key;  // the last panel may have room for more
      const uint32_t valid = left >= kLanes32 ? ~0u : left > 0 ? (1u << left) - 1 : 0u;
      const Floats scale = load<Floats>(keys.scale + key);
      const Floats error = load<Floats>(keys.error + key);
      const Floats norm = load<Floats>(keys.norm + key);
      for (int m = 0; m < M; ++m) {
        const int64_t i = first_query + m;
        const ScreenQuery& query = call.coefficients[i];
        const Floats x = Numbers::to_float(dots[m][v]) * scale;
        const Floats margin = query.alpha * error + query.beta * norm;
        if constexpr (mode == kUppers) {
          const Floats upper = x + margin;
          __builtin_memcpy(call.uppers + i * call.uppers_stride + key, &upper, sizeof(upper));
          continue;
        }
        uint32_t passed = Isa::at_least(x + margin, call.thresholds[i]) & valid;
        if constexpr (mode == kCount) {
          const uint32_t sure = Isa::at_least(x - margin, call.sure[i]) & valid;
          passed &= ~sure;
          call.query_counts[i] += __builtin_popcount(sure);
          if (call.key_counts != nullptr && sure != 0) {
            count_keys(sure, call.key_counts + key);
          }
        }
        if (__builtin_expect(passed != 0, 0)) {
          float lanes[kLanes32];
          __builtin_memcpy(lanes, &x, sizeof(x));
          for (; passed != 0; passed &= passed - 1) {
            const int lane = __builtin_ctz(passed);
            *end++ = {static_cast<int32_t>(i), static_cast<int32_t>(key) + lane, lanes[lane]};
          }
        }
      }
    }
    return end;
  }

  static void count_keys(uint32_t sure, int32_t* counts) {
    for (int lane = 0; lane < kLanes32; ++lane) {
      counts[lane] += static_cast<int32_t>((sure >> lane) & 1u);
    }
  }

  // q8.k8
  struct Codes {
    using Sums = Ints;

    static Floats to_float(Ints dots) { return Isa::to_float(dots); }

    template <int M>
    static void multiply(const ScreenCall& call, int64_t first_query, int64_t first_key,
                         Ints (&dots)[M][kVectors]) {
      const int64_t width = call.keys.width;
      const int8_t* queries = call.codes + first_query * width;
      Ints sums[M][kVectors];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          sums[m][v] = Ints{};
          if constexpr (!Isa::kSignedKeys) {
            sums[m][v] += call.coefficients[first_query + m].correction;
          }
        }
      }
      const uint8_t* codes = call.keys.codes + first_key * width;
      for (int64_t i = 0; i < width; i += 4, codes += kPanel * 4) {
        Ints k[kVectors];
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          k[v] = load<Ints>(codes + v * sizeof(Ints));
          if constexpr (Isa::kSignedKeys) k[v] ^= kTake128;
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          int32_t four;
          __builtin_memcpy(&four, queries + m * width + i, 4);
          const Ints q = Ints{} + four;
#pragma GCC unroll 16
          for (int v = 0; v < kVectors; ++v) sums[m][v] = Isa::multiply_add(sums[m][v], k[v], q);
        }
      }
      copy<M>(sums, dots);
    }
  };

  // q.k
  struct Unpacked {
    using Sums = Floats;

    static Floats to_float(Floats dots) { return dots; }

    template <int M>
    static void multiply(const ScreenCall& call, int64_t first_query, int64_t first_key,
                         Floats (&dots)[M][kVectors]) {
      const ScreenKeys& keys = call.keys;
      const int64_t left = keys.keys - first_key;
      float products[M][kPanel] = {};
      Rows::template products<M>({call.floats.row(first_query), call.floats.stride},
                                 {keys.rows + first_key * keys.row_stride, keys.row_stride},
                                 left < kPanel ? left : kPanel, keys.cols, products[0], kPanel);
      __builtin_memcpy(dots, products, sizeof(products));
    }
  };

  // Sums that only this reads stay in registers.
  template <int M, class Vec>
  static void copy(const Vec (&from)[M][kVectors], Vec (&to)[M][kVectors]) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) to[m][v] = from[m][v];
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
