// Rows to int8 codes: centre, rotate, round (screen.h). Included by each instruction set's file, so
// plain loops over fixed numbers of lanes, which the compiler turns into that set's vectors, and
// nothing from the standard library.
#pragma once

#include <cstdint>

#include "fastclip/float16.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "kernels.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kEncodeLanes = 16;

template <class Stored, class ToFloat>
void load_centred(const char* row, int64_t cols, const Rotation& rotation, const float* center,
                  float* x, ToFloat to_float) {
  for (int64_t i = 0; i < cols; ++i) {
    Stored stored;
    __builtin_memcpy(&stored, row + i * static_cast<int64_t>(sizeof(Stored)), sizeof(Stored));
    x[i] = (to_float(stored) - center[i]) * rotation.signs[i];
  }
  for (int64_t i = cols; i < rotation.width; ++i) x[i] = 0;
}

inline void load_centred(const Matrix& rows, int64_t i, const Rotation& rotation,
                         const float* center, float* x) {
  const char* row = rows.row(i);
  switch (rows.dtype) {
    case DType::kFloat32:
      return load_centred<float>(row, rows.cols, rotation, center, x, [](float v) { return v; });
    case DType::kFloat16:
      return load_centred<uint16_t>(row, rows.cols, rotation, center, x,
                                    [](uint16_t v) { return half_to_float(v); });
    case DType::kBFloat16:
      return load_centred<uint16_t>(row, rows.cols, rotation, center, x,
                                    [](uint16_t v) { return bfloat16_to_float(v); });
  }
}

// Sixteen elements at a time through the four shortest butterflies.
inline void short_butterflies(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    float a[16], b[16];
    for (int j = 0; j < 8; ++j) {
      a[j] = x[i + j] + x[i + j + 8];
      a[j + 8] = x[i + j] - x[i + j + 8];
    }
    for (int j = 0; j < 16; ++j) b[j] = (j & 4) ? a[j ^ 4] - a[j] : a[j] + a[j ^ 4];
    for (int j = 0; j < 16; ++j) a[j] = (j & 2) ? b[j ^ 2] - b[j] : b[j] + b[j ^ 2];
    for (int j = 0; j < 16; ++j) x[i + j] = (j & 1) ? a[j ^ 1] - a[j] : a[j] + a[j ^ 1];
  }
}

// x -> R x, where `signs` has already been applied together with the normalisation.
inline void rotate(float* x, const Rotation& rotation) {
  const int64_t n = int64_t{1} << rotation.log2_block;
  const int64_t blocks = rotation.width / n;
  short_butterflies(x, rotation.width);
  for (int64_t half = 16; half < n; half *= 2) {
    for (int64_t i = 0; i < rotation.width; i += 2 * half) {
      for (int64_t j = i; j < i + half; ++j) {
        const float a = x[j], b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
    }
  }
  if (blocks == 1) return;
  // Reflection across the blocks: I - 2/m 11^T mixes them without a power of two.
  const float weight = 2.0f / static_cast<float>(blocks);
  for (int64_t i = 0; i < n; i += kEncodeLanes) {
    float total[kEncodeLanes] = {};
    for (int64_t b = 0; b < blocks; ++b) {
      for (int l = 0; l < kEncodeLanes; ++l) total[l] += x[b * n + i + l];
    }
    for (int64_t b = 0; b < blocks; ++b) {
      for (int l = 0; l < kEncodeLanes; ++l) x[b * n + i + l] -= weight * total[l];
    }
  }
}

inline float largest_magnitude(const float* x, int64_t n) {
  float largest[kEncodeLanes] = {};
  for (int64_t i = 0; i < n; i += kEncodeLanes) {
    for (int l = 0; l < kEncodeLanes; ++l) {
      const float a = __builtin_fabsf(x[i + l]);
      largest[l] = a > largest[l] ? a : largest[l];
    }
  }
  float result = 0;
  for (int l = 0; l < kEncodeLanes; ++l) result = largest[l] > result ? largest[l] : result;
  return result;
}

inline double sum_lanes(const double* lanes) {
  double total = 0;
  for (int l = 0; l < kEncodeLanes; ++l) total += lanes[l];
  return total;
}

// Codes of one rotated row and the sums that its bounds are made of.
inline void quantise(const float* x, int64_t width, int levels, int8_t* codes, RowSums& sums) {
  const float largest = largest_magnitude(x, width);
  sums = {};
  // Not coded: too short for a scale, or with numbers that overflowed (a NaN fails `<` too).
  const bool coded = largest >= kShortestRow && largest < static_cast<float>(kLargestScore);
  const float scale = coded ? largest / static_cast<float>(levels) : 0.0f;
  const float inverse = coded ? static_cast<float>(levels) / largest : 0.0f;
  double length[kEncodeLanes] = {}, error[kEncodeLanes] = {}, code_length[kEncodeLanes] = {};
  int32_t code_sum[kEncodeLanes] = {};
  for (int64_t i = 0; i < width; i += kEncodeLanes) {
    float rounded[kEncodeLanes];
    for (int l = 0; l < kEncodeLanes; ++l) {
      constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
      const float scaled = coded ? x[i + l] * inverse : 0.0f;
      rounded[l] = (scaled + kToInteger) - kToInteger;
    }
    for (int l = 0; l < kEncodeLanes; ++l) codes[i + l] = static_cast<int8_t>(rounded[l]);
    for (int l = 0; l < kEncodeLanes; ++l) code_sum[l] += static_cast<int32_t>(rounded[l]);
    for (int l = 0; l < kEncodeLanes; ++l) {
      const double wide = x[i + l], code = rounded[l];
      const double rest = wide - static_cast<double>(scale) * code;
      length[l] += wide * wide;
      error[l] += rest * rest;
      code_length[l] += code * code;
    }
  }
  sums.scale = scale;
  sums.length_squared = sum_lanes(length);
  sums.error_squared = sum_lanes(error);
  sums.code_length_squared = sum_lanes(code_length);
  for (int l = 0; l < kEncodeLanes; ++l) sums.code_sum += code_sum[l];
}

inline void encode_rows(const Matrix& rows, const Rotation& rotation, const float* center,
                        int levels, float* scratch, int8_t* codes, RowSums* sums) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    load_centred(rows, i, rotation, center, scratch);
    rotate(scratch, rotation);
    quantise(scratch, rotation.width, levels, codes + i * rotation.width, sums[i]);
  }
}

}  // namespace
}  // namespace fastclip::cpu
