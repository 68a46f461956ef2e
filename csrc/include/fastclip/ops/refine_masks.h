#pragma once

#include <vector>

#include "fastclip/operation.h"

namespace fastclip {

// Pixel-adaptive mask refinement.
struct RefineMasksCall {
  View<const float, 4> images;  // [batch, channels, height, width]
  View<const float, 4> masks;   // [batch, masks, height, width]
  Table<const float> low;       // on devices: the smallest value of each mask
  Table<const float> high;      // on devices: the largest
  int64_t iterations;           // on devices at least one
  std::vector<int64_t> dilations;
  View<float, 4> out;

  int64_t batch() const { return images.sizes[0]; }
  int64_t channels() const { return images.sizes[1]; }
  int64_t num_masks() const { return masks.sizes[1]; }
  int64_t height() const { return images.sizes[2]; }
  int64_t width() const { return images.sizes[3]; }
};

namespace cpu {
void refine_masks(const RefineMasksCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
// Rows are images.
Room refine_masks_room(const RefineMasksCall& call, int64_t most);
void refine_masks(const RefineMasksCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
