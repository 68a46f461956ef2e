// The mainloop of the screen, written once over the vectors of an Isa (kernel_table.h).
#pragma once

#include <cstdint>

#include "cpu/isa/row_tile.h"
#include "cpu/isa/screen_epilogue.h"
#include "cpu/tuning.h"
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
  using Rows = RowTile<kLanes32, Isa::kTiles.row_queries>;
  // Flips four codes with 128 added back to signed bytes.
  static constexpr int32_t kTake128 = static_cast<int32_t>(0x80808080u);

  static int64_t find_hits(const ScreenOperands& operands, const FindHits& to) {
    return screen(operands, FindHitsEpilogue<Isa>{&to, to.hits}).end - to.hits;
  }
  static int64_t count_sure(const ScreenOperands& operands, const CountSure& to) {
    return screen(operands, CountSureEpilogue<Isa>{&to, to.hits.hits}).end - to.hits.hits;
  }
  static void write_uppers(const ScreenOperands& operands, const WriteUppers& to) {
    screen(operands, WriteUppersEpilogue<Isa>{&to});
  }
  static void write_bounds(const ScreenOperands& operands, const WriteBounds& to) {
    screen(operands, WriteBoundsEpilogue<Isa>{&to});
  }

  static void sum_squares(const FloatRows& rows, int64_t count, int64_t cols, float* squares) {
    Rows::squares(rows, count, cols, squares);
  }

 private:
  template <class Epilogue>
  static Epilogue screen(const ScreenOperands& operands, Epilogue epilogue) {
    if constexpr (Isa::kQueryCodes.largest > 0) {
      if (operands.keys.codes != nullptr) {
        if constexpr (requires { typename Isa::Tiles; }) {
          if (operands.num_queries > tuning::kFewForTiles) return screen_tiles(operands, epilogue);
        }
        return screen_panels<Codes>(operands, epilogue);
      }
    }
    return screen_panels<Unpacked>(operands, epilogue);
  }

  template <class Numbers, class Epilogue>
  static Epilogue screen_panels(const ScreenOperands& operands, Epilogue epilogue) {
    for (int64_t first_key = 0; first_key < operands.keys.keys; first_key += kPanel) {
      constexpr int kRows = Numbers::kRows;
      int64_t i = 0;
      for (; i + kRows <= operands.num_queries; i += kRows) {
        epilogue = screen_rows<Numbers, kRows>(operands, i, first_key, epilogue);
      }
      epilogue = screen_rest<Numbers, kRows - 1>(operands, i, first_key, epilogue);
    }
    return epilogue;
  }

  // Fewer than kRows queries are left: instantiate the narrower tiles and pick one.
  template <class Numbers, int M, class Epilogue>
  static Epilogue screen_rest(const ScreenOperands& operands, int64_t i, int64_t first_key,
                              Epilogue epilogue) {
    if constexpr (M > 0) {
      if (operands.num_queries - i == M) {
        return screen_rows<Numbers, M>(operands, i, first_key, epilogue);
      }
      return screen_rest<Numbers, M - 1>(operands, i, first_key, epilogue);
    }
    return epilogue;
  }

  // By matrix units.
  template <class Epilogue>
  static Epilogue screen_tiles(const ScreenOperands& operands, Epilogue epilogue) {
    constexpr int64_t kMost = Isa::Tiles::kQueries;
    typename Isa::Tiles tiles;
    alignas(64) int32_t dots[kMost][kPanel];
    const int64_t width = operands.keys.width;
    for (int64_t first_key = 0; first_key < operands.keys.keys; first_key += kPanel) {
      for (int64_t i = 0; i < operands.num_queries; i += kMost) {
        const int64_t left = operands.num_queries - i;
        const int rows = static_cast<int>(left < kMost ? left : kMost);
        tiles.configure(rows);
        tiles.multiply(operands.codes + i * width, operands.keys.codes + first_key * width, width,
                       dots);
        epilogue = bound(operands, i, rows, first_key, epilogue, [&](int m, int v) {
          return Isa::to_float(load<Ints>(dots[m] + v * kLanes32) +
                               operands.coefficients[i + m].correction);
        });
      }
    }
    tiles.release();
    return epilogue;
  }

  // Not inlined, so that no register is taken from its sums.
  template <class Numbers, int M, class Epilogue>
  [[gnu::noinline]] static Epilogue screen_rows(const ScreenOperands& operands, int64_t first_query,
                                                int64_t first_key, Epilogue epilogue) {
    typename Numbers::Sums dots[M][kVectors];
    Numbers::template multiply<M>(operands, first_query, first_key, dots);
    return bound(operands, first_query, M, first_key, epilogue,
                 [&](int m, int v) { return Numbers::to_float(dots[m][v]); });
  }

  // Hands x and margins of `rows` queries and a panel to the epilogue; dot(m, v) gives products.
  template <class Epilogue, class Dot>
  [[gnu::always_inline]] static Epilogue bound(const ScreenOperands& operands, int64_t first_query,
                                               int rows, int64_t first_key, Epilogue epilogue,
                                               Dot dot) {
    const ScreenKeys& keys = operands.keys;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t key = first_key + v * kLanes32;
      const int64_t left = keys.keys - key;  // the last panel may have room for more
      const uint32_t there = left >= kLanes32 ? ~0u : left > 0 ? (1u << left) - 1 : 0u;
      const Floats scale = load<Floats>(keys.scale + key);
      const Floats error = load<Floats>(keys.error + key);
      const Floats norm = load<Floats>(keys.norm + key);
      for (int m = 0; m < rows; ++m) {
        const ScreenQuery& query = operands.coefficients[first_query + m];
        const Floats x = dot(m, v) * scale;
        const Floats margin = query.alpha * error + query.beta * norm;
        epilogue(first_query + m, key, there, x, margin);
      }
    }
    return epilogue;
  }

  // q8.k8
  struct Codes {
    using Sums = Ints;
    static constexpr int kRows = Isa::kTiles.screen_queries;

    static Floats to_float(Ints dots) { return Isa::to_float(dots); }

    template <int M>
    static void multiply(const ScreenOperands& operands, int64_t first_query, int64_t first_key,
                         Ints (&dots)[M][kVectors]) {
      if constexpr (Isa::kQueryCodes.narrow_sums) {
        multiply_narrow<M>(operands, first_query, first_key, dots);
      } else {
        multiply_wide<M>(operands, first_query, first_key, dots);
      }
    }

   private:
    template <int M>
    static void multiply_wide(const ScreenOperands& operands, int64_t first_query,
                              int64_t first_key, Ints (&dots)[M][kVectors]) {
      const int64_t width = operands.keys.width;
      const int8_t* queries = operands.codes + first_query * width;
      Ints sums[M][kVectors];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          sums[m][v] = Ints{};
          if constexpr (!Isa::kSignedKeys) {
            sums[m][v] += operands.coefficients[first_query + m].correction;
          }
        }
      }
      const uint8_t* codes = operands.keys.codes + first_key * width;
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

    // Products of a strip of 16 codes are added in 16 bits, those of one vector of keys at a time.
    template <int M>
    static void multiply_narrow(const ScreenOperands& operands, int64_t first_query,
                                int64_t first_key, Ints (&dots)[M][kVectors]) {
      constexpr int kSteps = 4;  // of a strip
      const int64_t width = operands.keys.width;
      const int8_t* queries = operands.codes + first_query * width;
      for (int v = 0; v < kVectors; ++v) {
        Ints sums[M];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
          sums[m] = Ints{} + operands.coefficients[first_query + m].correction;
        const uint8_t* codes = operands.keys.codes + first_key * width + v * sizeof(Ints);
        for (int64_t i = 0; i < width; i += 4 * kSteps, codes += kPanel * 4 * kSteps) {
          Ints k[kSteps];
#pragma GCC unroll 16
          for (int s = 0; s < kSteps; ++s) k[s] = load<Ints>(codes + s * kPanel * 4);
#pragma GCC unroll 16
          for (int m = 0; m < M; ++m) {
            typename Isa::Shorts pairs = {};
#pragma GCC unroll 16
            for (int s = 0; s < kSteps; ++s) {
              int32_t four;
              __builtin_memcpy(&four, queries + m * width + i + 4 * s, 4);
              pairs += Isa::products(k[s], Ints{} + four);
            }
            sums[m] = Isa::widen(sums[m], pairs);
          }
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) dots[m][v] = sums[m];
      }
    }
  };

  // q.k
  struct Unpacked {
    using Sums = Floats;
    static constexpr int kRows = 2 * Isa::kTiles.row_queries;

    static Floats to_float(Floats dots) { return dots; }

    template <int M>
    static void multiply(const ScreenOperands& operands, int64_t first_query, int64_t first_key,
                         Floats (&dots)[M][kVectors]) {
      const ScreenKeys& keys = operands.keys;
      const int64_t left = keys.keys - first_key;
      float products[M][kPanel] = {};
      Rows::template products<M>({operands.floats.row(first_query), operands.floats.stride},
                                 {keys.rows + first_key * keys.row_stride, keys.row_stride},
                                 left < kPanel ? left : kPanel, keys.cols, products[0], kPanel);
      __builtin_memcpy(dots, products, sizeof(products));
    }
  };

  // The sums themselves have no address, so that they stay in registers.
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
