// Products of a tile of rows with a tile of columns on tensor cores, as good as in float32.
//
// A row is scaled by a power of two, so that its largest number lies in [2^14, 2^15), and each
// number x becomes high + low, two float16 numbers: x = high + low + rest, where
//
//   |low| <= 2^-11 |x| + 2^-25,   |rest| <= 2^-22 |x| + 2^-25
//
// The second terms cover the limited exponents of float16: at most 2^-39 of the row's largest
// number. Of high_q high_k + high_q low_k + low_q high_k, what is left out is at most
// 3 * 2^-22 |q_i k_i|, and in all 2^-38 sqrt(d) |q| |k| for the second terms.
//
// An instruction adds the products of 16 terms, which are exact, to an accumulator; the manual does
// not specify how it rounds. Cutting each addend to 24 bits below the largest one, 9 at a time, is
// the least precise behaviour observed on devices, and costs 2 * 9 * 2^-23 of the sum of
// magnitudes. Every sum of 16 starts at zero and is added to the others in float32. The error is at
// most
//
//   (48 + d / 16) * 2^-24 * sum |q_i k_i| + 2^-38 * sqrt(d) * |q| |k|
//
// and does not depend on the tile a product lies in.
#pragma once

#include <algorithm>

#include "cuda/arch/ptx.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {

// Rows in the form above; 16-bit numbers need no `low`.
struct SplitRows {
  static constexpr int64_t kTileK = tuned::SplitTile::kTileK;

  static int64_t padded(int64_t cols) {
    return ceil_div(std::max<int64_t>(cols, 1), kTileK) * kTileK;
  }

  int64_t rows = 0;
  int64_t width = 0;
  uint16_t* high = nullptr;  // [rows, width]
  uint16_t* low = nullptr;
  int* exponents = nullptr;  // row i of the matrix is 2^exponents[i] (high + low)
};

// x * 2^exponent for |x| < 2^100; the exponent may be beyond those of float32. Where the result is
// not denormal, it is exact.
__device__ inline float times_power_of_two(float x, int exponent) {
  const int half = max(exponent, -252) / 2;
  const auto power = [](int e) { return __int_as_float((e + 127) << 23); };
  return x * power(half) * power(max(exponent, -252) - half);
}

// 8 warps of 64 rows and 32 columns. A thread holds 8 x 8 products, as in ValueTile. kParts is 1
// where there is no `low`.
template <int kParts>
class SplitTile : public tuned::SplitTile {
 public:
  static_assert(kRows == 128 && kColumns == 128 && kThreads == 256 && kSide == 8);

  struct Shared {
    uint16_t rows[kStages][kParts][kRows * kTileK];  // high, low
    uint16_t columns[kStages][kParts][kColumns * kTileK];
  };

  SplitTile(const SplitRows& rows, const SplitRows& columns) : rows_(rows), columns_(columns) {}

  int64_t row_count() const { return rows_.rows; }
  int64_t column_count() const { return columns_.rows; }

  // The rows and columns of the calling thread, and which of the 16 that share its rows it is.
  __device__ static int row(int i) {
    return threadIdx.x / kWarp / 4 * 64 + i / 2 * 16 + i % 2 * 8 + threadIdx.x % kWarp / 4;
  }
  __device__ static int column(int j) {
    return threadIdx.x / kWarp % 4 * 32 + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
  }
  __device__ static int thread_in_row() { return threadIdx.x / kWarp % 4 * 4 + threadIdx.x % 4; }

  __device__ __forceinline__ void multiply(int64_t first_row, int64_t first_column, Shared& shared,
                                           float (&products)[kSide][kSide]) const {
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
#pragma unroll
      for (int j = 0; j < kSide; ++j) products[i][j] = 0;
    }
    const int k_tiles = static_cast<int>(rows_.width / kTileK);
    __syncthreads();  // earlier uses of `shared` have ended
#pragma unroll
    for (int k = 0; k < kStages - 1; ++k) {
      if (k < k_tiles) load(shared, k, first_row, first_column, k);
      cp_async_commit();
    }
    for (int k = 0; k < k_tiles; ++k) {
      cp_async_wait<kStages - 2>();
      __syncthreads();  // k-tile k is there, and nobody reads the stage that is filled next
      const int next = k + kStages - 1;
      if (next < k_tiles) load(shared, next % kStages, first_row, first_column, next);
      cp_async_commit();
#pragma unroll 1
      for (int half = 0; half < 2; ++half) add(shared, k % kStages, half, products);
    }
    __syncthreads();
    scale(first_row, first_column, products);
  }

 private:
  // Rows of 64 bytes: the 16-byte pieces of eight rows lie in different banks.
  __device__ static int offset(int row, int piece) {
    return row * kTileK + ((piece ^ (row >> 1 & 3)) << 3);
  }

  __device__ static void load_side(uint16_t (&to)[kParts][kRows * kTileK], const SplitRows& from,
                                   int64_t first, int64_t k_tile) {
    static_assert(kRows == kColumns);
#pragma unroll
    for (int i = 0; i < kRows * 4 / kThreads; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      const int row = at / 4, piece = at % 4;
      const bool valid = first + row < from.rows;
      const int64_t source =
          (valid ? first + row : first) * from.width + k_tile * kTileK + 8 * piece;
      cp_async_16(to[0] + offset(row, piece), from.high + source, valid);
      if constexpr (kParts == 2) {
        cp_async_16(to[1] + offset(row, piece), from.low + source, valid);
      }
    }
  }

  __device__ void load(Shared& shared, int stage, int64_t first_row, int64_t first_column,
                       int64_t k_tile) const {
    load_side(shared.rows[stage], rows_, first_row, k_tile);
    load_side(shared.columns[stage], columns_, first_column, k_tile);
  }

  // Adds 16 terms to this warp's products.
  __device__ static void add(const Shared& shared, int stage, int half,
                             float (&products)[kSide][kSide]) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int tile = lane / 8, row = lane % 8;  // of the four that ldmatrix loads
    uint32_t columns[kParts][4][2];             // high, low
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        uint32_t both[4];
        const int at = warp % 4 * 32 + 16 * pair + tile / 2 * 8 + row;
        ldmatrix_x4(both, shared.columns[stage][part] + offset(at, 2 * half + tile % 2));
        columns[part][2 * pair][0] = both[0];
        columns[part][2 * pair][1] = both[1];
        columns[part][2 * pair + 1][0] = both[2];
        columns[part][2 * pair + 1][1] = both[3];
      }
    }
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      uint32_t rows[kParts][4];
      const int at = warp / 4 * 64 + 16 * m + tile % 2 * 8 + row;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        ldmatrix_x4(rows[part], shared.rows[stage][part] + offset(at, 2 * half + tile / 2));
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        float sums[4] = {0, 0, 0, 0};
        if constexpr (kParts == 2) {
          mma_f16(sums, rows[1], columns[0][n]);
          mma_f16(sums, rows[0], columns[1][n]);
        }
        mma_f16(sums, rows[0], columns[0][n]);
#pragma unroll
        for (int i = 0; i < 4; ++i) products[2 * m + i / 2][2 * n + i % 2] += sums[i];
      }
    }
  }

  __device__ void scale(int64_t first_row, int64_t first_column,
                        float (&products)[kSide][kSide]) const {
    int of_columns[kSide];
#pragma unroll
    for (int j = 0; j < kSide; ++j) {
      const int64_t at = first_column + column(j);
      of_columns[j] = at < columns_.rows ? columns_.exponents[at] : 0;
    }
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      const int64_t at = first_row + row(i);
      const int of_row = at < rows_.rows ? rows_.exponents[at] : 0;
#pragma unroll
      for (int j = 0; j < kSide; ++j) {
        products[i][j] = times_power_of_two(products[i][j], of_row + of_columns[j]);
      }
    }
  }

  SplitRows rows_, columns_;
};

}  // namespace fastclip::cuda
