#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// The nearest pixel of each tag.
struct PixelScoresCall {
  Matrix pixels;  // of one image after those of another
  int64_t area;   // pixels of an image, at least one
  Matrix tags;
  Table<float> values;  // [images, tags]
  Table<int64_t> locations;
};

namespace cpu {
void pixel_scores(const PixelScoresCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
// Rows are tags and pixels.
Room pixel_scores_room(const PixelScoresCall& call, int64_t most);
void pixel_scores(const PixelScoresCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
