#include <cmath>

#include "value_loop.cuh"
#include "values.h"
#include "workspace.h"

namespace fastclip::cuda {
namespace {

// Beyond t times the largest squared norm, ||x||^2 + ||y||^2 - 2 xy loses digits that count.
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
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (row >= rows.rows) return;
  double norm = 0;
  for (int64_t c = threadIdx.x % kWarp; c < rows.cols; c += kWarp) {
    const float x = static_cast<float>(element(rows, row, c) - centre[c]);
    out.rows[row * rows.cols + c] = x;
    norm += static_cast<double>(x) * x;
  }
  for (int half = kWarp / 2; half > 0; half /= 2) {
    norm += __shfl_xor_sync(kAllLanes, norm, half);
  }
  if (threadIdx.x % kWarp == 0) {
    const float rounded = static_cast<float>(norm);
    out.norms[row] = rounded;
    atomicMax(out.largest, __float_as_uint(rounded));
  }
}

// Minus the squared distances, by one of two ways; which one is known on the device alone, so that
// both are launched and one has nothing to do.
struct Pairs {
  bool symmetric;
  double t;
  const unsigned* largest;  // squared norm of a centred row

  __device__ bool norms_are_small() const {
    return t * __uint_as_float(*largest) <= kLargestExponent;
  }
  __device__ int64_t first_needed(int64_t i, int64_t first) const {
    return symmetric ? first + i + 1 : 0;
  }
};

struct FromProducts : Pairs {
  int64_t first;  // row of x that is query 0
  const float* x_norms;
  const float* y_norms;

  __device__ bool nothing_to_do() const { return !norms_are_small(); }
  __device__ int64_t first_needed(int64_t i) const { return Pairs::first_needed(i, first); }
  __device__ float finish(float product, int64_t i, int64_t j) const {
    const float minus_square = 2 * product - (x_norms[i] + y_norms[j]);
    return minus_square > 0 ? 0.0f : minus_square;
  }
};

struct FromDifferences : Pairs {
  int64_t first;

  __device__ bool nothing_to_do() const { return norms_are_small(); }
  __device__ int64_t first_needed(int64_t i) const { return Pairs::first_needed(i, first); }
  __device__ float finish(float minus_square, int64_t, int64_t) const { return minus_square; }
};

struct KeepState {
  LogSumExp* out;

  __device__ void operator()(int64_t i, const LogSumExp& state) const { out[i] = state; }
};

constexpr int kTotalThreads = 256;

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
  Memory(void* workspace, int64_t x, int64_t y, int64_t cols, bool symmetric, int64_t at_once)
      : parts(y), all(workspace) {
    largest = all.take<unsigned>(1);
    centred_x = {all.take<float>(x * cols), all.take<float>(x), largest};
    centred_y =
        symmetric ? centred_x : Centred{all.take<float>(y * cols), all.take<float>(y), largest};
    of_parts = all.take<LogSumExp>(at_once * parts.count);
    of_rows = all.take<LogSumExp>(x);
  }

  ValueParts parts;
  Workspace all;
  unsigned* largest;
  Centred centred_x, centred_y;
  LogSumExp* of_parts;
  LogSumExp* of_rows;
};

void launch_centre(const Matrix& rows, const double* centre, Centred out, Stream stream) {
  constexpr int kThreads = 256;
  launch(centre_rows, dim3(ceil_div<int64_t>(rows.rows * kWarp, kThreads)), dim3(kThreads), 0,
         stream, rows, centre, out);
}

}  // namespace

int64_t gaussian_potential_workspace(int64_t x, int64_t y, int64_t cols, bool symmetric,
                                     int64_t at_once) {
  return Memory(nullptr, x, y, cols, symmetric, at_once).all.bytes();
}

void gaussian_potential(const Matrix& x, const Matrix& y, bool symmetric, double t,
                        const double* centre, double* out, int64_t at_once, void* workspace,
                        Stream stream) {
  const Memory memory(workspace, x.rows, y.rows, x.cols, symmetric, at_once);
  const Centred& cx = memory.centred_x;
  const Centred& cy = memory.centred_y;
  zero(memory.largest, sizeof(*memory.largest), stream);
  launch_centre(x, centre, cx, stream);
  if (!symmetric) launch_centre(y, centre, cy, stream);
  for (int64_t first = 0; first < x.rows; first += at_once) {
    const int64_t last = std::min(first + at_once, x.rows);
    const dim3 grid(ceil_div<int64_t>(last - first, ValueTile::kRows), memory.parts.count);
    const Pairs pairs{symmetric, t, memory.largest};
    const FromProducts products{pairs, first, cx.norms + first, cy.norms};
    const FromDifferences differences{pairs, first};
    launch(log_sum_exp_parts<false, FromProducts>, grid, dim3(ValueTile::kThreads), 0, stream,
           cx.matrix(x.rows, x.cols).slice(first, last), cy.matrix(y.rows, y.cols),
           memory.parts.keys, t, products, memory.of_parts);
    launch(log_sum_exp_parts<true, FromDifferences>, grid, dim3(ValueTile::kThreads), 0, stream,
           x.slice(first, last), y, memory.parts.keys, t, differences, memory.of_parts);
    launch_merge(memory.of_parts, last - first, memory.parts.count, t,
                 KeepState{memory.of_rows + first}, stream);
  }
  const auto n = static_cast<double>(x.rows);
  const double pairs = symmetric ? n * (n - 1) / 2 : n * static_cast<double>(y.rows);
  launch(total, dim3(1), dim3(kTotalThreads), 0, stream, memory.of_rows, x.rows, t, std::log(pairs),
         out);
}

}  // namespace fastclip::cuda
