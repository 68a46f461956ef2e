// Rows in the form of SplitTile, and whether its precision is sufficient for them.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda/arch/split_tile.cuh"
#include "cuda/arch/threads.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/element.h"
#include "fastclip/float16.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

// Takes memory for the split form of up to most_rows rows.
inline SplitRows take_split_rows(Workspace& workspace, int64_t most_rows, int64_t cols,
                                 bool with_low) {
  SplitRows rows;
  rows.width = SplitRows::padded(cols);
  rows.high = workspace.take<uint16_t>(most_rows * rows.width);
  if (with_low) rows.low = workspace.take<uint16_t>(most_rows * rows.width);
  rows.exponents = workspace.take<int>(most_rows);
  return rows;
}

// Calls visit(tile) with the tile for these rows and columns; both have `low` or neither has.
template <class Visit>
void visit_split_tile(const SplitRows& rows, const SplitRows& columns, Visit visit) {
  if (rows.low == nullptr) {
    visit(SplitTile<1>(rows, columns));
  } else {
    visit(SplitTile<2>(rows, columns));
  }
}

inline bool both_are_short(const Matrix& rows, const Matrix& columns) {
  return rows.dtype != DType::kFloat32 && columns.dtype != DType::kFloat32;
}

// One warp for each row.
static __global__ void split_rows(Matrix rows, SplitRows out) {
  const int64_t row = global_thread() / kWarp;
  if (row >= rows.rows) return;
  const int lane = threadIdx.x % kWarp;
  float largest = 0;
  for (int64_t c = lane; c < rows.cols; c += kWarp) {
    largest = fmaxf(largest, fabsf(element(rows, row, c)));
  }
  largest = warp_largest(largest);
  int exponent = 0;  // largest = [0.5, 1) * 2^exponent
  frexpf(largest, &exponent);
  exponent -= 15;
  for (int64_t c = lane; c < out.width; c += kWarp) {
    const float x = c < rows.cols ? times_power_of_two(element(rows, row, c), -exponent) : 0.0f;
    const uint16_t high = float_to_half(x);
    out.high[row * out.width + c] = high;
    if (out.low != nullptr) {
      out.low[row * out.width + c] = float_to_half(x - half_to_float(high));
    }
  }
  if (lane == 0) out.exponents[row] = exponent;
}

inline void launch_split(const Matrix& rows, SplitRows& out, Stream stream) {
  out.rows = rows.rows;
  launch(split_rows, blocks_for(rows.rows * kWarp), tuned::kThreads, 0, stream, rows, out);
}

// The square of a row's length, by a warp.
__device__ inline double squared_length(const Matrix& rows, int64_t row) {
  double sum = 0;
  for (int64_t c = threadIdx.x % kWarp; c < rows.cols; c += kWarp) {
    const double x = element(rows, row, c);
    sum += x * x;
  }
  return warp_sum(sum);
}

// Raises *largest, which is at least 0, to the largest length of a row. Warps take rows in turn.
static __global__ void largest_length(Matrix rows, float* largest) {
  const int64_t warps = int64_t{gridDim.x} * blockDim.x / kWarp;
  double most = 0;
  for (int64_t row = global_thread() / kWarp; row < rows.rows; row += warps) {
    most = max(most, squared_length(rows, row));
  }
  if (threadIdx.x % kWarp == 0) {
    // The bits of floats that are not negative are in the order of the floats.
    atomicMax(reinterpret_cast<unsigned*>(largest),
              __float_as_uint(round_up_to_float(sqrt(most) * (1 + 1e-9))));
  }
}

inline void launch_largest_length(const Matrix& rows, float* largest, Stream stream) {
  const unsigned blocks =
      std::min<unsigned>(blocks_for(rows.rows * kWarp), tuned::Rows::kLengthBlocks);
  launch(largest_length, blocks, tuned::kThreads, 0, stream, rows, largest);
}

// Whether tensor cores are precise enough for exp(scale * score): what they lose where the numbers
// of a row differ widely (the second term in split_tile.cuh) changes no exponent by more than
// kMost. Only the device knows, so the kernels for both cases are launched and one returns at once.
struct Precision {
  static constexpr double kMost = 2.5e-7;

  double factor;         // lost_factor(scale, d)
  const float* largest;  // the largest lengths of a row on each side

  __device__ bool enough() const {
    return factor * (static_cast<double>(largest[0]) * largest[1]) <= kMost;
  }
};

inline double lost_factor(double scale, int64_t cols) {
  return std::abs(scale) * 0x1p-38 * std::sqrt(static_cast<double>(cols));
}

}  // namespace fastclip::cuda
