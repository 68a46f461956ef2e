// The operations on CPU. Inputs are checked by the caller: equal widths, finite numbers, k in
// range.
#pragma once

#include <cstdint>
#include <vector>

#include "fastclip/matrix.h"
#include "threads.h"

namespace fastclip::cpu {

// The lowest row that holds a NaN or an infinity, or -1.
int64_t find_nonfinite(const Matrix& rows, int threads, Interrupt& interrupt);

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, int threads,
                Interrupt& interrupt);

// values and indices are [queries.rows, k], rows without gaps.
void topk(const Matrix& queries, const Matrix& keys, int64_t k, float* values, int64_t* indices,
          int threads, Interrupt& interrupt);

// The nearest pixel of each tag: values and locations are [images, tags.rows]. `pixels` holds the
// pixels of one image after those of another; each has at least one.
void pixel_scores(const Matrix& pixels, int64_t images, const Matrix& tags, float* values,
                  int64_t* locations, int threads, Interrupt& interrupt);

// Sizes of pixel_labels: feature pixels, output pixels, places.
struct LabelShape {
  int64_t h, w, height, width, k;
};

// values and indices are [images, k, height, width]; survivors [images] counts the (cell, tag)
// pairs that were interpolated. `background` is -infinity where there is none. Throws
// std::overflow_error where a score is too large to be interpolated.
void pixel_labels(const Matrix& pixels, int64_t images, const Matrix& tags, const LabelShape& shape,
                  float background, float* values, int64_t* indices, int64_t* survivors,
                  int threads, Interrupt& interrupt);

// Sizes of refine_masks.
struct MaskShape {
  int64_t batch, channels, masks, height, width;
};

// images [batch, channels, height, width], masks and out [batch, masks, height, width], all
// contiguous.
void refine_masks(const float* images, const float* masks, const MaskShape& shape,
                  int64_t iterations, const std::vector<int64_t>& dilations, float* out,
                  int threads, Interrupt& interrupt);

}  // namespace fastclip::cpu
