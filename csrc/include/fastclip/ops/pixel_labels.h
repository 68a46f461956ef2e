#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// The k best tags of each output pixel of each image, by interpolated scores.
struct PixelLabelsCall {
  Matrix pixels;  // of one image after those of another
  int64_t h, w;   // of the pixels
  Matrix tags;
  float background;       // -infinity where there is none
  View<float, 4> values;  // [images, k, height, width]
  View<int64_t, 4> indices;
  Array<int64_t> survivors;  // becomes how many (cell, tag) pairs of each image were interpolated
  Scalar<int32_t> overflow;  // on devices: becomes 1 where a score is too large to interpolate it

  int64_t images() const { return values.sizes[0]; }
  int64_t k() const { return values.sizes[1]; }
  int64_t height() const { return values.sizes[2]; }
  int64_t width() const { return values.sizes[3]; }
};

namespace cpu {
// Throws std::overflow_error where a score is too large to be interpolated.
void pixel_labels(const PixelLabelsCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
// Rows are images.
Room pixel_labels_room(const PixelLabelsCall& call, int64_t most);
void pixel_labels(const PixelLabelsCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
