#include "screen.h"

#include <algorithm>
#include <limits>

#include "fastclip/element.h"

namespace fastclip::cpu {
namespace {

constexpr double kSlack = 0x1p-20;    // screen.h: covers the float32 evaluation of the bounds
constexpr double kUnderflow = 1e-37;  // covers what denormal products may have lost

uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double center_length(const ScreenKeys& keys) {
  double squares = 0;
  for (int64_t j = 0; j < keys.cols; ++j) {
    squares += static_cast<double>(keys.center[j]) * keys.center[j];
  }
  return std::sqrt(squares) * (1 + kSlack);
}

}  // namespace

SeededRotation::SeededRotation(int64_t width) : width_(width), log2_block_(0), signs_(width) {
  while (width % (int64_t{2} << log2_block_) == 0) ++log2_block_;
  const auto scale = static_cast<float>(std::pow(2.0, -0.5 * log2_block_));
  for (int64_t i = 0; i < width; ++i) signs_[i] = (mix(i) & 1) != 0 ? scale : -scale;
}

RowBounds bound_row(const RowSums& sums, double rotation_error) {
  const double length = std::sqrt(sums.length_squared);
  if (!std::isfinite(length)) {
    return {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  }
  const double norm = length * (1 + 2 * rotation_error + kSlack) + kUnderflow;
  const double error = std::sqrt(sums.error_squared) + rotation_error * norm + kUnderflow;
  return {error + kSlack * (error + norm), norm};
}

CodedQueries::CodedQueries(const Kernels& kernels, const Matrix& queries, const ScreenKeys& keys)
    : codes(queries.rows * keys.width),
      coefficients(queries.rows),
      gamma(queries.rows),
      scale(queries.rows),
      offset(queries.rows) {
  const SeededRotation rotation(keys.width);
  std::vector<float> scratch(keys.width);
  std::vector<RowSums> sums(queries.rows);
  const std::vector<float> origin(queries.cols);
  kernels.encode_rows(queries, rotation.view(), origin.data(), kernels.query_levels, scratch.data(),
                      codes.data(), sums.data());

  const double center = center_length(keys);
  for (int64_t i = 0; i < queries.rows; ++i) {
    const RowBounds bounds = bound_row(sums[i], rotation.error());
    longest = std::max(longest, bounds.norm);
    for (int64_t j = 0; j < queries.cols; ++j) {
      offset[i] +=
          static_cast<double>(element(queries, i, j)) * static_cast<double>(keys.center[j]);
    }
    scale[i] = sums[i].scale;
    if (sums[i].scale == 0) {  // not coded: nothing can be said of its scores
      scale[i] = 1;
      gamma[i] = std::numeric_limits<float>::infinity();
      continue;
    }
    const double rounding = 0x1p-23 * bounds.norm;
    coefficients[i].alpha =
        round_up_to_float(std::sqrt(sums[i].code_length_squared) * (1 + kSlack));
    coefficients[i].beta = round_up_to_float((bounds.error + rounding) / scale[i] * (1 + kSlack));
    coefficients[i].correction = -128 * sums[i].code_sum;
    gamma[i] = round_up_to_float((rounding * center + 0x1p-148) / scale[i] * (1 + kSlack));
  }
}

double longest_key(const ScreenKeys& keys) {
  float longest = 0;
  for (int64_t j = 0; j < keys.keys; ++j) longest = std::max(longest, keys.norm[j]);
  return longest + center_length(keys);
}

PairScorer::PairScorer(const Kernels& kernels, const Matrix& queries, const Matrix& keys)
    : kernels_(kernels),
      keys_(keys),
      row_(lane_steps(keys.cols) * kLanes),
      query_rows_(queries.rows * row_, Contents::kAnything) {
  kernels.load_rows(queries, query_rows_.get());
}

void PairScorer::prefetch(int64_t key) const {
  const int64_t bytes = keys_.cols * size_of(keys_.dtype);
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(keys_.row(key) + at);
}

}  // namespace fastclip::cpu
