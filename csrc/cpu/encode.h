// Rows to int8 codes: centre, rotate, round (screen.h). Included by each instruction set's file:
// vectors of a fixed number of lanes, which the compiler makes of what that set has, and nothing
// from the standard library.
#pragma once

#include <cstdint>

#include "fastclip/float16.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "kernels.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kEncodeLanes = 16;

// Narrower instruction sets take several registers for one of these.
typedef float Floats16 __attribute__((vector_size(64)));
typedef int32_t Ints16 __attribute__((vector_size(64)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef int8_t Bytes8 __attribute__((vector_size(8)));
typedef double Doubles8 __attribute__((vector_size(64)));

template <class Vec>
Vec load_vector(const void* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

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

// Butterflies of a vector with itself: each with its partner, a + b in the one and b - a in the
// other.
inline Floats16 butterfly(Floats16 a, Ints16 partner, Floats16 sign) {
#if defined(__clang__)
  Floats16 b;
  for (int l = 0; l < 16; ++l) b[l] = a[partner[l]];
#else
  const Floats16 b = __builtin_shuffle(a, partner);
#endif
  return sign * a + b;
}

// The four butterflies that stay within sixteen elements.
inline void short_butterflies(float* x, int64_t n) {
  constexpr Ints16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr Floats16 by1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
  constexpr Floats16 by2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
  constexpr Floats16 by4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
  constexpr Floats16 by8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
  for (int64_t i = 0; i < n; i += 16) {
    Floats16 v = load_vector<Floats16>(x + i);
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
    const Ints16 magnitude = load_vector<Ints16>(x + i) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t bits = 0;
  for (int l = 0; l < 16; ++l) bits = largest[l] > bits ? largest[l] : bits;
  float result;
  __builtin_memcpy(&result, &bits, sizeof(bits));
  return result;
}

inline double sum_lanes(Doubles8 v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// Codes of one rotated row and the sums that its bounds are made of.
inline void quantise(const float* x, int64_t width, int levels, int8_t* codes, RowSums& sums) {
  const float largest = largest_magnitude(x, width);
  sums = {};
  // Not coded: too short for a scale, or with numbers that overflowed (a NaN fails `<` too).
  const bool coded = largest >= kShortestRow && largest < static_cast<float>(kLargestScore);
  const float scale = coded ? largest / static_cast<float>(levels) : 0.0f;
  const float inverse = coded ? static_cast<float>(levels) / largest : 0.0f;
  Doubles8 length = {}, error = {};
  Ints8 code_sum = {}, code_length = {};
  for (int64_t i = 0; i < width; i += 8) {
    constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
    const Floats8 value = load_vector<Floats8>(x + i);
    const Floats8 scaled = coded ? value * inverse : Floats8{};
    const Floats8 rounded = (scaled + kToInteger) - kToInteger;
    const Ints8 code = __builtin_convertvector(rounded, Ints8);
    const Bytes8 bytes = __builtin_convertvector(code, Bytes8);
    __builtin_memcpy(codes + i, &bytes, sizeof(bytes));
    code_sum += code;
    code_length += code * code;
    const Doubles8 wide = __builtin_convertvector(value, Doubles8);
    const Doubles8 rest =
        wide - static_cast<double>(scale) * __builtin_convertvector(rounded, Doubles8);
    length += wide * wide;
    error += rest * rest;
  }
  sums.scale = scale;
  sums.length_squared = sum_lanes(length);
  sums.error_squared = sum_lanes(error);
  for (int l = 0; l < 8; ++l) {
    sums.code_sum += code_sum[l];
    sums.code_length_squared += code_length[l];
  }
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
