// Labels of up-sampled pixels, in four steps:
//
//   1. Compute all scores of feature pixels and tags, with the precision of float32
//      (pixel_screen.cuh).
//   2. In each cell of four feature pixels, find the tags that may be among the k best somewhere:
//      a tag whose largest corner cannot reach the k-th best of the smallest corners is dropped.
//      The others are marked at the four corners.
//   3. Replace marked scores by exact ones.
//   4. In each cell, repeat step 2 with the exact scores of the tags that are marked at all four
//      corners, which include all that matter, and interpolate those that survive.
//
// A score that may be too large to be interpolated is marked, too, since only its exact value
// tells.
#include <algorithm>

#include "cuda/arch/threads.cuh"
#include "cuda/engine/exact_score.cuh"
#include "cuda/engine/pixel_screen.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/ops/pixel_cells.cuh"
#include "cuda/ops/pixel_reducers.cuh"
#include "cuda/ops/pixel_survivors.cuh"
#include "cuda/tuning.h"
#include "fastclip/ops/pixel_labels.h"

namespace fastclip::cuda {
namespace {

using Tuned = tuned::PixelLabels;
constexpr int kThreads = Tuned::kThreads;

// Bounds on a tag's scores at the corners of a cell, and whether all are in the range in which they
// can be interpolated.
struct CornerBounds {
  __device__ CornerBounds(const Images& images, const Cell& cell, int64_t tag) {
    for (int c = 0; c < 4; ++c) {
      const float score = images.scores[cell.corner(c) * images.pitch + tag];
      const float margin = images.reach[cell.corner(c)] * images.norms[tag] + PixelScreen::kLeast;
      low = fminf(low, score - margin);
      high = fmaxf(high, score + margin);
      in_range &= fabsf(score) + margin <= kMaxScore;  // not so of a NaN
    }
  }

  float low = -kNone, high = kNone;
  bool in_range = true;
};

// Step 2. One block for each cell.
__global__ void __launch_bounds__(kThreads, Tuned::kMarkBlocks) mark_survivors(Images images) {
  const Cell cell(images, blockIdx.x);
  if (cell.empty()) return;
  const float level = kth_best(images, [&](int64_t tag) {
    const CornerBounds bounds(images, cell, tag);
    return bounds.in_range ? bounds.low : kNone;
  });
  for (int64_t begin = 0; begin < images.tags.rows; begin += kThreads) {
    const int64_t tag = begin + threadIdx.x;
    bool survives = false;
    if (tag < images.tags.rows) {
      const CornerBounds bounds(images, cell, tag);
      survives = !bounds.in_range || bounds.high >= level;
    }
    const unsigned marks = __ballot_sync(kAllLanes, survives);
    const int lane = threadIdx.x % kWarp;
    if (lane < 4 && marks != 0) {
      atomicOr(images.marks + cell.corner(lane) * images.words + tag / kWarp, marks);
    }
  }
}

// Step 3. Half a warp for each word of marks.
__global__ void score_marked(Images images) {
  const int64_t at = global_thread() / kLanes;
  if (at >= images.pixels.rows * images.words) return;
  const int64_t pixel = at / images.words, word = at % images.words;
  for (unsigned left = images.marks[at]; left != 0; left &= left - 1) {
    const int64_t tag = word * kWarp + __ffs(left) - 1;
    const float score = exact_score(images.pixels, pixel, images.tags, tag);
    if (threadIdx.x % kLanes == 0) images.scores[pixel * images.pitch + tag] = score;
  }
}

// Step 4. One block for each cell; a thread takes kPixels outputs of a row at a time.
template <class Reducer>
__global__ void __launch_bounds__(kThreads, Tuned::kLabelBlocks)
    label_cells(Images images, Labels labels, int64_t* survivor_counts, int32_t* too_large) {
  constexpr int kPixels = Reducer::kPixels;
  __shared__ Survivors::Shared shared;
  const Cell cell(images, blockIdx.x);
  if (cell.empty()) return;
  Survivors survivors(images, cell, shared, too_large);
  const int groups_in_row = ceil_div(cell.width, kPixels);
  const int64_t groups = int64_t{groups_in_row} * cell.height;
  int64_t survivor_count = 0;
  int held = 0;
  bool holds_all = false;
  for (int64_t first = 0; first < groups; first += kThreads) {
    const int64_t group = first + threadIdx.x;
    const bool active = group < groups;
    const int64_t y = cell.first_y + group / groups_in_row;
    const int column = static_cast<int>(group % groups_in_row) * kPixels;
    const int64_t x = cell.first_x + column;
    const int pixels = min(cell.width - column, kPixels);
    const int64_t at = labels.at(cell.image, y, x);
    const float y_weight = images.ys.position(y).weight;
    float x_weights[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) x_weights[p] = images.xs.position(x + p).weight;
    Reducer reducer(labels, at);
    if (active) reducer.begin();
    for (int64_t next = 0; next < images.tags.rows;) {
      if (holds_all) {
        next = images.tags.rows;
      } else {
        const bool from_start = next == 0;
        held = survivors.hold(next);
        holds_all = from_start && next >= images.tags.rows;
        if (first == 0) survivor_count += held;
      }
      if (active) reducer.take(shared, held, y_weight, x_weights);
    }
    if (active) reducer.finish(pixels, images.background);
  }
  if (threadIdx.x == 0) add(survivor_counts + cell.image, survivor_count);
}

struct Memory {
  Memory(void* workspace, const PixelLabelsCall& call, int64_t at_once)
      : count(at_once * call.h * call.w),
        words(ceil_div<int64_t>(call.tags.rows, kWarp)),
        with_low(!both_are_short(call.pixels, call.tags)),
        all(workspace),
        scores(all.take<float>(whole_tiles(count) * whole_tiles(call.tags.rows))),
        norms(all.take<float>(call.tags.rows)),
        reach(all.take<float>(count)),
        split_tags(take_split_rows(all, call.tags.rows, call.tags.cols, with_low)),
        split_pixels(take_split_rows(all, count, call.tags.cols, with_low)),
        marks(all.take<unsigned>(count * words)) {}

  int64_t count, words;
  bool with_low;
  Workspace all;
  float* scores;
  float* norms;  // of the tags
  float* reach;  // of the pixels
  SplitRows split_tags, split_pixels;
  unsigned* marks;
};

}  // namespace

Room pixel_labels_room(const PixelLabelsCall& call, int64_t most) {
  const int64_t tuned = tuning().pixel_labels_scores / (call.h * call.w * call.tags.rows);
  const int64_t images = rows_at_once(call.images(), tuned, most);
  return {images, Memory(nullptr, call, images).all.bytes()};
}

void pixel_labels(const PixelLabelsCall& call, int64_t at_once, void* workspace, Stream stream) {
  const auto &pixels = call.pixels, &tags = call.tags;
  const int64_t images = call.images(), area = call.h * call.w;
  Memory memory(workspace, call, at_once);
  zero(call.survivors.data, images * sizeof(int64_t), stream);
  zero(call.overflow.data, sizeof(int32_t), stream);
  launch_norms(tags, 1, memory.norms, stream);
  launch_split(tags, memory.split_tags, stream);
  for (int64_t first = 0; first < images; first += at_once) {
    const int64_t last = std::min(first + at_once, images);
    const Images some{
        .pixels = pixels.slice(first * area, last * area),
        .tags = tags,
        .ys = {call.h, call.height(), bilinear_scale(call.h, call.height())},
        .xs = {call.w, call.width(), bilinear_scale(call.w, call.width())},
        .k = call.k(),
        .background = call.background,
        .scores = memory.scores,
        .pitch = whole_tiles(tags.rows),
        .reach = memory.reach,
        .norms = memory.norms,
        .marks = memory.marks,
        .words = memory.words,
    };
    const int64_t cells = some.pixels.rows, marked = cells * memory.words;
    const int64_t at = first * call.k() * call.height() * call.width();
    const Labels labels{call.values.data + at, call.indices.data + at, call.k(), call.height(),
                        call.width()};
    zero(memory.marks, marked * sizeof(*memory.marks), stream);
    launch_norms(some.pixels, reach_factor(tags.cols), memory.reach, stream);
    launch_split(some.pixels, memory.split_pixels, stream);
    launch_products(memory.split_pixels, memory.split_tags, memory.scores, stream);
    launch(mark_survivors, dim3(cells), dim3(kThreads), 0, stream, some);
    launch(score_marked, dim3(ceil_div<int64_t>(marked * kLanes, kThreads)), dim3(kThreads), 0,
           stream, some);
    launch(call.k() == 1 ? label_cells<BestLabel> : label_cells<BestLabels>, dim3(cells),
           dim3(kThreads), 0, stream, some, labels, call.survivors.data + first,
           call.overflow.data);
  }
}

}  // namespace fastclip::cuda
