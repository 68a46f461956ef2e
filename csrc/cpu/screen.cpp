#include "screen.h"

#include <algorithm>

#include "fastclip/element.h"

namespace fastclip::cpu {
namespace {

double center_length(const ScreenKeys& keys) {
  double squares = 0;
  for (int64_t j = 0; j < keys.cols; ++j) {
    squares += static_cast<double>(keys.center[j]) * keys.center[j];
  }
  return std::sqrt(squares) * (1 + kSlack);
}

}  // namespace

SeededRotation::SeededRotation(int64_t width)
    : width_(width), log2_block_(rotation_log2_block(width)), signs_(width) {
  const float scale = rotation_scale(log2_block_);
  for (int64_t i = 0; i < width; ++i) signs_[i] = rotation_keeps_sign(i) ? scale : -scale;
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
    const QueryBounds bounds = bound_query(sums[i], rotation.error(), center);
    longest = std::max(longest, bounds.norm);
    for (int64_t j = 0; j < queries.cols; ++j) {
      offset[i] +=
          static_cast<double>(element(queries, i, j)) * static_cast<double>(keys.center[j]);
    }
    scale[i] = bounds.scale;
    gamma[i] = bounds.gamma;
    coefficients[i] = bounds.coefficients;
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
      query_rows_(queries.rows * lane_steps(keys.cols) * kLanes, Contents::kAnything) {
  kernels.load_rows(queries, query_rows_.get());
}

void PairScorer::prefetch(int64_t key) const {
  const int64_t bytes = keys_.cols * size_of(keys_.dtype);
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(keys_.row(key) + at);
}

}  // namespace fastclip::cpu
