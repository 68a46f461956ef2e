// float32 products of rows as they are stored, summed in the fastest order: they serve bounds,
// which hold for any order.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"

namespace fastclip::cpu {
namespace {

// At most MR queries x four keys are in registers at a time, each pair in W lanes.
template <int W, int MR>
struct RowTile {
  using V = Vectors<W>;
  using Floats = typename V::Floats;
  static constexpr int kKeys = 4;

  // out[m * ld + j] for M queries and num_keys keys, the latter rounded up to a multiple of four.
  template <int M>
  static void products(FloatRows queries, FloatRows keys, int64_t num_keys, int64_t cols,
                       float* out, int64_t ld) {
    for (int64_t j = 0; j < num_keys; j += kKeys) {
      const float* k[kKeys];
      four_rows(keys, j, num_keys, k);
      multiply_all<M>(queries, k, cols, out + j, ld);
    }
  }

  // squares[j] = the sum of the squares of row j, for rows up to a multiple of four.
  static void squares(FloatRows rows, int64_t count, int64_t cols, float* squares) {
    for (int64_t j = 0; j < count; j += kKeys) {
      const float* k[kKeys];
      four_rows(rows, j, count, k);
      Floats sums[kKeys] = {};
      const int64_t whole = cols / W * W;
      for (int64_t i = 0; i < whole; i += W) {
#pragma GCC unroll 4
        for (int n = 0; n < kKeys; ++n) {
          const Floats x = V::load(k[n] + i);
          sums[n] += x * x;
        }
      }
      V::sum_lanes(sums, squares + j);
      for (int n = 0; n < kKeys; ++n) {
        for (int64_t i = whole; i < cols; ++i) squares[j + n] += k[n][i] * k[n][i];
      }
    }
  }

 private:
  // Rows beyond the last repeat it.
  static void four_rows(FloatRows rows, int64_t first, int64_t count, const float* (&four)[kKeys]) {
    for (int n = 0; n < kKeys; ++n) four[n] = rows.row(first + n < count ? first + n : count - 1);
  }

  // Four keys stay in the L1 for all queries.
  template <int M>
  static void multiply_all(FloatRows queries, const float* const (&keys)[kKeys], int64_t cols,
                           float* out, int64_t ld) {
    if constexpr (M > MR) {
      multiply<MR>(queries, keys, cols, out, ld);
      multiply_all<M - MR>({queries.row(MR), queries.stride}, keys, cols, out + MR * ld, ld);
    } else {
      multiply<M>(queries, keys, cols, out, ld);
    }
  }

  template <int M>
  static void multiply(FloatRows queries, const float* const (&keys)[kKeys], int64_t cols,
                       float* out, int64_t ld) {
    Floats sums[M][kKeys] = {};
    const int64_t whole = cols / W * W;
    for (int64_t i = 0; i < whole; i += W) {
      Floats q[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) q[m] = V::load(queries.row(m) + i);
#pragma GCC unroll 4
      for (int n = 0; n < kKeys; ++n) {
        const Floats k = V::load(keys[n] + i);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sums[m][n] += q[m] * k;
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      float* to = out + m * ld;
      V::sum_lanes(sums[m], to);
      if (whole == cols) continue;
      for (int n = 0; n < kKeys; ++n) {
        for (int64_t i = whole; i < cols; ++i) to[n] += queries.row(m)[i] * keys[n][i];
      }
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
