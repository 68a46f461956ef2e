#include "screen.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "fastclip/element.h"
#include "ops.h"

namespace fastclip::cpu {
namespace {

std::atomic<bool> screen_always{false};

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

void always_screen(bool always) { screen_always = always; }
bool screens_always() { return screen_always; }

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

double PairScorer::query_length(int64_t i) const {
  const int64_t row = lane_steps(keys_.cols) * kLanes;
  const double* query = query_rows_.get() + i * row;
  double squares[4] = {};
  for (int64_t j = 0; j < row; ++j) squares[j % 4] += query[j] * query[j];
  return std::sqrt((squares[0] + squares[1]) + (squares[2] + squares[3])) * (1 + kSlack);
}

void PairScorer::prefetch(int64_t key) const {
  const int64_t bytes = keys_.cols * size_of(keys_.dtype);
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(keys_.row(key) + at);
}

BlockScreen::BlockScreen(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
                         const ScreenKeys* codes, double longest_key)
    : kernels_(kernels),
      keys_(keys),
      codes_(codes),
      longest_key_(longest_key),
      scorer_(kernels, queries, keys),
      coefficients_(queries.rows),
      gamma_(queries.rows),
      scale_(queries.rows, 1.0),
      offset_(queries.rows),
      query_codes_(codes != nullptr ? queries.rows * codes->width : 0, Contents::kAnything),
      query_floats_(codes != nullptr ? 0 : queries.rows * queries.cols, Contents::kAnything),
      key_floats_(codes != nullptr ? 0 : kMaxPanelKeys * keys.cols) {
  if (codes != nullptr) {
    encode_queries(queries);
    return;
  }
  kernels.value.pack(queries, 1, query_floats_.get());
  for (int64_t i = 0; i < queries.rows; ++i) {
    const QueryBounds bounds = bound_float_query(scorer_.query_length(i), queries.cols);
    longest_query_ = std::max(longest_query_, bounds.norm);
    gamma_[i] = bounds.gamma;
    coefficients_[i] = bounds.coefficients;
  }
}

void BlockScreen::encode_queries(const Matrix& queries) {
  const SeededRotation rotation(codes_->width);
  std::vector<float> scratch(codes_->width);
  std::vector<RowSums> sums(queries.rows);
  const std::vector<float> origin(queries.cols);
  kernels_.encode_rows(queries, rotation.view(), origin.data(), kernels_.query_levels,
                       scratch.data(), query_codes_.get(), sums.data());
  const double center = center_length(*codes_);
  for (int64_t i = 0; i < queries.rows; ++i) {
    const QueryBounds bounds = bound_query(sums[i], rotation.error(), center);
    longest_query_ = std::max(longest_query_, bounds.norm);
    for (int64_t j = 0; j < queries.cols; ++j) {
      offset_[i] +=
          static_cast<double>(element(queries, i, j)) * static_cast<double>(codes_->center[j]);
    }
    scale_[i] = bounds.scale;
    gamma_[i] = bounds.gamma;
    coefficients_[i] = bounds.coefficients;
  }
}

bool BlockScreen::go_to(int64_t first, int64_t last) {
  first_key_ = first * kPanel;
  const int64_t count = std::min(last * kPanel, keys_.rows) - first_key_;
  if (codes_ != nullptr) {
    panels_ = *codes_;
    panels_.codes += first_key_ * panels_.width;
    panels_.scale += first_key_;
    panels_.error += first_key_;
    panels_.norm += first_key_;
    panels_.keys = count;
    return longest_query_ * longest_key_ < kLargestScore;
  }
  static const std::vector<float> ones(kMaxPanelKeys, 1.0f), zeros(kMaxPanelKeys, 0.0f);
  kernels_.value.pack(keys_.slice(first_key_, first_key_ + count), kPanel, key_floats_.get());
  kernels_.sum_squares(key_floats_.get(), ceil_div(count, kPanel), keys_.cols, norms_);
  // Roundings of the sum, and squares that are too small for float32.
  const double terms = static_cast<double>(keys_.cols + 2);
  double longest = 0;
  for (int64_t j = 0; j < count; ++j) {
    norms_[j] = round_up_to_float(std::sqrt(norms_[j] * (1 + terms * 0x1p-23) + terms * 0x1p-148) *
                                  (1 + kSlack));
    longest = std::max(longest, static_cast<double>(norms_[j]));
  }
  panels_.floats = key_floats_.get();
  panels_.scale = ones.data();
  panels_.error = zeros.data();
  panels_.norm = norms_;
  panels_.keys = count;
  panels_.cols = panels_.width = keys_.cols;
  return longest_query_ * longest < kLargestScore;
}

ScreenCall BlockScreen::call() const {
  ScreenCall call{};
  call.codes = query_codes_.get();
  call.floats = query_floats_.get();
  call.coefficients = coefficients_.data();
  call.num_queries = num_queries();
  call.keys = panels_;
  return call;
}

}  // namespace fastclip::cpu
