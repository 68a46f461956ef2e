// The screen on the host: the rotation, coded rows and their bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/kernels.h"
#include "fastclip/matrix.h"
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

inline constexpr int64_t kScreenKeys = 256;  // at least, where the keys are split
inline constexpr int64_t kMaxPanels = 8;     // in one call of the kernel
inline constexpr int64_t kMaxPanelKeys = kMaxPanels * kPanel;

// Exact scores of single pairs of a block of queries, for what the screen could not decide.
class PairScorer {
 public:
  PairScorer(const Kernels& kernels, const Matrix& queries, const Matrix& keys);

  void score(const Pair* pairs, int64_t count, float* scores) const {
    kernels_.score_pairs(query_rows_.get(), keys_, pairs, count, scores);
  }
  // Asks for the row of a key that will be scored soon.
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
  // `codes` may be null; `longest_key` is of the codes.
  BlockScreen(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
              const ScreenKeys* codes, double longest_key);

  // Goes to panels [first, last) of the keys, at most kMaxPanels. False where (3) does
  // not hold.
  bool go_to(int64_t first, int64_t last);

  // Of the panels gone to. Keys are counted from the first of them.
  ScreenCall call() const;
  // The right side of (2) in units of s_q, but for gamma.
  float margin(int64_t i, int64_t key) const {
    return coefficients_[i].alpha * panels_.error[key] + coefficients_[i].beta * panels_.norm[key];
  }
  int64_t first_key() const { return first_key_; }
  int64_t num_keys() const { return panels_.keys; }

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
  void encode_queries(const Matrix& queries);
  void bound_queries(const Matrix& queries);
  FloatRows float_rows(const Matrix& rows, AlignedBuffer<float>& converted) const;
  float bound_lengths(const FloatRows& rows, int64_t count, float* lengths) const;

  const Kernels& kernels_;
  const int64_t num_queries_;
  const Matrix keys_;
  const ScreenKeys* codes_;
  const double longest_key_;
  const PairScorer scorer_;
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
};

// A search gives up a screen where more of the pairs survive than this: a pair scored alone costs
// several times its share of a block of exact scores. It asks after every call of the kernel, about
// the last kWindow keys at most, so that little is lost where all survive.
inline constexpr int64_t kWindow = 4096;
inline constexpr double kWorthScreening = 1.0 / 8;
inline constexpr int64_t kFewSurvivors = 16;  // an allowance where nothing needs to be found first

// Walks over panels [first, last): screen() looks at those that `block` has gone to and returns how
// many pairs survived so far; `allowance` of them a query are no sign of anything.
// Returns the first panel that was not screened because too many pairs survived, a score could
// overflow, or because of an interrupt.
template <class Screen>
int64_t walk_panels(BlockScreen& block, int64_t first, int64_t last, int64_t allowance,
                    Interrupt& interrupt, Screen&& screen) {
  int64_t window = first, before = 0;
  while (first < last && !interrupt.poll()) {
    const int64_t end = std::min(first + kMaxPanels, last);
    if (!block.go_to(first, end)) return first;
    const int64_t survivors = screen();
    first = end;
    const auto keys = static_cast<double>((first - window) * kPanel);
    const double most = kWorthScreening * keys + static_cast<double>(allowance);
    if (static_cast<double>(survivors - before) > most * static_cast<double>(block.num_queries())) {
      return first;
    }
    if ((first - window) * kPanel >= kWindow) {
      window = first;
      before = survivors;
    }
  }
  return first;
}

// The ways to screen, in the order in which they are tried: what one gives up goes to the next, the
// last of all being exact scores of every pair.
struct Screens {
  const ScreenKeys* codes[2];  // null: in float32
  int count;
  double longest_key;  // of the codes
};

// For tests: use the screen whenever there is one, also where exact scores would be faster.
void always_screen(bool always);
bool screens_always();

// One or two queries are bound by memory: exact scores take as long as bounds.
inline bool worth_float_screen(int64_t queries) { return queries > 2 || screens_always(); }

inline Screens screens_for(const Kernels& isa, const ScreenKeys* codes, int64_t queries) {
  Screens screens{};
  if (codes != nullptr && isa.query_levels > 0) {
    screens.codes[screens.count++] = codes;
    screens.longest_key = longest_key(*codes);
  }
  if (worth_float_screen(queries)) screens.codes[screens.count++] = nullptr;
  return screens;
}

// Searches keys [first_key, last_key) for a block of queries. make(BlockScreen&) returns what looks
// at the panels that the screen has gone to: its allowance() and screen() are those of walk_panels,
// its finish() returns how many pairs were scored exactly. exact(scores, ld, first_key, count) gets
// blocks of the keys that were not screened. Returns how many pairs were scored exactly.
template <class Make, class Exact>
int64_t search_keys(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                    int64_t first_key, int64_t last_key, const Screens& screens,
                    Interrupt& interrupt, Make&& make, Exact&& exact,
                    NonFiniteRow* nonfinite = nullptr) {
  int64_t scored = 0, panel = first_key / kPanel;
  for (int s = 0; s < screens.count && panel * kPanel < last_key; ++s) {
    BlockScreen block(isa, queries, keys, screens.codes[s], screens.longest_key);
    auto search = make(block);
    panel = walk_panels(block, panel, ceil_div(last_key, kPanel), search.allowance(), interrupt,
                        [&] { return search.screen(); });
    scored += search.finish();
  }
  const int64_t rest = std::min(panel * kPanel, last_key);
  sweep(isa, queries, keys, rest, last_key, interrupt, exact, nonfinite);
  return scored + queries.rows * (last_key - rest);
}

}  // namespace fastclip::cpu
