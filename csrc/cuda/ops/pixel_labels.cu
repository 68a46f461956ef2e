// Labels of up-sampled pixels, in four steps:
//
//   1. scores of all feature pixels and tags, as good as in float32 (pixel_screen.cuh),
//   2. in each cell of four feature pixels, which tags may be among the k best somewhere: a tag
//      whose largest corner cannot reach the k-th best of the smallest corners drops out. What is
//      left is marked at its four corners,
//   3. marked scores are replaced by exact ones,
//   4. in each cell, step 2 once more with the exact scores of the tags that are marked at all four
//      corners, which are all that count; those that survive are interpolated.
//
// Exact scores are needed where one may be too large to be interpolated, too: so that this is
// known.
#include <algorithm>

#include "cuda/engine/exact_score.cuh"
#include "cuda/engine/pixel_screen.cuh"
#include "cuda/engine/select.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/ops.h"
#include "fastclip/bilinear.h"

namespace fastclip::cuda {
namespace {

using Tuning = tuning::PixelLabels;
constexpr int kThreads = Tuning::kThreads;

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

// The images in hand.
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

constexpr float kNone = -std::numeric_limits<float>::infinity();

// The k-th best of low(tag) over all tags, and of the background.
template <class Low>
__device__ float kth_best(const Images& images, Low low) {
  return from_ordered(kth_largest(images.tags.rows + 1, images.k, [&](int64_t tag) {
    return ordered(tag < images.tags.rows ? low(tag) : images.background);
  }));
}

// What is known of a tag's scores at the corners of a cell; of none beyond the range in which they
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
__global__ void __launch_bounds__(kThreads, Tuning::kMarkBlocks) mark_survivors(Images images) {
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
  const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes;
  if (at >= images.pixels.rows * images.words) return;
  const int64_t pixel = at / images.words, word = at % images.words;
  for (unsigned left = images.marks[at]; left != 0; left &= left - 1) {
    const int64_t tag = word * kWarp + __ffs(left) - 1;
    const float score = exact_score(images.pixels, pixel, images.tags, tag);
    if (threadIdx.x % kLanes == 0) images.scores[pixel * images.pitch + tag] = score;
  }
}

// The tags that survive in a cell by their exact scores, in increasing order, a part at a time.
class Survivors {
 public:
  static constexpr int kHeld = Tuning::kHeld;

  struct Shared {
    float4 corners[kHeld];
    int64_t tags[kHeld];
    int counts[kThreads / kWarp];
  };

  // `too_large` is set where a score is beyond what can be interpolated.
  __device__ Survivors(const Images& images, const Cell& cell, Shared& shared, int32_t* too_large)
      : images_(images), cell_(cell), shared_(shared) {
    level_ = kth_best(images, [&](int64_t tag) {
      float4 c;
      if (!find(tag, c)) return kNone;
      if (!(fmaxf(highest(c), -lowest(c)) <= kMaxScore)) atomicOr(too_large, 1);
      return lowest(c);
    });
  }

  // Puts those from tag `next` on into shared memory, as many as are held; returns how many, and
  // moves `next` on. All threads must call.
  __device__ int hold(int64_t& next) {
    int held = 0;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (; next < images_.tags.rows && held + kThreads <= kHeld; next += kThreads) {
      const int64_t tag = next + threadIdx.x;
      float4 c;
      const bool survives = tag < images_.tags.rows && find(tag, c) && highest(c) >= level_;
      const unsigned all = __ballot_sync(kAllLanes, survives);
      __syncthreads();  // what was held and counted before was read
      if (lane == 0) shared_.counts[warp] = __popc(all);
      __syncthreads();
      int at = held + __popc(all & ((1u << lane) - 1));
      for (int w = 0; w < kThreads / kWarp; ++w) {
        if (w < warp) at += shared_.counts[w];
        held += shared_.counts[w];
      }
      if (survives) {
        shared_.corners[at] = c;
        shared_.tags[at] = tag;
      }
    }
    __syncthreads();
    return held;
  }

 private:
  __device__ static float lowest(const float4& c) {
    return fminf(fminf(c.x, c.y), fminf(c.z, c.w));
  }
  __device__ static float highest(const float4& c) {
    return fmaxf(fmaxf(c.x, c.y), fmaxf(c.z, c.w));
  }

  // The exact scores of a tag at the corners, if they are known.
  __device__ bool find(int64_t tag, float4& corners) const {
    unsigned marks = kAllLanes;
    for (int c = 0; c < 4; ++c) {
      marks &= images_.marks[cell_.corner(c) * images_.words + tag / kWarp];
    }
    if ((marks >> (tag % kWarp) & 1) == 0) return false;
    const auto score = [&](int c) { return images_.scores[cell_.corner(c) * images_.pitch + tag]; };
    corners = make_float4(score(0), score(1), score(2), score(3));
    return true;
  }

  const Images& images_;
  const Cell& cell_;
  Shared& shared_;
  float level_;
};

// Where the labels of one image go.
struct Labels {
  float* values;
  int64_t* indices;
  int64_t k, height, width;

  __device__ int64_t at(int64_t image, int64_t y, int64_t x) const {
    return (image * k * height + y) * width + x;
  }
};

__device__ float lerp(float a, float b, float weight) {
  return __fadd_rn(a, __fmul_rn(weight, __fsub_rn(b, a)));
}

// The best survivor at each of kPixels neighbouring outputs.
class Best {
 public:
  static constexpr int kPixels = Tuning::kPixels;

  __device__ Best(const Labels& labels, int64_t at)
      : values_(labels.values + at), indices_(labels.indices + at) {}

  __device__ void begin() {}

  __device__ void take(const Survivors::Shared& shared, int count, float y,
                       const float (&x)[kPixels]) {
    int better[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) better[p] = -1;
    for (int s = 0; s < count; ++s) {
      const float4 c = shared.corners[s];
      const float left = lerp(c.x, c.z, y);
      const float across = __fsub_rn(lerp(c.y, c.w, y), left);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const float value = __fadd_rn(left, __fmul_rn(x[p], across));
        if (value > best_[p]) {  // the first of equals stays
          best_[p] = value;
          better[p] = s;
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      if (better[p] >= 0) tags_[p] = shared.tags[better[p]];
    }
  }

  __device__ void finish(int pixels, float background) {
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      if (p >= pixels) continue;
      values_[p] = background > best_[p] ? background : best_[p];
      indices_[p] = background > best_[p] ? -1 : tags_[p];
    }
  }

 private:
  float* values_;
  int64_t* indices_;
  float best_[kPixels] = {kNone, kNone, kNone, kNone};
  int64_t tags_[kPixels] = {-1, -1, -1, -1};
};

// The k best at one output, best first, in the place of the result.
class KBest {
 public:
  static constexpr int kPixels = 1;

  __device__ KBest(const Labels& labels, int64_t at)
      : values_(labels.values + at),
        indices_(labels.indices + at),
        k_(labels.k),
        place_(labels.height * labels.width) {}

  __device__ void begin() {
    for (int64_t j = 0; j < k_; ++j) put(j, kNone, -1);
  }

  __device__ void take(const Survivors::Shared& shared, int count, float y,
                       const float (&x)[kPixels]) {
    for (int s = 0; s < count; ++s) {
      const float4 c = shared.corners[s];
      insert(lerp(lerp(c.x, c.z, y), lerp(c.y, c.w, y), x[0]), shared.tags[s]);
    }
  }

  __device__ void finish(int, float background) { insert(background, -1); }

 private:
  __device__ void put(int64_t j, float value, int64_t tag) {
    values_[j * place_] = value;
    indices_[j * place_] = tag;
  }

  // Behind all that are as good, from the bottom up: most go no higher than a few places.
  __device__ void insert(float value, int64_t tag) {
    if (!(value > last_)) return;
    int64_t j = k_ - 1;
    for (; j > 0 && value > values_[(j - 1) * place_]; --j) {
      put(j, values_[(j - 1) * place_], indices_[(j - 1) * place_]);
    }
    put(j, value, tag);
    last_ = values_[(k_ - 1) * place_];
  }

  float* values_;
  int64_t* indices_;
  int64_t k_, place_;  // from one place to the next
  float last_ = kNone;
};

// Step 4. One block for each cell; a thread takes kPixels outputs of a row at a time.
template <class Reducer>
__global__ void __launch_bounds__(kThreads, Tuning::kLabelBlocks)
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
  if (threadIdx.x == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(survivor_counts + cell.image),
              static_cast<unsigned long long>(survivor_count));
  }
}

struct Memory {
  Memory(void* workspace, const Matrix& pixels, const Matrix& tags, const LabelShape& shape,
         int64_t at_once)
      : count(at_once * shape.h * shape.w),
        words(ceil_div<int64_t>(tags.rows, kWarp)),
        with_low(!both_are_short(pixels, tags)),
        all(workspace),
        scores(all.take<float>(whole_tiles(count) * whole_tiles(tags.rows))),
        norms(all.take<float>(tags.rows)),
        reach(all.take<float>(count)),
        split_tags(take_split_rows(all, tags.rows, tags.cols, with_low)),
        split_pixels(take_split_rows(all, count, tags.cols, with_low)),
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

int64_t pixel_labels_workspace(const Matrix& pixels, const Matrix& tags, const LabelShape& shape,
                               int64_t at_once) {
  return Memory(nullptr, pixels, tags, shape, at_once).all.bytes();
}

void pixel_labels(const Matrix& pixels, int64_t images, const Matrix& tags, const LabelShape& shape,
                  float background, float* values, int64_t* indices, int64_t* survivors,
                  int32_t* overflow, int64_t at_once, void* workspace, Stream stream) {
  Memory memory(workspace, pixels, tags, shape, at_once);
  const int64_t area = shape.h * shape.w;
  zero(survivors, images * sizeof(*survivors), stream);
  zero(overflow, sizeof(*overflow), stream);
  launch_norms(tags, 1, memory.norms, stream);
  launch_split(tags, memory.split_tags, stream);
  for (int64_t first = 0; first < images; first += at_once) {
    const int64_t last = std::min(first + at_once, images);
    const Images some{
        .pixels = pixels.slice(first * area, last * area),
        .tags = tags,
        .ys = {shape.h, shape.height, bilinear_scale(shape.h, shape.height)},
        .xs = {shape.w, shape.width, bilinear_scale(shape.w, shape.width)},
        .k = shape.k,
        .background = background,
        .scores = memory.scores,
        .pitch = whole_tiles(tags.rows),
        .reach = memory.reach,
        .norms = memory.norms,
        .marks = memory.marks,
        .words = memory.words,
    };
    const int64_t cells = some.pixels.rows, marked = cells * memory.words;
    const int64_t at = first * shape.k * shape.height * shape.width;
    const Labels labels{values + at, indices + at, shape.k, shape.height, shape.width};
    zero(memory.marks, marked * sizeof(*memory.marks), stream);
    launch_norms(some.pixels, reach_factor(tags.cols), memory.reach, stream);
    launch_split(some.pixels, memory.split_pixels, stream);
    launch_products(memory.split_pixels, memory.split_tags, memory.scores, stream);
    launch(mark_survivors, dim3(cells), dim3(kThreads), 0, stream, some);
    launch(score_marked, dim3(ceil_div<int64_t>(marked * kLanes, kThreads)), dim3(kThreads), 0,
           stream, some);
    launch(shape.k == 1 ? label_cells<Best> : label_cells<KBest>, dim3(cells), dim3(kThreads), 0,
           stream, some, labels, survivors + first, overflow);
  }
}

}  // namespace fastclip::cuda
