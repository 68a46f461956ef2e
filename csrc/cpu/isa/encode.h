// Rows to int8 codes: centre, rotate, round (screen.h). Written once over vectors of W floats.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace fastclip::cpu {
namespace {

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

// Sixteen numbers in vectors of W: a fixed number of lanes, so that sums have one order whatever W
// is. GCC takes apart into single numbers what is wider than the registers.
template <int W>
struct Sixteen {
  using V = Vectors<W>;
  using Floats = typename V::Floats;
  using Ints = typename V::Ints;
  static constexpr int kVectors = 16 / W;
  Floats v[kVectors];

  static Sixteen load(const float* x) {
    Sixteen s;
    for (int n = 0; n < kVectors; ++n) s.v[n] = V::load(x + n * W);
    return s;
  }
  void store(float* x) const {
    for (int n = 0; n < kVectors; ++n) V::store(x + n * W, v[n]);
  }

  // One step of butterflies: of numbers `Apart`, the first becomes a + b and the second a - b, or
  // a + b too if they are only added.
  template <int Apart, bool kOnlyAdded = false>
  void butterfly() {
    if constexpr (Apart >= W) {
      for (int n = 0; n < kVectors; ++n) {
        if ((n & (Apart / W)) != 0) continue;
        const Floats a = v[n], b = v[n + Apart / W];
        v[n] = a + b;
        v[n + Apart / W] = kOnlyAdded ? a + b : a - b;
      }
    } else {
      int32_t partners[W];
      float signs[W];
      for (int w = 0; w < W; ++w) {
        partners[w] = w ^ Apart;
        signs[w] = (w & Apart) != 0 && !kOnlyAdded ? -1.0f : 1.0f;
      }
      Ints from;
      __builtin_memcpy(&from, partners, sizeof(from));
      const Floats sign = V::load(signs);
      for (int n = 0; n < kVectors; ++n) v[n] = sign * v[n] + V::shuffle(v[n], v[n], from);
    }
  }

  float sum() const {
    float sums[16];
    store(sums);
    for (int half = 8; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
    }
    return sums[0];
  }
};

// The four butterflies whose partners are less than sixteen elements apart.
template <int W>
void short_butterflies(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    auto v = Sixteen<W>::load(x + i);
    v.template butterfly<1>();
    v.template butterfly<2>();
    v.template butterfly<4>();
    v.template butterfly<8>();
    v.store(x + i);
  }
}

// x -> R x, where `signs` has already been applied together with the normalisation.
template <int W>
void rotate(float* x, const Rotation& rotation) {
  const int64_t n = int64_t{1} << rotation.log2_block;
  const int64_t blocks = rotation.width / n;
  short_butterflies<W>(x, rotation.width);
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
  for (int64_t i = 0; i < n; i += 16) {
    float total[16] = {};
    for (int64_t b = 0; b < blocks; ++b) {
      for (int l = 0; l < 16; ++l) total[l] += x[b * n + i + l];
    }
    for (int64_t b = 0; b < blocks; ++b) {
      for (int l = 0; l < 16; ++l) x[b * n + i + l] -= weight * total[l];
    }
  }
}

template <int W>
float largest_magnitude(const float* x, int64_t n) {
  using Ints = typename Vectors<W>::Ints;
  Ints largest = {};  // positive floats are ordered as their bits are; a NaN is above infinity
  for (int64_t i = 0; i < n; i += W) {
    const Ints magnitude = load<Ints>(x + i) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t lanes[W], bits = 0;
  __builtin_memcpy(lanes, &largest, sizeof(lanes));
  for (int w = 0; w < W; ++w) bits = lanes[w] > bits ? lanes[w] : bits;
  float result;
  __builtin_memcpy(&result, &bits, sizeof(bits));
  return result;
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
template <int W>
float largest_strip(const float* x, int64_t width) {
  using V = Vectors<W>;
  Sixteen<W> largest = {};
  for (int64_t i = 0; i < width; i += 16) {
    auto above = Sixteen<W>::load(x + i), below = above;
    for (int n = 0; n < Sixteen<W>::kVectors; ++n) {
      above.v[n] = V::max(above.v[n], V::fill(0));
      below.v[n] = V::max(-below.v[n], V::fill(0));
    }
    for (Sixteen<W>* sums : {&above, &below}) {
      sums->template butterfly<8, true>();
      sums->template butterfly<4, true>();
      sums->template butterfly<1, true>();
      for (int n = 0; n < Sixteen<W>::kVectors; ++n) {
        largest.v[n] = V::max(largest.v[n], sums->v[n]);
      }
    }
  }
  float lanes[16];
  largest.store(lanes);
  return largest_magnitude<W>(lanes, 16);
}

// The number that the largest code stands for: the largest of the row, or more.
template <int W>
float code_range(const float* x, int64_t width, float largest, CodeLimits limits) {
  if (!limits.narrow_sums) return largest;
  // Eight codes may be rounded up by a half each.
  constexpr float kMost = static_cast<float>(kLargestStrip) - 4.01f;
  const float range = largest_strip<W>(x, width) * (static_cast<float>(limits.largest) / kMost);
  return range > largest ? range : largest;
}

// Codes of one rotated row and the sums that its bounds are made of. Overwrites the row.
template <int W>
void quantise(float* x, int64_t width, CodeLimits limits, int8_t* codes, RowSums& sums) {
  const float largest = largest_magnitude<W>(x, width);
  sums = {};
  // A NaN fails `<` too.
  const bool coded = largest >= kShortestRow && largest < static_cast<float>(kLargestScore) &&
                     width <= kWidestCoded;
  if (!coded) return measure(x, width, codes, sums);
  const float range = code_range<W>(x, width, largest, limits);
  const float scale = range / static_cast<float>(limits.largest);
  const float inverse = static_cast<float>(limits.largest) / range;
  // In units of the scale, so that no square is too small or too large for float32. The sum of the
  // codes stays below 2^24: exact.
  Sixteen<W> length = {}, error = {}, code_sum = {}, code_length = {};
  for (int64_t i = 0; i < width; i += 16) {
    constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
    auto row = Sixteen<W>::load(x + i);
    for (int n = 0; n < Sixteen<W>::kVectors; ++n) {
      const auto scaled = row.v[n] * inverse;
      row.v[n] = scaled + kToInteger;
      const auto rounded = row.v[n] - kToInteger;
      const auto rest = scaled - rounded;
      code_sum.v[n] += rounded;
      code_length.v[n] += rounded * rounded;
      length.v[n] += scaled * scaled;
      error.v[n] += rest * rest;
    }
    row.store(x + i);
  }
  for (int64_t i = 0; i < width; ++i) {  // the integers stand in the lowest bits
    codes[i] = static_cast<int8_t>(__builtin_bit_cast(int32_t, x[i]));
  }
  // Roundings: of every sum; and `scaled` is off by at most 2^-22 of itself, with it the error.
  const double unit = static_cast<double>(scale) * scale;
  const double sum_error = 1 + static_cast<double>(width / 16 + 16) * 0x1p-24;
  sums.scale = scale;
  sums.length_squared = unit * sum_error * (1 + 0x1p-21) * length.sum();
  const double rest = __builtin_sqrt(unit * sum_error * error.sum()) +
                      0x1p-22 * __builtin_sqrt(sums.length_squared);
  sums.error_squared = rest * rest;
  sums.code_sum = static_cast<int32_t>(code_sum.sum());
  sums.code_length_squared = sum_error * code_length.sum();
}

template <int W>
void encode_rows(const Matrix& rows, const Rotation& rotation, const float* center,
                 CodeLimits limits, float* scratch, int8_t* codes, RowSums* sums) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    load_centred(rows, i, rotation, center, scratch);
    rotate<W>(scratch, rotation);
    quantise<W>(scratch, rotation.width, limits, codes + i * rotation.width, sums[i]);
  }
}

}  // namespace
}  // namespace fastclip::cpu
