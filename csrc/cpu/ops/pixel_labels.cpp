#include "fastclip/ops/pixel_labels.h"

#include <atomic>
#include <functional>
#include <stdexcept>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/bilinear.h"
#include "fastclip/ops/similarity.h"

namespace fastclip::cpu {
namespace {

// Finds the tags that may be among the k best somewhere in a cell.
//
// Every interpolated value lies between the smallest and the largest corner (bilinear.h). Let
// `level` be the k-th best of the smallest corners; the background counts as a tag whose corners
// are all equal. Then k competitors are at `level` or above everywhere in the cell, and a tag whose
// largest corner is below it is behind these k in every pixel. Equality survives: the screen does
// not break ties.
class Screen {
 public:
  Screen(int64_t tags, int64_t k, float background)
      : k_(k),
        background_(background),
        low_(static_cast<size_t>(tags)),
        high_(static_cast<size_t>(tags)) {}

  // Writes the surviving tags in increasing order, returns how many.
  int64_t find(const Kernels& isa, const float* const* corners, int64_t* survivors) {
    const int64_t tags = static_cast<int64_t>(low_.size());
    const CornerBounds bounds = isa.pixels.corner_bounds(corners, tags, low_.data(), high_.data());
    if (!(bounds.largest <= kMaxScore)) {
      throw std::overflow_error(
          "pixels, tags: a score is beyond +-2^126, interpolation could overflow");
    }
    const float level = k_ == 1 ? std::max(bounds.best_low, background_) : kth_best_low();
    int64_t count = 0;
    for (int64_t t = 0; t < tags; ++t) {
      survivors[count] = t;
      count += high_[t] >= level;
    }
    return count;
  }

 private:
  float kth_best_low() {
    sorted_.assign(low_.begin(), low_.end());
    sorted_.push_back(background_);
    std::nth_element(sorted_.begin(), sorted_.begin() + (k_ - 1), sorted_.end(), std::greater<>());
    return sorted_[k_ - 1];
  }

  int64_t k_;
  float background_;
  std::vector<float> low_, high_, sorted_;
};

struct Image {
  const float* scores;  // [h * w, tags]
  int64_t tags;
  float* values;
  int64_t* indices;
};

// Labels the cells whose upper feature pixels are in row y; returns how many tags survived in them.
int64_t label_row_of_cells(const Kernels& isa, const Image& image, const PixelLabelsCall& call,
                           const BilinearAxis& ys, const BilinearAxis& xs, int64_t y,
                           Interrupt& interrupt) {
  const int64_t stride = round_up<int64_t>(image.tags, 16);
  Screen screen(image.tags, call.k(), call.background);
  std::vector<int64_t> survivors(static_cast<size_t>(image.tags));
  AlignedBuffer<float> corners(4 * stride), edges(tuning::kCellRows * 2 * stride),
      best(16 * call.k());
  AlignedBuffer<int32_t> best_tags(16 * call.k());
  int64_t total = 0;
  for (int64_t x = 0; x < call.w && !interrupt.poll(); ++x) {
    if (xs.count(x) == 0) continue;
    const float* rows[4];
    for (int c = 0; c < 4; ++c) {
      const int64_t row = c < 2 ? y : ys.high(y);
      const int64_t column = c % 2 == 0 ? x : xs.high(x);
      rows[c] = image.scores + (row * call.w + column) * image.tags;
    }
    const int64_t count = screen.find(isa, rows, survivors.data());
    total += count;
    for (int c = 0; c < 4; ++c) {
      float* corner = corners.get() + c * stride;
      for (int64_t i = 0; i < count; ++i) corner[i] = rows[c][survivors[i]];
    }
    const auto label = [&](int64_t top, int64_t left, int64_t height, int64_t width) {
      const int64_t at = (ys.first(y) + top) * call.width() + xs.first(x) + left;
      isa.pixels.label_cell({
          .tags = count,
          .tag_indices = survivors.data(),
          .edge_stride = stride,
          .corners = corners.get(),
          .height = height,
          .width = width,
          .y_weights = ys.weights(y) + top,
          .x_weights = xs.weights(x) + left,
          .k = call.k(),
          .background = call.background,
          .values = image.values + at,
          .indices = image.indices + at,
          .row_stride = call.width(),
          .place_stride = call.height() * call.width(),
          .edges = edges.get(),
          .best = best.get(),
          .best_tags = best_tags.get(),
      });
    };
    // A large cell is cut into parts, so that it can be interrupted.
    const int64_t pixels = tuning::kCellInterpolations / std::max<int64_t>(1, count * call.k());
    const int64_t width =
        std::min(std::max(pixels / tuning::kCellRows, tuning::kCellColumns), xs.count(x));
    const int64_t height =
        std::max<int64_t>(1, pixels / width / tuning::kCellRows) * tuning::kCellRows;
    for (int64_t top = 0; top < ys.count(y); top += height) {
      for (int64_t left = 0; left < xs.count(x) && !interrupt.poll(); left += width) {
        label(top, left, std::min(height, ys.count(y) - top), std::min(width, xs.count(x) - left));
      }
    }
  }
  return total;
}

}  // namespace

void pixel_labels(const PixelLabelsCall& call, int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  const auto &pixels = call.pixels, &tags = call.tags;
  const int64_t area = call.h * call.w;
  const BilinearAxis ys(call.h, call.height()), xs(call.w, call.width());
  std::vector<float> scores(call.images() == 0 ? 0 : static_cast<size_t>(area * tags.rows));
  for (int64_t b = 0; b < call.images(); ++b) {
    // Tags are adjacent, so that the screen takes a vector of them at once.
    const MutableMatrix out{reinterpret_cast<char*>(scores.data()), DType::kFloat32, area,
                            tags.rows, tags.rows};
    similarity({pixels.slice(b * area, (b + 1) * area), tags, out}, threads, interrupt);
    const int64_t at = b * call.k() * call.height() * call.width();
    const Image image = {scores.data(), tags.rows, call.values.data + at, call.indices.data + at};
    std::atomic<int64_t> count{0};
    parallel_for(call.h, threads, interrupt, [&](int64_t y) {
      if (ys.count(y) > 0) {
        count += label_row_of_cells(isa, image, call, ys, xs, y, interrupt);
      }
    });
    call.survivors[b] = count;
    if (interrupt.stopped()) return;
  }
}

}  // namespace fastclip::cpu
