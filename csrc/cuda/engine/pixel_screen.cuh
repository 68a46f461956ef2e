// Scores of pixels and tags in float32 with bounds on their error: a screen for the few that must
// be known exactly.
//
// Let s be the score of q and k that split_tile.cuh gives, d terms. The exact score was rounded to
// float32, by at most 2^-24 of itself or 2^-150, and s perhaps twice, by 2^-150 each. So
//
//   |exact score - s| <= ((49 + d / 16) * 2^-24 + 2^-38 sqrt(d)) * |q| |k| + 2^-148
//
// `reach` holds the factor times |q|, 2 * 2^-24 larger for the roundings of the bounds and of sums
// with them.
#pragma once

#include <cmath>

#include "cuda/arch/value_tile.cuh"
#include "cuda/engine/split_rows.cuh"
#include "cuda/tuning.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

struct PixelScreen {
  const float* scores;  // [rows, pitch], rows and columns padded to whole tiles
  int64_t pitch;
  const float* reach;  // of each row
  const float* norms;  // of each column

  static constexpr float kLeast = 0x1p-148f;

  // Infinite where numbers overflow, or NaN beside an infinite score: comparisons must let both
  // pass.
  __device__ float margin(int64_t row, int64_t column) const {
    return reach[row] * norms[column] + kLeast;
  }
  __device__ float score(int64_t row, int64_t column) const { return scores[row * pitch + column]; }
};

// norms[i] >= factor * |row i|. One warp for each row.
static __global__ void row_norms(Matrix rows, double factor, float* norms) {
  const int64_t row = global_thread() / kWarp;
  if (row >= rows.rows) return;
  const double sum = squared_length(rows, row);
  if (threadIdx.x % kWarp == 0) norms[row] = round_up_to_float(factor * sqrt(sum) * (1 + 1e-9));
}

// A flat grid of `row_tiles` by pitch / kColumns tiles: only its first side may be long.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    write_products(Tile tile, int64_t row_tiles, float* scores, int64_t pitch) {
  auto& shared = *dynamic_shared<typename Tile::Shared>();
  const int64_t first_row = blockIdx.x % row_tiles * Tile::kRows;
  const int64_t first_column = blockIdx.x / row_tiles * Tile::kColumns;
  float products[Tile::kSide][Tile::kSide];
  tile.multiply(first_row, first_column, shared, products);
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
    float* to = scores + (first_row + Tile::row(i)) * pitch + first_column;
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) to[Tile::column(j)] = products[i][j];
  }
}

inline int64_t whole_tiles(int64_t rows) {
  return ceil_div<int64_t>(rows, ValueTile::kRows) * ValueTile::kRows;
}

inline void launch_norms(const Matrix& rows, double factor, float* norms, Stream stream) {
  launch(row_norms, blocks_for(rows.rows * kWarp), tuned::kThreads, 0, stream, rows, factor, norms);
}

inline double reach_factor(int64_t cols) {
  const auto d = static_cast<double>(cols);
  return (51 + d / 16) * 0x1p-24 + 0x1p-38 * std::sqrt(d);
}

// scores [whole_tiles(rows), whole_tiles(columns)]
inline void launch_products(const SplitRows& rows, const SplitRows& columns, float* scores,
                            Stream stream) {
  visit_split_tile(rows, columns, [&](const auto& tile) {
    using Tile = std::decay_t<decltype(tile)>;
    const int64_t pitch = whole_tiles(columns.rows);
    const int64_t row_tiles = whole_tiles(rows.rows) / Tile::kRows;
    launch(write_products<Tile>, dim3(row_tiles * (pitch / Tile::kColumns)), dim3(Tile::kThreads),
           sizeof(typename Tile::Shared), stream, tile, row_tiles, scores, pitch);
  });
}

}  // namespace fastclip::cuda
