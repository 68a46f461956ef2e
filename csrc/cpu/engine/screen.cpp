#include "cpu/engine/screen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

// Several sums, since one alone would wait for itself.
double dot(const float* a, const float* b, int64_t cols) {
  constexpr int kSums = 8;
  double sums[kSums] = {};
  const int64_t whole = cols / kSums * kSums;
  for (int64_t i = 0; i < whole; i += kSums) {
    for (int s = 0; s < kSums; ++s) sums[s] += static_cast<double>(a[i + s]) * b[i + s];
  }
  for (int64_t i = whole; i < cols; ++i) sums[0] += static_cast<double>(a[i]) * b[i];
  return std::accumulate(sums, sums + kSums, 0.0);
}

double center_length(const ScreenKeys& keys) {
  return std::sqrt(dot(keys.center, keys.center, keys.cols)) * (1 + kSlack);
}

}  // namespace

SeededRotation::SeededRotation(int64_t width)
    : width_(width), log2_block_(rotation_log2_block(width)), signs_(width) {
  const float scale = rotation_scale(log2_block_);
  for (int64_t i = 0; i < width; ++i) signs_[i] = rotation_keeps_sign(i) ? scale : -scale;
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
  if (keys_.rows * bytes <= tuning::kKeyBlockBytes) return;  // they are resident in the L2
  const int64_t end = std::min(bytes, tuning::kPrefetchBytes);
  for (int64_t at = 0; at < end; at += 64) __builtin_prefetch(keys_.row(key) + at);
}

BlockScreen::BlockScreen(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
                         const ScreenKeys* codes, double longest_key, const PairScorer& scorer,
                         const uint8_t* allowed)
    : kernels_(kernels),
      num_queries_(queries.rows),
      keys_(keys),
      codes_(codes),
      longest_key_(longest_key),
      scorer_(scorer),
      allowed_(allowed),
      coefficients_(queries.rows),
      gamma_(round_up<int64_t>(queries.rows, 4)),
      scale_(queries.rows, 1.0),
      offset_(queries.rows),
      query_codes_(codes != nullptr ? queries.rows * codes->width : 0, Contents::kAnything),
      converted_queries_(0),
      converted_keys_(0) {
  if (codes != nullptr) {
    encode_queries(queries);
  } else {
    bound_queries(queries);
  }
}

void BlockScreen::bound_queries(const Matrix& queries) {
  query_floats_ = float_rows(queries, converted_queries_);
  bound_lengths(query_floats_, queries.rows, gamma_.data());
  for (int64_t i = 0; i < queries.rows; ++i) {
    const QueryBounds bounds = bound_float_query(gamma_[i], queries.cols);
    reach_ = std::max(reach_, bounds.reach);
    gamma_[i] = bounds.gamma;
    coefficients_[i] = bounds.coefficients;
  }
}

// Rows of another number type are converted.
FloatRows BlockScreen::float_rows(const Matrix& rows, AlignedBuffer<float>& converted) const {
  if (rows.dtype == DType::kFloat32) {
    return {reinterpret_cast<const float*>(rows.data), rows.row_stride};
  }
  converted = AlignedBuffer<float>(rows.rows * rows.cols, Contents::kAnything);
  kernels_.value.pack(rows, 1, converted.get());
  return {converted.get(), rows.cols};
}

// Bounds on the lengths of rows; returns the largest, NaN where a row or its length is not finite.
float BlockScreen::bound_lengths(const FloatRows& rows, int64_t count, float* lengths) const {
  kernels_.sum_squares(rows, count, keys_.cols, lengths);
  // Roundings of the sum, squares that are too small for float32, and the roundings below.
  const auto terms = static_cast<float>(keys_.cols + 2);
  const float stretch = 1 + terms * 0x1p-23f, lost = terms * 0x1p-147f;
  float longest = 0, zero = 0;
  for (int64_t i = 0; i < count; ++i) {
    lengths[i] = std::sqrt(lengths[i] * stretch + lost) * (1 + 2 * static_cast<float>(kSlack));
    longest = std::max(longest, lengths[i]);
    zero += 0 * lengths[i];
  }
  return longest + zero;
}

void BlockScreen::encode_queries(const Matrix& queries) {
  const SeededRotation rotation(codes_->width);
  std::vector<float> scratch(codes_->width);
  std::vector<RowSums> sums(queries.rows);
  const std::vector<float> origin(queries.cols);
  kernels_.encode_rows(queries, rotation.view(), origin.data(), kernels_.query_codes,
                       scratch.data(), query_codes_.get(), sums.data());
  const double center = center_length(*codes_);
  AlignedBuffer<float> converted(0);
  const FloatRows rows = float_rows(queries, converted);
  for (int64_t i = 0; i < queries.rows; ++i) {
    const QueryBounds bounds = bound_query(sums[i], rotation.error(), center);
    reach_ = std::max(reach_, bounds.reach);
    offset_[i] = dot(rows.row(i), codes_->center, queries.cols);
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
    leave_out(count);
    return reach_ * longest_key_ < kLargestScore;
  }
  // Never destroyed: threads may still work when the process ends.
  static const auto& ones = *new std::vector<float>(kMaxPanelKeys, 1.0f);
  static const auto& zeros = *new std::vector<float>(kMaxPanelKeys, 0.0f);
  const FloatRows rows = float_rows(keys_.slice(first_key_, first_key_ + count), converted_keys_);
  const float longest = bound_lengths(rows, count, norms_);
  panels_.rows = rows.first;
  panels_.row_stride = rows.stride;
  panels_.scale = ones.data();
  panels_.error = zeros.data();
  panels_.norm = norms_;
  panels_.keys = count;
  panels_.cols = panels_.width = keys_.cols;
  leave_out(count);
  return reach_ * longest < kLargestScore;
}

void BlockScreen::leave_out(int64_t count) {
  if (allowed_ == nullptr) return;
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const uint8_t* allowed = allowed_ + first_key_;
  for (int64_t j = 0; j < count; ++j) scales_[j] = allowed[j] != 0 ? panels_.scale[j] : kNone;
  std::fill(scales_ + count, scales_ + round_up<int64_t>(count, kPanel), kNone);
  panels_.scale = scales_;
}

}  // namespace fastclip::cpu
