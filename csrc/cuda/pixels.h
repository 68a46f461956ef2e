// Questions about the pixels of images, on CUDA devices; what ops.h says holds here.
// `*_workspace` says how many bytes the workspace of a call needs.
#pragma once

#include <cstdint>
#include <vector>

#include "fastclip/matrix.h"
#include "ops.h"

namespace fastclip::cuda {

// The nearest pixel of each tag: values and locations are [images, tags.rows]. `pixels` holds the
// pixels of one image after those of another; each has at least one. `at_once` tags and pixels are
// taken at a time.
int64_t pixel_scores_workspace(const Matrix& pixels, const Matrix& tags, int64_t at_once);
void pixel_scores(const Matrix& pixels, int64_t images, const Matrix& tags, float* values,
                  int64_t* locations, int64_t at_once, void* workspace, Stream stream);

// Sizes of pixel_labels: feature pixels, output pixels, places.
struct LabelShape {
  int64_t h, w, height, width, k;
};

// values and indices are [images, k, height, width]; survivors [images] counts the (cell, tag)
// pairs that were interpolated. `background` is -infinity where there is none. *overflow becomes 1
// where a score is too large to be interpolated, else 0. `at_once` images are taken at a time.
int64_t pixel_labels_workspace(const Matrix& pixels, const Matrix& tags, const LabelShape& shape,
                               int64_t at_once);
void pixel_labels(const Matrix& pixels, int64_t images, const Matrix& tags, const LabelShape& shape,
                  float background, float* values, int64_t* indices, int64_t* survivors,
                  int32_t* overflow, int64_t at_once, void* workspace, Stream stream);

// Sizes of refine_masks.
struct MaskShape {
  int64_t batch, channels, masks, height, width;
};

// images [batch, channels, height, width], masks and out [batch, masks, height, width], all
// contiguous; low and high [batch, masks] are the smallest and the largest value of each mask.
// iterations >= 1. `at_once` images are taken at a time.
int64_t refine_masks_workspace(const MaskShape& shape, int64_t dilations, int64_t at_once);
void refine_masks(const float* images, const float* masks, const float* low, const float* high,
                  const MaskShape& shape, int64_t iterations, const std::vector<int64_t>& dilations,
                  float* out, int64_t at_once, void* workspace, Stream stream);

}  // namespace fastclip::cuda
