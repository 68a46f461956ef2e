// The screen on the host: the rotation, coded rows and their bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/kernels.h"
#include "cpu/tuning.h"
#include "fastclip/matrix.h"
#include "fastclip/operation.h"
#include "fastclip/screen.h"

namespace fastclip::cpu {

// The rotation of rows of `width` codes.
class SeededRotation {
 public:
  explicit SeededRotation(int64_t width);
  Rotation view() const { return {width_, log2_block_, signs_.data()}; }
  double error() const { return rotation_error(log2_block_, width_ >> log2_block_); }

 private:
  int64_t width_;
  int log2_block_;
  std::vector<float> signs_;
};

// The right factor of (3) in screen.h: a bound on the largest |k|.
double longest_key(const ScreenKeys& keys);

inline constexpr int64_t kMaxPanelKeys = tuning::kMaxPanels * kPanel;

// Rescores single pairs of a block of queries: those that the screen could not decide.
class PairScorer {
 public:
  PairScorer(const Kernels& kernels, const Matrix& queries, const Matrix& keys);

  void score(const Pair* pairs, int64_t count, float* scores) const {
    kernels_.score_pairs(query_rows_.get(), keys_, pairs, count, scores);
  }
  // Prefetches the row of a key that will be scored soon.
  void prefetch(int64_t key) const;

 private:
  const Kernels& kernels_;
  const Matrix keys_;
  AlignedBuffer<double> query_rows_;
};

// A block of queries, screened against panels of keys: in int8 where the keys are packed, else in
// float32.
class BlockScreen {
 public:
  // `scorer` is of the same queries and keys; `codes` may be null; `longest_key` is of the codes.
  // Keys that are not `allowed` have bounds that are NaN, which pass no threshold.
  BlockScreen(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
              const ScreenKeys* codes, double longest_key, const PairScorer& scorer,
              const uint8_t* allowed);

  // Goes to panels [first, last) of the keys, at most tuning::kMaxPanels. False where (3) does not
  // hold.
  bool go_to(int64_t first, int64_t last);

  // The kernels of the screen on the current panels. Keys are numbered from the first of them.
  int64_t find_hits(const FindHits& to) const { return kernels_.find_hits(operands(), to); }
  int64_t count_sure(const CountSure& to) const { return kernels_.count_sure(operands(), to); }
  void write_uppers(const WriteUppers& to) const { kernels_.write_uppers(operands(), to); }
  void write_bounds(const WriteBounds& to) const { kernels_.write_bounds(operands(), to); }
  // The right side of (2) in units of s_q, without gamma.
  float margin(int64_t i, int64_t key) const {
    return coefficients_[i].alpha * panels_.error[key] + coefficients_[i].beta * panels_.norm[key];
  }
  int64_t first_key() const { return first_key_; }
  int64_t num_keys() const { return panels_.keys; }
  bool allows_all() const { return allowed_ == nullptr; }

  int64_t num_queries() const { return num_queries_; }
  float gamma(int64_t i) const { return gamma_[i]; }
  // What an upper bound of a key must reach for its score to reach `score`.
  float floor_of(int64_t i, float score) const {
    return round_down((score - offset_[i]) / scale_[i]);
  }
  float maybe_threshold(int64_t i, float score) const {
    return fastclip::maybe_threshold(score, offset_[i], scale_[i], gamma_[i]);
  }
  ScreenThreshold threshold(int64_t i, float score) const {
    return screen_threshold(score, offset_[i], scale_[i], gamma_[i]);
  }
  const PairScorer& scorer() const { return scorer_; }

 private:
  ScreenOperands operands() const {
    return {query_codes_.get(), query_floats_, coefficients_.data(), num_queries_, panels_};
  }
  void encode_queries(const Matrix& queries);
  void bound_queries(const Matrix& queries);
  void leave_out(int64_t count);
  FloatRows float_rows(const Matrix& rows, AlignedBuffer<float>& converted) const;
  float bound_lengths(const FloatRows& rows, int64_t count, float* lengths) const;

  const Kernels& kernels_;
  const int64_t num_queries_;
  const Matrix keys_;
  const ScreenKeys* codes_;
  const double longest_key_;
  const PairScorer& scorer_;
  const uint8_t* allowed_;  // may be null
  ScreenKeys panels_;
  int64_t first_key_ = 0;
  std::vector<ScreenQuery> coefficients_;
  std::vector<float> gamma_;    // of (2)
  std::vector<double> scale_;   // s_q
  std::vector<double> offset_;  // q.c
  double reach_ = 0;            // of all queries: the left factor of (3)
  AlignedBuffer<int8_t> query_codes_;
  // Without codes:
  FloatRows query_floats_;
  AlignedBuffer<float> converted_queries_, converted_keys_;
  float norms_[kMaxPanelKeys] = {};
  float scales_[kMaxPanelKeys];  // where not all keys are allowed
};

// Walks over panels [first, last): screen() screens those that `block` has gone to and returns how
// many pairs have survived so far, of which `allowance` per query are not held against it. The walk
// checks after every call whether too many survive, so that little is lost where all do. Returns
// the first panel that was not screened: because too many pairs survived, because a score could
// overflow, or because of an interrupt.
template <class Screen>
int64_t walk_panels(BlockScreen& block, int64_t first, int64_t last, int64_t allowance,
                    Interrupt& interrupt, Screen&& screen) {
  int64_t window = first, before = 0;
  while (first < last && !interrupt.poll()) {
    const int64_t end = std::min(first + tuning::kMaxPanels, last);
    if (!block.go_to(first, end)) return first;
    const int64_t survivors = screen();
    first = end;
    const auto keys = static_cast<double>((first - window) * kPanel);
    const double most = tuning::kWorthScreening * keys + static_cast<double>(allowance);
    if (static_cast<double>(survivors - before) > most * static_cast<double>(block.num_queries())) {
      return first;
    }
    if ((first - window) * kPanel >= tuning::kScreenWindow) {
      window = first;
      before = survivors;
    }
  }
  return first;
}

// The screens to try, in this order: the panels that one gives up go to the next, and what is left
// after the last is scored exactly.
struct Screens {
  struct Screen {
    const ScreenKeys* codes;  // null: in float32
    int64_t most_keys;
  };
  Screen screens[3];
  int count;
  double longest_key;  // of the codes
};

// The first `float_keys` are screened in float32 even if there are codes.
inline Screens screens_for(const Kernels& isa, const ScreenKeys* codes, int64_t queries,
                           Screening screening, int64_t float_keys = 0) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const bool coded = codes != nullptr && isa.query_codes.largest > 0;
  const bool floats = queries > tuning::kFewFloatQueries || screening == Screening::kAlways;
  Screens screens{};
  if (coded && floats && float_keys > 0) screens.screens[screens.count++] = {nullptr, float_keys};
  if (coded) {
    screens.screens[screens.count++] = {codes, kAll};
    screens.longest_key = longest_key(*codes);
  }
  if (floats) screens.screens[screens.count++] = {nullptr, kAll};
  return screens;
}

// Searches keys [first_key, last_key) for a block of queries. make(BlockScreen&) returns a search
// of screened panels: its allowance() and screen() are those of walk_panels, its finish() returns
// how many pairs it scored exactly. exact(scores, ld, first_key, count) gets blocks of the keys
// that were not screened. Scores and bounds of keys that are not `allowed`, which may be null, are
// NaN. Returns how many pairs were scored exactly.
template <class Make, class Exact>
int64_t search_keys(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                    int64_t first_key, int64_t last_key, const Screens& screens,
                    const uint8_t* allowed, Interrupt& interrupt, Make&& make, Exact&& exact,
                    NonFiniteRow* nonfinite = nullptr) {
  int64_t scored = 0, panel = first_key / kPanel;
  std::optional<PairScorer> scorer;
  if (screens.count > 0) scorer.emplace(isa, queries, keys);
  for (int s = 0; s < screens.count && panel * kPanel < last_key; ++s) {
    const auto [codes, most_keys] = screens.screens[s];
    BlockScreen block(isa, queries, keys, codes, screens.longest_key, *scorer, allowed);
    auto search = make(block);
    const int64_t end = ceil_div(std::min(last_key - panel * kPanel, most_keys), kPanel);
    panel = walk_panels(block, panel, panel + end, search.allowance(), interrupt,
                        [&] { return search.screen(); });
    scored += search.finish();
  }
  const int64_t rest = std::min(panel * kPanel, last_key);
  sweep(
      isa, queries, keys, rest, last_key, interrupt,
      [&](float* scores, int64_t ld, int64_t begin, int64_t count) {
        leave_out(allowed, scores, ld, queries.rows, begin, count);
        exact(scores, ld, begin, count);
      },
      nonfinite);
  return scored + queries.rows * (last_key - rest);
}

}  // namespace fastclip::cpu
