// The bounds of the screen hold, and its kernels agree on them.
#include "cpu/engine/screen.h"

#include <algorithm>
#include <optional>

#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "packed.h"
#include "search_case.h"
#include "tests.h"

namespace fastclip::tests {
namespace {

using cpu::kMaxPanelKeys;

// The panels that the screen has gone to, as its kernels see them.
class Panels {
 public:
  Panels(const cpu::BlockScreen& block, const Run& run)
      : block_(block), run_(run), lowers_(size()), uppers_(size()), hits_(size()) {
    block.write_bounds({lowers_.data(), uppers_.data(), kMaxPanelKeys});
    Floats uppers(size());
    block.write_uppers({uppers.data(), kMaxPanelKeys});
    for_pairs([&](int64_t, int64_t, size_t at) {
      run.expect(std::abs(uppers[at] - uppers_[at]) <= rounding(at), "write_uppers");
    });
  }

  void check_bounds(const SearchCase& search) const {
    for_pairs([&](int64_t i, int64_t j, size_t at) {
      const float score = search.score(i, block_.first_key() + j);
      const ScreenThreshold threshold = block_.threshold(i, score);
      run_.expect(uppers_[at] >= threshold.maybe, "the upper bound of a score");
      run_.expect(lowers_[at] < threshold.sure, "the lower bound of a score");
    });
  }

  // With a threshold of each query that some of its bounds reach.
  void check_hits() {
    Floats maybe, sure;
    for (int64_t i = 0; i < block_.num_queries(); ++i) {
      maybe.push_back(uppers_[i * kMaxPanelKeys + random_below(block_.num_keys())]);
      sure.push_back(maybe[i] + 0.1f * std::abs(maybe[i]));
    }
    std::vector<int32_t> times(size()), query_counts(block_.num_queries()),
        key_counts(kMaxPanelKeys);
    const auto seen = [&](int64_t count) {
      std::fill(times.begin(), times.end(), 0);
      for (int64_t h = 0; h < count; ++h) {
        const Hit& hit = hits_[h];
        const size_t at = hit.query * kMaxPanelKeys + hit.key;
        ++times[at];
        run_.expect(std::abs(2 * hit.x - lowers_[at] - uppers_[at]) <= 4 * rounding(at), "x");
      }
    };
    // Whether a bound reaches a threshold, but where roundings decide.
    const auto check = [&](bool is, float bound, float threshold, size_t at, const char* what) {
      if (std::abs(bound - threshold) > rounding(at)) run_.expect(is == (bound > threshold), what);
    };
    seen(block_.find_hits({maybe.data(), hits_.data()}));
    for_pairs([&](int64_t i, int64_t, size_t at) {
      check(times[at] == 1, uppers_[at], maybe[i], at, "find_hits");
    });
    const std::vector<int32_t> hits = times;
    seen(block_.count_sure(
        {{maybe.data(), hits_.data()}, sure.data(), query_counts.data(), key_counts.data()}));
    for_pairs([&](int64_t i, int64_t j, size_t at) {
      const int32_t is_sure = hits[at] - times[at];
      run_.expect(is_sure >= 0, "count_sure (hits)");
      check(is_sure == 1, lowers_[at], sure[i], at, "count_sure");
      query_counts[i] -= is_sure;
      key_counts[j] -= is_sure;
    });
    for (const int32_t left : query_counts) run_.expect(left == 0, "count_sure (of queries)");
    for (const int32_t left : key_counts) run_.expect(left == 0, "count_sure (of keys)");
  }

 private:
  size_t size() const { return block_.num_queries() * kMaxPanelKeys; }
  float rounding(size_t at) const {
    return 1e-6f * (std::abs(lowers_[at]) + std::abs(uppers_[at]));
  }
  template <class Check>
  void for_pairs(Check check) const {
    for (int64_t i = 0; i < block_.num_queries(); ++i) {
      for (int64_t j = 0; j < block_.num_keys(); ++j) check(i, j, i * kMaxPanelKeys + j);
    }
  }

  const cpu::BlockScreen& block_;
  const Run& run_;
  Floats lowers_, uppers_;
  std::vector<Hit> hits_;
};

}  // namespace

void SearchCase::check_screen(Run& run) const {
  const cpu::Kernels& isa = cpu::kernels();
  const Packed packed(k(), run);
  const cpu::PairScorer scorer(isa, q(), k());
  for (const ScreenKeys* codes : {static_cast<const ScreenKeys*>(nullptr), &packed.view}) {
    if (codes != nullptr && isa.query_codes.largest == 0) continue;
    cpu::BlockScreen block(isa, q(), k(), codes, cpu::longest_key(packed.view), scorer, nullptr);
    const int64_t panels = ceil_div(k().rows, kPanel);
    for (int64_t first = 0; first < panels; first += cpu::tuning::kMaxPanels) {
      run.expect(block.go_to(first, std::min(first + cpu::tuning::kMaxPanels, panels)), "go_to");
      Panels seen(block, run);
      seen.check_bounds(*this);
      seen.check_hits();
    }
  }
}

// How far a walk over panels goes while screen() is told what survives.
void check_walk(Run& run) {
  using cpu::tuning::kMaxPanels, cpu::tuning::kScreenWindow;
  constexpr int64_t kQueries = 3, kPanels = 4 * kScreenWindow / kPanel, kNone = 0;
  random_state = 5;
  const Rows queries(kQueries, 4, DType::kFloat32, Kind::kPlain);
  Rows keys(kPanels * kPanel, 4, DType::kFloat32, Kind::kPlain);
  const cpu::Kernels& isa = cpu::kernels();
  const cpu::PairScorer scorer(isa, queries.view(), keys.view());
  cpu::Interrupt interrupt([] { return false; });
  // survive(key): of all queries, from that key to the end of the panels that were gone to.
  const auto walk = [&](int64_t first, int64_t allowance, auto survive) {
    cpu::BlockScreen block(isa, queries.view(), keys.view(), nullptr, 0, scorer, nullptr);
    int64_t survivors = 0;
    return cpu::walk_panels(block, first, kPanels, allowance, interrupt, [&] {
      for (int64_t j = 0; j < block.num_keys(); ++j) {
        survivors += survive(block.first_key() + j) ? kQueries : 0;
      }
      return survivors;
    });
  };
  const auto all = [](int64_t) { return true; };
  const auto none = [](int64_t) { return false; };
  run.expect(walk(0, kNone, none) == kPanels, "a walk where none survive");
  run.expect(walk(5, kNone, all) == 5 + kMaxPanels, "a walk where all survive");
  run.expect(walk(5, kMaxPanels * kPanel, all) > 5 + kMaxPanels, "a walk with an allowance");
  const auto eighth = [](int64_t key) { return key % 8 == 0; };
  run.expect(walk(0, kNone, eighth) == kPanels, "a walk where an eighth survive");
  const auto more = [](int64_t key) { return key % 8 == 0 || key % 200 == 1; };
  run.expect(walk(0, kNone, more) < kPanels, "a walk where more survive");
  // What was screened before a window began is no reason to go on.
  const auto late = [](int64_t key) { return key >= kScreenWindow; };
  run.expect(walk(0, kNone, late) == kScreenWindow / kPanel + kMaxPanels, "a walk of two windows");
  // A score with a key of panel 21 might overflow.
  for (int64_t c = 0; c < 4; ++c) keys.set(21 * kPanel + 7, c, 3e38f);
  run.expect(walk(0, kNone, none) == 21 / kMaxPanels * kMaxPanels, "a walk to a large key");
  interrupt.stop();
  run.expect(walk(3, kNone, none) == 3, "an interrupted walk");
}

}  // namespace fastclip::tests
