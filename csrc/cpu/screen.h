// The screen on the host: the rotation, coded rows and their bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "kernels.h"
#include "mainloop.h"

namespace fastclip::cpu {

// The rotation of rows of `width` codes.
class SeededRotation {
 public:
  explicit SeededRotation(int64_t width);
  Rotation view() const { return {width_, log2_block_, signs_.data()}; }
  double error() const { return rotation_error(log2_block_, width_ >> log2_block_); }

 private:
  int64_t width_;
  int log2_block_;
  std::vector<float> signs_;
};

// A block of queries, coded.
struct CodedQueries {
  CodedQueries(const Kernels& kernels, const Matrix& queries, const ScreenKeys& keys);

  // The right side of (2) in units of s_q.
  float margin(int64_t i, const ScreenKeys& keys, int64_t key) const {
    return coefficients[i].alpha * keys.error[key] + coefficients[i].beta * keys.norm[key] +
           gamma[i];
  }
  // Whether no score can overflow, which the bounds rely on.
  bool can_screen(double longest_key) const { return longest * longest_key < kLargestScore; }

  std::vector<int8_t> codes;
  std::vector<ScreenQuery> coefficients;
  std::vector<float> gamma;    // of (2)
  std::vector<double> scale;   // s_q
  std::vector<double> offset;  // q.c
  double longest = 0;          // bound on the largest |q|
};

// Bound on the largest |k|. Times `longest` it must stay below kLargestScore for the bounds to
// hold.
double longest_key(const ScreenKeys& keys);

// Exact scores of single pairs of a block of queries, for what the screen could not decide.
class PairScorer {
 public:
  PairScorer(const Kernels& kernels, const Matrix& queries, const Matrix& keys);

  void score(const Pair* pairs, int64_t count, float* scores) const {
    kernels_.score_pairs(query_rows_.get(), keys_, pairs, count, scores);
  }
  // Asks for the row of a key that will be scored soon.
  void prefetch(int64_t key) const;

 private:
  const Kernels& kernels_;
  const Matrix keys_;
  AlignedBuffer<double> query_rows_;
};

// After every kWindow keys a search asks whether screening them was worth it: a pair scored alone
// costs about ten times its share of a block of exact scores.
inline constexpr int64_t kWindow = 4096;
inline constexpr double kWorthScreening = 1.0 / 16;
inline constexpr int64_t kMaxPanels = 8;  // in one call of the kernel

// Walks over panels [first, last): screen(first, last) takes up to kMaxPanels and returns how many
// pairs were scored exactly so far. Returns the first panel that was not screened because too many
// pairs survived (or because of an interrupt).
template <class Screen>
int64_t walk_panels(int64_t first, int64_t last, int64_t queries, Interrupt& interrupt,
                    Screen&& screen) {
  int64_t step = 1;  // few keys at first: nothing may be known yet to drop pairs by
  int64_t window_end = first + kWindow / kPanel, before = 0;
  while (first < last && !interrupt.poll()) {
    const int64_t end = std::min(first + step, last);
    const int64_t scored = screen(first, end);
    first = end;
    step = std::min(2 * step, kMaxPanels);
    if (first >= window_end) {
      const double pairs = static_cast<double>(queries) * kWindow;
      if (static_cast<double>(scored - before) > kWorthScreening * pairs) return first;
      before = scored;
      window_end = first + kWindow / kPanel;
    }
  }
  return first;
}

}  // namespace fastclip::cpu
