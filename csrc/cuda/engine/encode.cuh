// Encodes rows as int8 codes with their bounds (fastclip/screen.h): a block encodes a row at a
// time.
#pragma once

#include <algorithm>

#include "cuda/arch/code_layout.h"
#include "cuda/arch/threads.cuh"
#include "cuda/tuning.h"
#include "fastclip/element.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

inline constexpr int kEncodeThreads = tuned::Encode::kThreads;

// Rows minus `center` (which may be null), rotated.
struct Encoding {
  Encoding(const Matrix& rows, const float* center)
      : rows(rows),
        center(center),
        width(code_width(rows.cols)),
        log2_block(rotation_log2_block(width)),
        sign_scale(rotation_scale(log2_block)),
        coded(width <= kWidestCoded && bytes_of_row() <= shared_limit()) {}

  FASTCLIP_HD double error() const { return rotation_error(log2_block, width >> log2_block); }
  size_t shared_bytes() const { return coded ? bytes_of_row() : 0; }
  unsigned blocks(int64_t count) const {
    return static_cast<unsigned>(
        std::min<int64_t>(count, tuned::Encode::kBlocks * multiprocessors()));
  }

  Matrix rows;
  const float* center;
  int64_t width;
  int log2_block;
  float sign_scale;
  bool coded;  // whether a row fits into shared memory

 private:
  // The row in float32, and a bit for each sign.
  size_t bytes_of_row() const { return static_cast<size_t>(width) * 4 + width / 8; }
};

// Sums over the block, in every thread.
template <int n>
__device__ void block_sum(double (&values)[n]) {
  __shared__ double parts[kEncodeThreads / kWarp][n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    values[i] = warp_sum(values[i]);
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp][i] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < n; ++i) {
    values[i] = 0;
    for (int warp = 0; warp < kEncodeThreads / kWarp; ++warp) values[i] += parts[warp][i];
  }
  __syncthreads();
}

// The largest magnitude, in every thread. Positive floats are ordered as their bits are; a NaN is
// above infinity.
__device__ inline float block_largest(unsigned bits) {
  __shared__ unsigned parts[kEncodeThreads / kWarp];
  bits = __reduce_max_sync(kAllLanes, bits);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = bits;
  __syncthreads();
  for (unsigned part : parts) bits = max(bits, part);
  __syncthreads();
  return __uint_as_float(bits);
}

class RowCoder {
 public:
  __device__ explicit RowCoder(const Encoding& encoding)
      : e_(encoding),
        row_(dynamic_shared<float>()),
        signs_(reinterpret_cast<uint32_t*>(row_ + encoding.width)) {
    if (!e_.coded) return;
    for (int64_t word = threadIdx.x; word < e_.width / 32; word += kEncodeThreads) {
      uint32_t bits = 0;
      for (int b = 0; b < 32; ++b) {
        bits |= static_cast<uint32_t>(rotation_keeps_sign(32 * word + b)) << b;
      }
      signs_[word] = bits;
    }
    __syncthreads();
  }

  // Writes the codes of row i where they belong in `codes`, and returns the sums to every thread.
  __device__ RowSums encode(int64_t i, int8_t* codes) const {
    if (!e_.coded) return measure(i, codes);
    load(i);
    rotate();
    return quantise(i, codes);
  }

  // Writes the codes of a padding row.
  __device__ void pad(int64_t i, int8_t* codes) const {
    for (int64_t j = threadIdx.x; j < e_.width; j += kEncodeThreads) {
      codes[code_offset(i, j, e_.width)] = 0;
    }
  }

 private:
  __device__ float centred(int64_t i, int64_t j) const {
    return element(e_.rows, i, j) - (e_.center == nullptr ? 0 : e_.center[j]);
  }

  __device__ float number(int64_t i, int64_t j) const {
    if (j >= e_.rows.cols) return 0;
    const float x = centred(i, j);
    return (signs_[j / 32] >> (j % 32) & 1) != 0 ? x * e_.sign_scale : x * -e_.sign_scale;
  }

  // Butterflies of numbers that are 1 and 2 apart, or `half` and 2 `half`.
  __device__ static void butterflies(float& a, float& b, float& c, float& d) {
    const float ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
    a = ab + cd;
    b = a_b + c_d;
    c = ab - cd;
    d = a_b - c_d;
  }

  __device__ void load(int64_t i) const {
    for (int64_t j = 4 * threadIdx.x; j < e_.width; j += 4 * kEncodeThreads) {
      float x[4];
#pragma unroll
      for (int p = 0; p < 4; ++p) x[p] = number(i, j + p);
      butterflies(x[0], x[1], x[2], x[3]);
#pragma unroll
      for (int p = 0; p < 4; ++p) row_[j + p] = x[p];
    }
    __syncthreads();
  }

  __device__ void rotate() const {
    const int64_t n = int64_t{1} << e_.log2_block;
    int64_t half = 4;  // load() did those before
    for (; 4 * half <= n; half *= 4) {
      for (int64_t p = threadIdx.x; p < e_.width / 4; p += kEncodeThreads) {
        float* x = row_ + p / half * 4 * half + p % half;
        butterflies(x[0], x[half], x[2 * half], x[3 * half]);
      }
      __syncthreads();
    }
    if (half < n) {
      for (int64_t p = threadIdx.x; p < e_.width / 2; p += kEncodeThreads) {
        float* x = row_ + p / half * 2 * half + p % half;
        const float a = x[0], b = x[half];
        x[0] = a + b;
        x[half] = a - b;
      }
      __syncthreads();
    }
    const int64_t blocks = e_.width / n;
    if (blocks == 1) return;
    // Reflection across the blocks: I - 2/m 11^T mixes them without a power of two.
    const float weight = 2.0f / static_cast<float>(blocks);
    for (int64_t j = threadIdx.x; j < n; j += kEncodeThreads) {
      float total = 0;
      for (int64_t b = 0; b < blocks; ++b) total += row_[b * n + j];
      for (int64_t b = 0; b < blocks; ++b) row_[b * n + j] -= weight * total;
    }
    __syncthreads();
  }

  // A row that is not coded: its length alone, which no rotation changes.
  __device__ RowSums measure(int64_t i, int8_t* codes) const {
    pad(i, codes);
    double squares[1] = {};
    for (int64_t j = threadIdx.x; j < e_.rows.cols; j += kEncodeThreads) {
      const double x = centred(i, j);
      squares[0] += x * x;
    }
    block_sum(squares);
    RowSums result;
    result.length_squared = result.error_squared = squares[0];
    return result;
  }

  __device__ RowSums quantise(int64_t i, int8_t* codes) const {
    constexpr int kLevels = 127;
    unsigned bits = 0;
    for (int64_t j = threadIdx.x; j < e_.width; j += kEncodeThreads) {
      bits = max(bits, __float_as_uint(row_[j]) & 0x7fffffffu);
    }
    const float largest = block_largest(bits);
    // Not coded: too short for a scale, or with numbers that overflowed (a NaN fails `<` too).
    const bool coded = largest >= kShortestRow && largest < static_cast<float>(kLargestScore);
    const float scale = coded ? largest / static_cast<float>(kLevels) : 0.0f;
    const float inverse = coded ? static_cast<float>(kLevels) / largest : 0.0f;
    double sums[4] = {};  // length, error, codes, their squares
    for (int64_t j = threadIdx.x; j < e_.width; j += kEncodeThreads) {
      const float x = row_[j];
      const float rounded = coded ? rintf(x * inverse) : 0.0f;
      const int code = static_cast<int>(rounded);
      codes[code_offset(i, j, e_.width)] = static_cast<int8_t>(code);
      const double rest = static_cast<double>(x) - static_cast<double>(scale) * rounded;
      sums[0] += static_cast<double>(x) * x;
      sums[1] += rest * rest;
      sums[2] += code;
      sums[3] += code * code;
    }
    block_sum(sums);
    RowSums result;
    result.scale = scale;
    result.length_squared = sums[0];
    result.error_squared = sums[1];
    result.code_sum = static_cast<int32_t>(sums[2]);
    result.code_length_squared = sums[3];
    return result;
  }

  Encoding e_;
  float* row_;
  uint32_t* signs_;
};

}  // namespace fastclip::cuda
