// The cells of four feature pixels that pixel_labels goes through.
#pragma once

#include "cuda/engine/select.cuh"
#include "fastclip/bilinear.h"
#include "fastclip/matrix.h"

namespace fastclip::cuda {

struct Axis {
  int64_t in, out;
  float scale;

  __device__ BilinearPosition position(int64_t i) const { return {i, in, scale}; }

  // The first output in a cell or beyond it.
  __device__ int64_t first(int64_t cell) const {
    int64_t low = 0, high = out;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (position(middle).cell < cell) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// The images that are being labelled.
struct Images {
  Matrix pixels;
  Matrix tags;
  Axis ys, xs;
  int64_t k;
  float background;
  float* scores;  // [whole_tiles(pixels.rows), pitch]
  int64_t pitch;
  const float* reach;
  const float* norms;
  unsigned* marks;  // [pixels.rows, words]
  int64_t words;
};

// One cell: its outputs, its corners.
struct Cell {
  __device__ Cell(const Images& images, int64_t block) : top_left(block) {
    const int64_t area = images.ys.in * images.xs.in;
    image = block / area;
    const int64_t y = block % area / images.xs.in, x = block % images.xs.in;
    first_y = images.ys.first(y);
    height = static_cast<int>(images.ys.first(y + 1) - first_y);
    first_x = images.xs.first(x);
    width = static_cast<int>(images.xs.first(x + 1) - first_x);
    down = y + 1 < images.ys.in ? images.xs.in : 0;
    right = x + 1 < images.xs.in ? 1 : 0;
  }

  __device__ bool empty() const { return height == 0 || width == 0; }

  // Rows of the scores: top left, top right, bottom left, bottom right.
  __device__ int64_t corner(int c) const {
    return top_left + (c / 2 == 0 ? 0 : down) + (c % 2 == 0 ? 0 : right);
  }

  int64_t image;
  int64_t top_left, down;
  int right;
  int64_t first_y, first_x;
  int height, width;
};

inline constexpr float kNone = -std::numeric_limits<float>::infinity();

// The k-th best of low(tag) over all tags, and of the background.
template <class Low>
__device__ float kth_best(const Images& images, Low low) {
  return from_ordered(kth_largest(images.tags.rows + 1, images.k, [&](int64_t tag) {
    return ordered(tag < images.tags.rows ? low(tag) : images.background);
  }));
}

}  // namespace fastclip::cuda
