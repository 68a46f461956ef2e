// Which pairs of alpha and beta give an image's label the highest score of all classes:
//
//   score of class c = zero_shot[c] + alpha * sum over support images j of c: exp(beta (A[j] - 1))
//
// Betas are evenly spaced, so a weight is that of the last beta times exp(step (A[j] - 1)). It is
// computed afresh every kFresh betas, which keeps its relative error below 2e-14 where the step is
// small. For one beta the label is ahead of another class where a linear function of alpha is
// positive: in one range of alphas, found by a division.
//
// The weights of an image are resident in cache for all betas. Row s of them holds the s-th support
// image of each class that has that many, classes with most support images first: only the ends of
// rows are padded.
#include "fastclip/ops/cache_grid.h"

#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <vector>

#include "cpu/engine/buffer.h"
#include "cpu/engine/threads.h"
#include "cpu/isa/isa.h"
#include "cpu/isa/kernels.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kFresh = 64;
constexpr int64_t kImages = tuning::kGridImages;

class Layout {
 public:
  explicit Layout(const CacheGridCall& grid)
      : class_at_(grid.classes()), place_of_(grid.classes()) {
    std::vector<std::vector<int64_t>> of_class(grid.classes());
    for (int64_t j = 0; j < grid.support(); ++j) of_class[grid.support_labels[j]].push_back(j);
    std::iota(class_at_.begin(), class_at_.end(), 0);
    std::stable_sort(class_at_.begin(), class_at_.end(),
                     [&](int64_t a, int64_t b) { return of_class[a].size() > of_class[b].size(); });
    for (int64_t c = 0; c < grid.classes(); ++c) place_of_[class_at_[c]] = c;
    for (size_t s = 0; s < of_class[class_at_[0]].size(); ++s) {
      int64_t c = 0;
      for (; c < grid.classes() && of_class[class_at_[c]].size() > s; ++c) {
        support_at_.push_back(of_class[class_at_[c]][s]);
      }
      row_sizes_.push_back(round_up(c, kGridPadding));
      support_at_.resize(support_at_.size() + row_sizes_.back() - c, -1);
    }
  }

  int64_t classes() const { return round_up(static_cast<int64_t>(class_at_.size()), kGridPadding); }
  const std::vector<int64_t>& class_at() const { return class_at_; }
  int64_t place_of(int64_t label) const { return place_of_[label]; }
  const std::vector<int64_t>& support_at() const { return support_at_; }  // -1: padding
  const std::vector<int64_t>& row_sizes() const { return row_sizes_; }

 private:
  std::vector<int64_t> class_at_, place_of_, support_at_, row_sizes_;
};

// One thread's memory for one image after the other.
class Images {
 public:
  Images(const CacheGridCall& grid, const Layout& layout)
      : grid_(grid),
        layout_(layout),
        changes_(grid.betas() * (grid.num_alphas() + 1)),
        exponents_(layout.support_at().size()),
        weights_(layout.support_at().size()),
        factors_(layout.support_at().size()),
        sums_(layout.classes()),
        leads_(layout.classes()),
        wins_ties_(layout.classes()) {}

  void count(int64_t image, Interrupt& interrupt) {
    const int64_t label = grid_.labels[image], own = layout_.place_of(label);
    compare_zero_shot(grid_.zero_shot.data + image * grid_.classes(), label);
    start(grid_.affinities.data + image * grid_.support());
    for (int64_t b = 0; b < grid_.betas(); ++b) {
      if (b % kFresh == 0) {
        if (interrupt.poll()) return;
        fill(weights_.get(), grid_.first_beta + static_cast<double>(b) * grid_.beta_step);
      }
      sum_weights();
      const AlphaRange range = kernels_.grid.where_ahead(
          sums_.get()[own], sums_.get(), leads_.get(), wins_ties_.get(), layout_.classes());
      if (!range.empty) add(range, changes_.get() + b * (grid_.num_alphas() + 1));
    }
  }

  void add_to(const Table<int64_t>& right) const {
    for (int64_t b = 0; b < grid_.betas(); ++b) {
      int64_t images = 0;
      for (int64_t a = 0; a < grid_.num_alphas(); ++a) {
        images += changes_.get()[b * (grid_.num_alphas() + 1) + a];
        right[b * grid_.num_alphas() + a] += images;
      }
    }
  }

 private:
  void compare_zero_shot(const double* scores, int64_t label) {
    // Nothing is lost against classes that pad.
    std::fill_n(leads_.get(), layout_.classes(), std::numeric_limits<double>::infinity());
    for (size_t c = 0; c < layout_.class_at().size(); ++c) {
      const int64_t other = layout_.class_at()[c];
      leads_.get()[c] = scores[label] - scores[other];
      wins_ties_.get()[c] = other >= label ? -1 : 0;  // all bits: a mask
    }
  }

  void start(const double* affinities) {
    const auto& support = layout_.support_at();
    for (size_t i = 0; i < support.size(); ++i) {
      exponents_.get()[i] = support[i] < 0 ? 0 : affinities[support[i]] - 1;
    }
    fill(factors_.get(), grid_.beta_step);
  }

  void fill(double* out, double beta) const {
    const auto& support = layout_.support_at();
    for (size_t i = 0; i < support.size(); ++i) {
      out[i] = support[i] < 0 ? 0 : std::exp(beta * exponents_.get()[i]);
    }
  }

  void sum_weights() {
    std::fill_n(sums_.get(), layout_.classes(), 0.0);
    int64_t at = 0;
    for (const int64_t size : layout_.row_sizes()) {
      kernels_.grid.add_and_multiply(weights_.get() + at, factors_.get() + at, size, sums_.get());
      at += size;
    }
  }

  void add(const AlphaRange& range, int64_t* changes) const {
    const double *begin = grid_.alphas.data, *end = begin + grid_.num_alphas();
    const auto* first = std::max(std::lower_bound(begin, end, range.from),
                                 std::upper_bound(begin, end, range.above));
    const auto* after =
        std::min(std::upper_bound(begin, end, range.to), std::lower_bound(begin, end, range.below));
    if (first < after) {
      ++changes[first - begin];
      --changes[after - begin];
    }
  }

  const Kernels& kernels_ = kernels();
  const CacheGridCall& grid_;
  const Layout& layout_;
  AlignedBuffer<int64_t> changes_;  // [betas][alphas + 1]: where ranges begin, less where they end
  AlignedBuffer<double> exponents_, weights_, factors_, sums_, leads_;
  AlignedBuffer<int64_t> wins_ties_;
};

}  // namespace

void cache_grid(const CacheGridCall& grid, int threads, Interrupt& interrupt) {
  const Layout layout(grid);
  std::mutex mutex;
  parallel_for(ceil_div(grid.images(), kImages), threads, interrupt, [&](int64_t task) {
    Images images(grid, layout);
    const int64_t end = std::min(grid.images(), (task + 1) * kImages);
    for (int64_t i = task * kImages; i < end; ++i) images.count(i, interrupt);
    std::lock_guard lock(mutex);
    images.add_to(grid.right);
  });
}

}  // namespace fastclip::cpu
