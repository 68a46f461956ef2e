// Rows to int8 codes: centre, rotate, round (screen.h). Vectors have a fixed number of lanes, which
// the compiler makes of what the instruction set has.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kEncodeLanes = 16;

// Narrower instruction sets take several registers for one of these.
typedef float Floats16 __attribute__((vector_size(64)));
typedef int32_t Ints16 __attribute__((vector_size(64)));
typedef int8_t Bytes16 __attribute__((vector_size(16)));

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

// One step of butterflies inside a vector: of partners a and b, the first becomes a + b and the
// second a - b.
inline Floats16 butterfly(Floats16 a, Ints16 partner, Floats16 sign) {
#if defined(__clang__)
  Floats16 b;
  for (int l = 0; l < 16; ++l) b[l] = a[partner[l]];
#else
  const Floats16 b = __builtin_shuffle(a, partner);
#endif
  return sign * a + b;
}

// The four butterflies whose partners are less than sixteen elements apart.
inline void short_butterflies(float* x, int64_t n) {
  constexpr Ints16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr Floats16 by1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
  constexpr Floats16 by2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
  constexpr Floats16 by4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
  constexpr Floats16 by8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
  for (int64_t i = 0; i < n; i += 16) {
    Floats16 v = load<Floats16>(x + i);
    v = butterfly(v, lanes ^ 1, by1);
    v = butterfly(v, lanes ^ 2, by2);
    v = butterfly(v, lanes ^ 4, by4);
    v = butterfly(v, lanes ^ 8, by8);
    __builtin_memcpy(x + i, &v, sizeof(v));
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
  Ints16 largest = {};  // positive floats are ordered as their bits are; a NaN is above infinity
  for (int64_t i = 0; i < n; i += 16) {
    const Ints16 magnitude = load<Ints16>(x + i) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t bits = 0;
  for (int l = 0; l < 16; ++l) bits = largest[l] > bits ? largest[l] : bits;
  float result;
  __builtin_memcpy(&result, &bits, sizeof(bits));
  return result;
}

inline float sum_lanes(Floats16 v) {
  float sums[16];
  __builtin_memcpy(sums, &v, sizeof(v));
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

// A row that is not coded: too short for a scale, or with numbers that overflowed.
inline void measure(const float* x, int64_t width, int8_t* codes, RowSums& sums) {
  for (int64_t i = 0; i < width; ++i) {
    codes[i] = 0;
    sums.length_squared += static_cast<double>(x[i]) * x[i];
  }
  sums.error_squared = sums.length_squared;
}

// The largest sum of numbers of either sign of the codes that CodeLimits names.
inline float largest_strip(const float* x, int64_t width) {
  constexpr Ints16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr Floats16 plus = Floats16{} + 1;
  const auto add = [&](Floats16 v) {
    v = butterfly(v, lanes ^ 1, plus);
    v = butterfly(v, lanes ^ 4, plus);
    return butterfly(v, lanes ^ 8, plus);
  };
  Floats16 largest = {};
  for (int64_t i = 0; i < width; i += 16) {
    const Floats16 v = load<Floats16>(x + i), zero = {};
    const Floats16 above = add(v > 0 ? v : zero), below = add(v < 0 ? -v : zero);
    const Floats16 larger = above > below ? above : below;
    largest = larger > largest ? larger : largest;
  }
  return largest_magnitude(reinterpret_cast<const float*>(&largest), 16);
}

// The number that the largest code stands for: the largest of the row, or more.
inline float code_range(const float* x, int64_t width, float largest, CodeLimits limits) {
  if (!limits.narrow_sums) return largest;
  // Eight codes may be rounded up by a half each.
  constexpr float kMost = static_cast<float>(kLargestStrip) - 4.01f;
  const float range = largest_strip(x, width) * (static_cast<float>(limits.largest) / kMost);
  return range > largest ? range : largest;
}

// Codes of one rotated row and the sums that its bounds are made of.
inline void quantise(const float* x, int64_t width, CodeLimits limits, int8_t* codes,
                     RowSums& sums) {
  const float largest = largest_magnitude(x, width);
  sums = {};
  // A NaN fails `<` too.
  const bool coded = largest >= kShortestRow && largest < static_cast<float>(kLargestScore) &&
                     width <= kWidestCoded;
  if (!coded) return measure(x, width, codes, sums);
  const float range = code_range(x, width, largest, limits);
  const float scale = range / static_cast<float>(limits.largest);
  const float inverse = static_cast<float>(limits.largest) / range;
  // In units of the scale, so that no square is too small or too large for float32. The sum of the
  // codes stays below 2^24: exact.
  Floats16 length = {}, error = {}, code_sum = {}, code_length = {};
  for (int64_t i = 0; i < width; i += 16) {
    constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
    const Floats16 scaled = load<Floats16>(x + i) * inverse;
    const Floats16 shifted = scaled + kToInteger;
    const Floats16 rounded = shifted - kToInteger;
    const Floats16 rest = scaled - rounded;
    // The integer stands in the lowest bits.
    const Bytes16 bytes = __builtin_convertvector((Ints16)shifted, Bytes16);
    __builtin_memcpy(codes + i, &bytes, sizeof(bytes));
    code_sum += rounded;
    code_length += rounded * rounded;
    length += scaled * scaled;
    error += rest * rest;
  }
  // Roundings: of every sum; and `scaled` is off by at most 2^-22 of itself, with it the error.
  const double unit = static_cast<double>(scale) * scale;
  const double sum_error = 1 + static_cast<double>(width / 16 + 16) * 0x1p-24;
  sums.scale = scale;
  sums.length_squared = unit * sum_error * (1 + 0x1p-21) * sum_lanes(length);
  const double rest = __builtin_sqrt(unit * sum_error * sum_lanes(error)) +
                      0x1p-22 * __builtin_sqrt(sums.length_squared);
  sums.error_squared = rest * rest;
  sums.code_sum = static_cast<int32_t>(sum_lanes(code_sum));
  sums.code_length_squared = sum_error * sum_lanes(code_length);
}

inline void encode_rows(const Matrix& rows, const Rotation& rotation, const float* center,
                        CodeLimits limits, float* scratch, int8_t* codes, RowSums* sums) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    load_centred(rows, i, rotation, center, scratch);
    rotate(scratch, rotation);
    quantise(scratch, rotation.width, limits, codes + i * rotation.width, sums[i]);
  }
}

}  // namespace
}  // namespace fastclip::cpu
