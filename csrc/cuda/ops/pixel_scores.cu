#include <algorithm>

#include "cuda/engine/exact_score.cuh"
#include "cuda/engine/pixel_screen.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/ops/pixel_scores.h"

namespace fastclip::cuda {
namespace {

// The identity: a value worse than any, at the first pixel.
__global__ void begin(float* values, int64_t* locations, int64_t count) {
  const int64_t i = global_thread();
  if (i >= count) return;
  values[i] = -std::numeric_limits<float>::infinity();
  locations[i] = 0;
}

// A block of tags and pixels: screen rows are tags, columns pixels from `first_pixel` on, counted
// through all images.
struct Block {
  Matrix tags;
  Matrix pixels;
  int64_t first_tag, first_pixel, last_pixel;
  int64_t area;       // pixels of an image
  int64_t tag_count;  // of the whole call
};

// One warp for each tag of the block and each image with pixels in it. The pixels whose upper bound
// reaches the largest lower bound are scored exactly, in order, so that a later one must be better.
__global__ void find_nearest(Block block, PixelScreen screen, float* values, int64_t* locations) {
  const int64_t tag = global_thread() / kWarp;
  if (tag >= block.tags.rows) return;
  const int64_t image = block.first_pixel / block.area + blockIdx.y;
  const int64_t image_begin = image * block.area;
  const int64_t first = max(image_begin, block.first_pixel) - block.first_pixel;
  const int64_t last = min(image_begin + block.area, block.last_pixel) - block.first_pixel;
  const int lane = threadIdx.x % kWarp;
  const int half = lane / kLanes;
  const int64_t at = image * block.tag_count + block.first_tag + tag;

  float best = values[at];
  int64_t location = locations[at];
  float level = best;
  for (int64_t p = first + lane; p < last; p += kWarp) {
    const float score = screen.score(tag, p);
    // The exact score may be below an infinite one.
    if (score <= std::numeric_limits<float>::max()) {
      level = fmaxf(level, score - screen.margin(tag, p));
    }
  }
  level = warp_largest(level);
  for (int64_t begin = first; begin < last; begin += kWarp) {
    const int64_t p = begin + lane;
    const bool possible = p < last && !(screen.score(tag, p) + screen.margin(tag, p) < level);
    unsigned left = __ballot_sync(kAllLanes, possible);
    while (left != 0) {
      // Two at a time, one in each half of the warp; the last one alone is computed twice.
      const int one = __ffs(left) - 1;
      left &= left - 1;
      const int other = left == 0 ? one : __ffs(left) - 1;
      left &= left - 1;
      const int64_t pixel = begin + (half == 0 ? one : other);
      const float mine = exact_score(block.tags, tag, block.pixels, pixel);
      const float theirs = __shfl_xor_sync(kAllLanes, mine, kLanes);
      const float first_score = half == 0 ? mine : theirs;
      const float second_score = half == 0 ? theirs : mine;
      if (first_score > best) {
        best = first_score;
        location = block.first_pixel + begin + one - image_begin;
      }
      if (second_score > best) {
        best = second_score;
        location = block.first_pixel + begin + other - image_begin;
      }
      level = fmaxf(level, best);
    }
  }
  if (lane == 0) {
    values[at] = best;
    locations[at] = location;
  }
}

struct Memory {
  Memory(void* workspace, const Matrix& pixels, const Matrix& tags, int64_t at_once)
      : with_low(!both_are_short(pixels, tags)),
        all(workspace),
        reach(all.take<float>(tags.rows)),
        norms(all.take<float>(pixels.rows)),
        split_tags(take_split_rows(all, std::min(tags.rows, at_once), tags.cols, with_low)),
        split_pixels(take_split_rows(all, std::min(pixels.rows, at_once), tags.cols, with_low)),
        scores(all.take<float>(whole_tiles(std::min(tags.rows, at_once)) *
                               whole_tiles(std::min(pixels.rows, at_once)))) {}

  bool with_low;
  Workspace all;
  float* reach;  // of the tags
  float* norms;  // of the pixels
  SplitRows split_tags, split_pixels;
  float* scores;  // of some of both
};

}  // namespace

Room pixel_scores_room(const PixelScoresCall& call, int64_t most) {
  const int64_t rows = std::max(call.pixels.rows, call.tags.rows);
  const int64_t at_once = rows_at_once(rows, tuning().pixel_scores_at_once, most);
  return {at_once, Memory(nullptr, call.pixels, call.tags, at_once).all.bytes()};
}

void pixel_scores(const PixelScoresCall& call, int64_t at_once, void* workspace, Stream stream) {
  const auto &pixels = call.pixels, &tags = call.tags;
  const int64_t images = call.values.sizes[0], area = call.area;
  float* values = call.values.data;
  int64_t* locations = call.locations.data;
  if (images == 0 || tags.rows == 0) return;
  Memory memory(workspace, pixels, tags, at_once);
  launch(begin, blocks_for(images * tags.rows), tuned::kThreads, 0, stream, values, locations,
         images * tags.rows);
  launch_norms(tags, reach_factor(tags.cols), memory.reach, stream);
  launch_norms(pixels, 1, memory.norms, stream);
  for (int64_t tag = 0; tag < tags.rows; tag += at_once) {
    const Matrix some_tags = tags.slice(tag, std::min(tag + at_once, tags.rows));
    launch_split(some_tags, memory.split_tags, stream);
    for (int64_t pixel = 0; pixel < pixels.rows; pixel += at_once) {
      const int64_t last = std::min(pixel + at_once, pixels.rows);
      const Block block{some_tags, pixels.slice(pixel, last), tag, pixel, last, area, tags.rows};
      const int64_t block_images = (last - 1) / area - pixel / area + 1;
      launch_split(block.pixels, memory.split_pixels, stream);
      launch_products(memory.split_tags, memory.split_pixels, memory.scores, stream);
      const PixelScreen screen{memory.scores, whole_tiles(last - pixel), memory.reach + tag,
                               memory.norms + pixel};
      launch(find_nearest, dim3(blocks_for(block.tags.rows * kWarp), block_images), tuned::kThreads,
             0, stream, block, screen, values, locations);
    }
  }
}

}  // namespace fastclip::cuda
