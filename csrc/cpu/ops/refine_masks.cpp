// Pixel-adaptive mask refinement (affinity.h).
//
// Affinities are computed once per image and read by all masks and iterations.
#include "fastclip/ops/refine_masks.h"

#include <cstring>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/affinity.h"

namespace fastclip::cpu {
namespace {

// Planes [height, width] with replicated columns on both sides, so that shifting a row sideways
// only moves a pointer.
class PaddedPlanes {
 public:
  PaddedPlanes(int64_t planes, int64_t height, int64_t width, int64_t border)
      : height_(height),
        width_(width),
        border_(border),
        stride_(border + round_up(width, kLanes) + border),
        values_(planes * height * stride_) {}

  float* row(int64_t plane, int64_t y) const {
    return values_.get() + (plane * height_ + y) * stride_ + border_;
  }

  // Fills the borders of a row from its inside. The right one begins where the image ends.
  void replicate(int64_t plane, int64_t y) {
    float* inside = row(plane, y);
    std::fill(inside - border_, inside, inside[0]);
    std::fill(inside + width_, inside - border_ + stride_, inside[width_ - 1]);
  }

  void copy_from(const float* plane_values, int64_t plane) {
    for (int64_t y = 0; y < height_; ++y) {
      std::memcpy(row(plane, y), plane_values + y * width_, width_ * sizeof(float));
      replicate(plane, y);
    }
  }

 private:
  int64_t height_, width_, border_, stride_;
  AlignedBuffer<float> values_;
};

class Refinement {
 public:
  Refinement(const RefineMasksCall& call, int threads, Interrupt& interrupt)
      : call_(call),
        width_(round_up(call.width(), kLanes)),
        offsets_(find_offsets(call)),
        threads_(threads),
        interrupt_(interrupt),
        weights_(call.height() * row_weights()),
        channels_(call.channels(), call.height(), call.width(), border()),
        now_(call.num_masks(), call.height(), call.width(), border()),
        next_(call.num_masks(), call.height(), call.width(), border()) {}

  void run(int64_t image) {
    const int64_t area = call_.height() * call_.width();
    const float* masks = call_.masks.data + image * call_.num_masks() * area;
    float* out = call_.out.data + image * call_.num_masks() * area;
    std::vector<Range> ranges(static_cast<size_t>(call_.num_masks()));
    parallel_for(call_.num_masks(), threads_, interrupt_, [&](int64_t m) {
      now_.copy_from(masks + m * area, m);
      const auto [low, high] = std::minmax_element(masks + m * area, masks + (m + 1) * area);
      ranges[m] = {*low, *high};
    });
    if (call_.iterations > 0) {
      compute_affinities(call_.images.data + image * call_.channels() * area);
      for (int64_t i = 0; i < call_.iterations && !interrupt_.stopped(); ++i) {
        iterate(ranges);
        std::swap(now_, next_);
      }
    }
    for (int64_t row = 0; row < call_.num_masks() * call_.height(); ++row) {
      std::memcpy(out + row * call_.width(), now_.row(row / call_.height(), row % call_.height()),
                  call_.width() * sizeof(float));
    }
  }

 private:
  struct Range {
    float low, high;
  };

  static std::vector<PixelOffset> find_offsets(const RefineMasksCall& call) {
    std::vector<PixelOffset> offsets;
    for (const int64_t dilation : call.dilations) {
      for (int64_t i = 0; i < kDirections; ++i) {
        offsets.push_back(neighbour_offset(i, dilation, call.height(), call.width()));
      }
    }
    return offsets;
  }

  int64_t border() const {
    int64_t border = 0;
    for (const PixelOffset& o : offsets_) border = std::max(border, o.dx);
    return border;
  }

  int64_t row_weights() const { return static_cast<int64_t>(offsets_.size()) * width_; }

  // The neighbours of row y of a plane: offsets_.size() addresses.
  void find_rows(const PaddedPlanes& planes, int64_t plane, int64_t y, const float** rows) const {
    for (const PixelOffset& o : offsets_) {
      *rows++ = planes.row(plane, std::clamp<int64_t>(y + o.dy, 0, call_.height() - 1)) + o.dx;
    }
  }

  NeighbourRows neighbours(const float* const* rows) const {
    return {width_, static_cast<int64_t>(offsets_.size()), rows};
  }

  void compute_affinities(const float* image) {
    const int64_t area = call_.height() * call_.width();
    for (int64_t c = 0; c < call_.channels(); ++c) channels_.copy_from(image + c * area, c);
    for_rows([&](int64_t first, int64_t last) {
      std::vector<const float*> rows(call_.channels() * offsets_.size()), centres(call_.channels());
      std::vector<NeighbourRows> views;
      for (int64_t c = 0; c < call_.channels(); ++c) {
        views.push_back(neighbours(rows.data() + c * offsets_.size()));
      }
      for (int64_t y = first; y < last && !interrupt_.poll(); ++y) {
        for (int64_t c = 0; c < call_.channels(); ++c) {
          find_rows(channels_, c, y, rows.data() + c * offsets_.size());
          centres[c] = channels_.row(c, y);
        }
        kernels_.pixels.affinities(views.data(), centres.data(), call_.channels(),
                                   weights_.get() + y * row_weights());
      }
    });
  }

  // The weights of a row are resident in cache while all masks pass over it.
  void iterate(const std::vector<Range>& ranges) {
    for_rows([&](int64_t first, int64_t last) {
      std::vector<const float*> rows(offsets_.size());
      for (int64_t y = first; y < last; ++y) {
        for (int64_t m = 0; m < call_.num_masks() && !interrupt_.poll(); ++m) {
          find_rows(now_, m, y, rows.data());
          kernels_.pixels.weighted_mean(neighbours(rows.data()), weights_.get() + y * row_weights(),
                                        ranges[m].low, ranges[m].high, next_.row(m, y));
          next_.replicate(m, y);
        }
      }
    });
  }

  template <class Work>
  void for_rows(Work work) {
    constexpr int64_t kRows = tuning::kMaskRows;
    parallel_for(ceil_div(call_.height(), kRows), threads_, interrupt_, [&](int64_t task) {
      work(task * kRows, std::min((task + 1) * kRows, call_.height()));
    });
  }

  const Kernels& kernels_ = kernels();
  const RefineMasksCall& call_;
  const int64_t width_;  // of a row of weights
  const std::vector<PixelOffset> offsets_;
  const int threads_;
  Interrupt& interrupt_;
  AlignedBuffer<float> weights_;  // [height][neighbour][width_]
  PaddedPlanes channels_, now_, next_;
};

}  // namespace

void refine_masks(const RefineMasksCall& call, int threads, Interrupt& interrupt) {
  if (call.num_masks() == 0) return;
  Refinement refinement(call, threads, interrupt);
  for (int64_t b = 0; b < call.batch() && !interrupt.stopped(); ++b) refinement.run(b);
}

}  // namespace fastclip::cpu
