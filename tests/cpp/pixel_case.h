// Feature pixels of two images, and tags.
#pragma once

#include "fastclip/matrix.h"
#include "inputs.h"
#include "run.h"

namespace fastclip::tests {

class PixelCase {
 public:
  PixelCase(int64_t tags, int64_t cols, DType dtype, Kind kind)
      : pixels_(kImages * kArea, cols, dtype, kind), tags_(tags, cols, dtype, kind) {
    for (int64_t p = 0; p < kImages * kArea; ++p) {
      for (int64_t t = 0; t < tags; ++t) {
        scores_.push_back(exact_score(pixels_.view(), p, tags_.view(), t));
      }
    }
  }

  void check(Run& run) const;  // pixels_test.cpp

 private:
  static constexpr int64_t kImages = 2, kH = 3, kW = 4, kArea = kH * kW;
  static constexpr int64_t kHeight = 17, kWidth = 29;  // of the output

  float score(int64_t pixel, int64_t tag) const { return scores_[pixel * tags_.rows + tag]; }
  void check_scores(Run& run) const;
  void check_labels(Run& run, int64_t k) const;
  void refine(Run& run) const;

  Rows pixels_, tags_;
  Floats scores_;
};

}  // namespace fastclip::tests
