// Scores of pixels and tags in float32, and how far the exact ones may be from them: a screen for
// the few that must be known exactly.
//
// Let s be the float32 score of q and k, d terms in chunks (value_tile.cuh). Its error is at most
// (64 + d / 64) * 2^-24 * sum |q_i k_i|, the sum being |q| |k| or less, and d + d / 64 roundings of
// denormals, 2^-150 each. The exact score was rounded once, by 2^-24 of itself or 2^-150. So
//
//   |exact score - s| <= (65 + d / 64) * 2^-24 * |q| |k| + d * 2^-149
//
// `reach` holds the first factor times |q|, 2 * 2^-24 larger for the roundings of the bounds and of
// sums with them.
#pragma once

#include "fastclip/screen.h"
#include "ops.h"
#include "value_tile.cuh"

namespace fastclip::cuda {

struct PixelScreen {
  const float* scores;  // [rows, pitch], rows and columns padded to whole tiles
  int64_t pitch;
  const float* reach;  // of each row
  const float* norms;  // of each column
  float least;         // d * 2^-149

  // Infinite, or NaN beside an infinite score, where numbers overflow: compare so that these pass.
  __device__ float margin(int64_t row, int64_t column) const {
    return reach[row] * norms[column] + least;
  }
  __device__ float score(int64_t row, int64_t column) const { return scores[row * pitch + column]; }
};

// norms[i] >= factor * |row i|. One warp for each row.
static __global__ void row_norms(Matrix rows, double factor, float* norms) {
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (row >= rows.rows) return;
  double sum = 0;
  for (int64_t c = threadIdx.x % kWarp; c < rows.cols; c += kWarp) {
    const double x = element(rows, row, c);
    sum += x * x;
  }
  for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_xor_sync(kAllLanes, sum, half);
  if (threadIdx.x % kWarp == 0) norms[row] = round_up_to_float(factor * sqrt(sum) * (1 + 1e-9));
}

static __global__ void __launch_bounds__(ValueTile::kThreads, 1)
    write_products(Matrix rows, Matrix columns, float* scores, int64_t pitch) {
  using T = ValueTile;
  __shared__ __align__(16) T::Shared shared;
  const int64_t first_row = int64_t{blockIdx.x} * T::kRows;
  const int64_t first_column = int64_t{blockIdx.y} * T::kColumns;
  float products[T::kSide][T::kSide];
  multiply<false>(RowSide(rows, first_row), RowSide(columns, first_column), rows.cols, shared,
                  products);
#pragma unroll
  for (int i = 0; i < T::kSide; ++i) {
    float* to = scores + (first_row + T::row(i)) * pitch + first_column;
#pragma unroll
    for (int j = 0; j < T::kSide; ++j) to[T::column(j)] = products[i][j];
  }
}

inline int64_t whole_tiles(int64_t rows) {
  return ceil_div<int64_t>(rows, ValueTile::kRows) * ValueTile::kRows;
}

inline void launch_norms(const Matrix& rows, double factor, float* norms, Stream stream) {
  constexpr int kThreads = 256;
  launch(row_norms, dim3(ceil_div<int64_t>(rows.rows * kWarp, kThreads)), dim3(kThreads), 0, stream,
         rows, factor, norms);
}

inline double reach_factor(int64_t cols) { return (67 + static_cast<double>(cols) / 64) * 0x1p-24; }

inline float least_margin(int64_t cols) { return static_cast<float>(cols + 1) * 0x1p-149f; }

// scores [whole_tiles(rows.rows), whole_tiles(columns.rows)]
inline void launch_products(const Matrix& rows, const Matrix& columns, float* scores,
                            Stream stream) {
  const int64_t pitch = whole_tiles(columns.rows);
  launch(write_products,
         dim3(whole_tiles(rows.rows) / ValueTile::kRows, pitch / ValueTile::kColumns),
         dim3(ValueTile::kThreads), 0, stream, rows, columns, scores, pitch);
}

}  // namespace fastclip::cuda
