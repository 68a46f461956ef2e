// The screen on the host: the rotation, coded rows and their bounds.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "kernels.h"

namespace fastclip::cpu {

// The rotation of rows of `width` codes; the same in every process, so that packed keys can be
// kept.
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

// E and N of screen.h for one row; infinite where the row's numbers overflowed.
struct RowBounds {
  double error;
  double norm;
};
RowBounds bound_row(const RowSums& sums, double rotation_error);

// A block of queries, coded.
struct CodedQueries {
  CodedQueries(const Kernels& kernels, const Matrix& queries, const ScreenKeys& keys);

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

}  // namespace fastclip::cpu
