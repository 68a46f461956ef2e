// The best key of each group.
#include <algorithm>
#include <atomic>
#include <limits>

#include "fastclip/topk.h"
#include "isa.h"
#include "mainloop.h"
#include "ops.h"
#include "screen.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kQueryBlock = 256;

// Best score and key of each group for a block of queries; -1 where none was seen.
struct Best {
  const int64_t* groups;
  int64_t num_groups;
  float* values;     // [rows, num_groups]
  int64_t* indices;  // [rows, num_groups]

  int64_t at(int64_t i, int64_t key) const { return i * num_groups + groups[key]; }

  void offer(int64_t i, int64_t key, float score) const {
    const int64_t to = at(i, key);
    if (indices[to] >= 0 && !ahead({score, key}, {values[to], indices[to]})) return;
    values[to] = score;
    indices[to] = key;
  }
};

// Groups of consecutive keys through the screen. Of each group the key with the largest upper bound
// is scored exactly, then those whose upper bounds reach that score.
class ScreenedGroupMax {
 public:
  ScreenedGroupMax(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
                   const ScreenKeys& screen, const Best& best)
      : kernels_(kernels),
        screen_(screen),
        best_(best),
        coded_(kernels, queries, screen),
        scorer_(kernels, queries, keys),
        products_(queries.rows * kStride, Contents::kAnything) {}

  bool can_screen(double longest_key) const { return coded_.can_screen(longest_key); }
  int64_t scored() const { return scored_; }

  // Panels [first, last), at most kMaxPanels.
  void screen_panels(int64_t first, int64_t last) {
    ScreenCall call{};
    call.codes = coded_.codes.data();
    call.coefficients = coded_.coefficients.data();
    call.num_queries = static_cast<int64_t>(coded_.coefficients.size());
    call.keys = &screen_;
    call.first = first;
    call.last = last;
    call.products = products_.get();
    call.products_stride = kStride;
    kernels_.screen(call);
    const int64_t begin = first * kPanel;
    const int64_t end = std::min(last * kPanel, screen_.keys);
    for (int64_t i = 0; i < call.num_queries; ++i) {
      for (int64_t run = begin; run < end;) {
        int64_t run_end = run + 1;
        while (run_end < end && best_.groups[run_end] == best_.groups[run]) ++run_end;
        decide(i, products_.get() + i * kStride + (run - begin), run, run_end);
        run = run_end;
      }
    }
  }

 private:
  static constexpr int64_t kStride = kMaxPanels * kPanel;
  static constexpr int64_t kBatch = 16;  // pairs scored at a time

  // Keys [first, last) of one group.
  void decide(int64_t i, const float* products, int64_t first, int64_t last) {
    float floor = -std::numeric_limits<float>::infinity();
    const int64_t at = best_.at(i, first);
    // The group may have begun in an earlier call.
    if (best_.indices[at] >= 0) floor = in_units(i, best_.values[at]);
    const KeyRun run{products,     screen_.error + first,  screen_.norm + first,
                     last - first, coded_.coefficients[i], coded_.gamma[i]};
    const int64_t count = kernels_.survivors(run, floor, survivors_, uppers_);
    if (count == 0) return;
    const auto favourite = std::max_element(uppers_, uppers_ + count) - uppers_;
    float scores[kBatch];
    int64_t batch[kBatch] = {first + survivors_[favourite]};
    score(i, batch, 1, scores);
    floor = std::max(floor, in_units(i, scores[0]));
    int64_t filled = 0;
    for (int64_t s = 0; s < count; ++s) {
      if (s == favourite || uppers_[s] < floor) continue;
      batch[filled++] = first + survivors_[s];
      if (filled < kBatch) continue;
      score(i, batch, filled, scores);
      filled = 0;
    }
    score(i, batch, filled, scores);
  }

  // A score as a floor for upper bounds.
  float in_units(int64_t i, float score) const {
    return round_down((score - coded_.offset[i]) / coded_.scale[i]);
  }

  void score(int64_t i, const int64_t* keys, int64_t count, float* scores) {
    scorer_.score(i, keys, count, scores);
    for (int64_t c = 0; c < count; ++c) best_.offer(i, keys[c], scores[c]);
    scored_ += count;
  }

  const Kernels& kernels_;
  const ScreenKeys& screen_;
  const Best best_;
  const CodedQueries coded_;
  const PairScorer scorer_;
  AlignedBuffer<float> products_;
  int32_t survivors_[kStride];
  float uppers_[kStride];
  int64_t scored_ = 0;
};

}  // namespace

int64_t group_max(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                  const int64_t* groups, int64_t num_groups, float* values, int64_t* indices,
                  int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  if (isa.query_levels == 0 || !std::is_sorted(groups, groups + keys.rows)) screen = nullptr;
  const double longest = screen != nullptr ? longest_key(*screen) : 0;
  // Keys are not split: with few queries and many groups, merging would cost as much as it gains.
  const int64_t block = std::clamp<int64_t>(ceil_div(queries.rows, threads), 1, kQueryBlock);
  std::atomic<int64_t> scored{0};
  parallel_for(ceil_div(queries.rows, block), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * block;
    const Matrix rows = queries.slice(first, std::min(first + block, queries.rows));
    const Best best{groups, num_groups, values + first * num_groups, indices + first * num_groups};
    std::fill_n(best.indices, rows.rows * num_groups, -1);
    int64_t panel = 0;
    if (screen != nullptr) {
      ScreenedGroupMax screened(isa, rows, keys, *screen, best);
      if (screened.can_screen(longest)) {
        panel = walk_panels(0, ceil_div(keys.rows, kPanel), rows.rows, interrupt,
                            [&](int64_t begin, int64_t end) {
                              screened.screen_panels(begin, end);
                              return screened.scored();
                            });
        scored += screened.scored();
      }
    }
    const int64_t rest = std::min(panel * kPanel, keys.rows);
    scored += rows.rows * (keys.rows - rest);
    sweep(isa, rows, keys, rest, keys.rows, interrupt,
          [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = 0; i < rows.rows; ++i) {
              for (int64_t j = 0; j < count; ++j) best.offer(i, begin + j, scores[i * ld + j]);
            }
          });
  });
  return scored;
}

}  // namespace fastclip::cpu
