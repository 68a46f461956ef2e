#include <cmath>

#include "cuda/engine/split_rows.cuh"
#include "cuda/engine/value_loop.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/ops/gaussian_potential.h"

namespace fastclip::cuda {
namespace {

// Where t times the largest squared norm is above this, ||x||^2 + ||y||^2 - 2 xy loses digits that
// matter.
constexpr double kLargestExponent = 8;

// Rows less a centre, in float32, the squared norms of what is left, and the largest of these.
struct Centred {
  float* rows;
  float* norms;
  unsigned* largest;  // the bits of a float that is no less than 0: in the order of the floats

  Matrix matrix(int64_t count, int64_t cols) const {
    return {reinterpret_cast<const char*>(rows), DType::kFloat32, count, cols, cols};
  }
};

// One warp for each row.
__global__ void centre_rows(Matrix rows, const double* centre, Centred out) {
  const int64_t row = global_thread() / kWarp;
  if (row >= rows.rows) return;
  double norm = 0;
  for (int64_t c = threadIdx.x % kWarp; c < rows.cols; c += kWarp) {
    const float x = static_cast<float>(element(rows, row, c) - centre[c]);
    out.rows[row * rows.cols + c] = x;
    norm += static_cast<double>(x) * x;
  }
  norm = warp_sum(norm);
  if (threadIdx.x % kWarp == 0) {
    const float rounded = static_cast<float>(norm);
    out.norms[row] = rounded;
    atomicMax(out.largest, __float_as_uint(rounded));
  }
}

// Minus the squared distances, computed in one of two ways. Only the device knows which, so both
// are launched and one returns at once.
struct Pairs {
  bool symmetric;
  double t;
  const unsigned* largest;  // squared norm of a centred row
  int64_t first;            // row of x that is query 0

  __device__ bool norms_are_small() const {
    return t * __uint_as_float(*largest) <= kLargestExponent;
  }
  __device__ int64_t first_needed(int64_t i) const { return symmetric ? first + i + 1 : 0; }
};

// The error of split_tile.cuh for widely differing numbers in a row is negligible here: t |x| |y|
// is at most kLargestExponent.
struct FromProducts : Pairs {
  const float* x_norms;
  const float* y_norms;

  __device__ bool nothing_to_do() const { return !norms_are_small(); }
  __device__ float finish(float product, int64_t i, int64_t j) const {
    const float minus_square = 2 * product - (x_norms[i] + y_norms[j]);
    return minus_square > 0 ? 0.0f : minus_square;
  }
};

struct FromDifferences : Pairs {
  __device__ bool nothing_to_do() const { return norms_are_small(); }
  __device__ float finish(float minus_square, int64_t, int64_t) const { return minus_square; }
};

struct KeepTotal {
  __device__ void operator()(int64_t, const LogSumExp&) const {}
};

constexpr int kTotalThreads = tuned::kThreads;

// One block.
__global__ void total(const LogSumExp* states, int64_t count, double t, double log_pairs,
                      double* out) {
  __shared__ __align__(16) unsigned char memory[kTotalThreads * sizeof(LogSumExp)];
  auto* of_threads = reinterpret_cast<LogSumExp*>(memory);
  LogSumExp mine;
  for (int64_t i = threadIdx.x; i < count; i += kTotalThreads) mine.merge(states[i], t);
  of_threads[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  LogSumExp all;
  for (int i = 0; i < kTotalThreads; ++i) all.merge(of_threads[i], t);
  *out = all.finish(t) - log_pairs;
}

struct Memory {
  Memory(void* workspace, const GaussianPotentialCall& call, int64_t at_once)
      : parts(call.y.rows),
        parts_at_once(
            parts.within(tuned::ValueLoop::kSplitBytes / (SplitRows::padded(call.x.cols) * 4))),
        all(workspace),
        largest(all.take<unsigned>(1)),
        centred_x(centred(call.x)),
        centred_y(call.symmetric ? centred_x : centred(call.y)),
        split_x(take_split_rows(all, at_once, call.x.cols, true)),
        split_y(take_split_rows(all, std::min(parts_at_once * parts.keys, call.y.rows), call.x.cols,
                                true)),
        states(all.take<LogSumExp>(at_once * parts_at_once)),
        of_rows(all.take<LogSumExp>(call.x.rows)) {}

  Centred centred(const Matrix& rows) {
    return {all.take<float>(rows.rows * rows.cols), all.take<float>(rows.rows), largest};
  }

  ValueParts parts;
  int64_t parts_at_once;
  Workspace all;
  unsigned* largest;
  Centred centred_x, centred_y;
  SplitRows split_x, split_y;
  LogSumExp* states;   // [parts_at_once, at_once]
  LogSumExp* of_rows;  // of x
};

void launch_centre(const Matrix& rows, const double* centre, Centred out, Stream stream) {
  launch(centre_rows, blocks_for(rows.rows * kWarp), tuned::kThreads, 0, stream, rows, centre, out);
}

}  // namespace

Room gaussian_potential_room(const GaussianPotentialCall& call, int64_t most) {
  const int64_t rows = rows_at_once(call.x.rows, tuning().potential_rows, most);
  return {rows, Memory(nullptr, call, rows).all.bytes()};
}

void gaussian_potential(const GaussianPotentialCall& call, int64_t at_once, void* workspace,
                        Stream stream) {
  const auto &x = call.x, &y = call.y;
  const bool symmetric = call.symmetric;
  const double t = call.t;
  Memory memory(workspace, call, at_once);
  const Centred& cx = memory.centred_x;
  const Centred& cy = memory.centred_y;
  zero(memory.largest, sizeof(*memory.largest), stream);
  launch_centre(x, call.centre.data, cx, stream);
  if (!symmetric) launch_centre(y, call.centre.data, cy, stream);
  const int64_t keys_at_once = memory.parts_at_once * memory.parts.keys;
  for (int64_t i = 0; i < x.rows; i += at_once) {
    const int64_t last_i = std::min(i + at_once, x.rows);
    const Pairs pairs{symmetric, t, memory.largest, i};
    launch_split(cx.matrix(x.rows, x.cols).slice(i, last_i), memory.split_x, stream);
    for (int64_t j = 0; j < y.rows; j += keys_at_once) {
      const int64_t last_j = std::min(j + keys_at_once, y.rows);
      launch_split(cy.matrix(y.rows, y.cols).slice(j, last_j), memory.split_y, stream);
      launch_parts(SplitTile<2>(memory.split_x, memory.split_y), j, memory.parts, t,
                   FromProducts{pairs, cx.norms + i, cy.norms}, memory.states, stream);
      launch_parts(FloatTile<true>(x.slice(i, last_i), y.slice(j, last_j)), j, memory.parts, t,
                   FromDifferences{pairs}, memory.states, stream);
      launch_merge(memory.states, last_i - i, ceil_div(last_j - j, memory.parts.keys), t, j == 0,
                   last_j == y.rows, memory.of_rows + i, KeepTotal{}, stream);
    }
  }
  const auto n = static_cast<double>(x.rows);
  const double pairs = symmetric ? n * (n - 1) / 2 : n * static_cast<double>(y.rows);
  launch(total, dim3(1), dim3(kTotalThreads), 0, stream, memory.of_rows, x.rows, t, std::log(pairs),
         call.out.data);
}

}  // namespace fastclip::cuda
