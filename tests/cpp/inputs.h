// Random inputs, the same in every run.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fastclip/element.h"
#include "fastclip/exact_score.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"

namespace fastclip::tests {

inline uint64_t random_state;

inline uint64_t random_bits() {  // splitmix64
  uint64_t x = random_state += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

inline int64_t random_below(int64_t n) { return static_cast<int64_t>(random_bits() % n); }

// What the numbers are like: between -1 and 1, of many magnitudes, or -1, 0, 1 for many ties.
enum class Kind { kPlain, kWide, kTies };

inline float random_number(Kind kind) {
  if (kind == Kind::kTies) return static_cast<float>(random_below(3) - 1);
  const float x = static_cast<float>(random_below(1 << 25) - (1 << 24)) * 0x1p-24f;
  return kind == Kind::kPlain ? x : std::ldexp(x, static_cast<int>(random_below(21)) - 15);
}

// Rows with a gap behind each.
struct Rows {
  Rows(int64_t rows, int64_t cols, DType dtype, Kind kind)
      : rows(rows),
        cols(cols),
        stride(cols + 3),
        dtype(dtype),
        bytes(rows * stride * size_of(dtype)) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) set(i, j, random_number(kind));
    }
  }

  Matrix view() const { return {bytes.data(), dtype, rows, cols, stride}; }

  void set(int64_t i, int64_t j, float x) {
    char* to = bytes.data() + (i * stride + j) * size_of(dtype);
    if (dtype == DType::kFloat32) {
      std::memcpy(to, &x, sizeof(x));
    } else {
      const uint16_t half = dtype == DType::kFloat16 ? float_to_half(x) : float_to_bfloat16(x);
      std::memcpy(to, &half, sizeof(half));
    }
  }

  void copy_row(int64_t from, int64_t to) {
    const int64_t size = stride * size_of(dtype);
    std::memcpy(bytes.data() + to * size, bytes.data() + from * size, size);
  }

  int64_t rows, cols, stride;
  DType dtype;
  std::vector<char> bytes;
};

// exact_score.h, word by word.
inline float exact_score(const Matrix& queries, int64_t i, const Matrix& keys, int64_t j) {
  double lane[kLanes] = {};
  for (int64_t c = 0; c < queries.cols; ++c) {
    lane[c % kLanes] +=
        static_cast<double>(element(queries, i, c)) * static_cast<double>(element(keys, j, c));
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return static_cast<float>(lane[0]);
}

}  // namespace fastclip::tests
