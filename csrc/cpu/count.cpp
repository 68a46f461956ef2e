// How many keys score ahead of a threshold: rank and count_above.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "isa.h"
#include "mainloop.h"
#include "ops.h"
#include "screen.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kQueryBlock = 512;

// Where the counts of all tasks come together. Whole numbers: any order of additions gives the
// same.
struct Totals {
  int64_t* per_query;
  int64_t* per_key;

  void add_query(int64_t query, int64_t count) const {
    if (per_query != nullptr) add(per_query[query], count);
  }
  void add_key(int64_t key, int64_t count) const {
    if (per_key != nullptr) add(per_key[key], count);
  }

 private:
  static void add(int64_t& total, int64_t count) {
    if (count != 0) std::atomic_ref(total).fetch_add(count, std::memory_order_relaxed);
  }
};

struct Thresholds {
  const float* scores;
  const int64_t* ties;  // keys before this index are ahead at an equal score

  bool ahead(int64_t query, float score, int64_t key) const {
    return score > scores[query] || (score == scores[query] && key < ties[query]);
  }
};

// One block of queries, from `first_query` on, through the screen.
class ScreenedCount {
 public:
  ScreenedCount(const Kernels& kernels, const Matrix& queries, int64_t first_query,
                const Matrix& keys, const ScreenKeys& screen, const Thresholds& thresholds,
                const Totals& totals)
      : kernels_(kernels),
        screen_(screen),
        first_query_(first_query),
        thresholds_(thresholds),
        totals_(totals),
        coded_(kernels, queries, screen),
        scorer_(kernels, queries, keys, 4),
        maybe_(queries.rows),
        sure_(queries.rows),
        query_counts_(queries.rows),
        key_counts_(kMaxPanels * kPanel),
        batch_(scorer_.batch()),
        hits_(queries.rows * kMaxPanels * kPanel) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < queries.rows; ++i) {
      const double floor =
          (thresholds.scores[first_query + i] - coded_.offset[i]) / coded_.scale[i];
      const double gamma = coded_.gamma[i];
      maybe_[i] = round_down(floor - gamma);
      sure_[i] = std::nextafter(round_up_to_float(floor + gamma), kInfinity);
    }
  }

  const CodedQueries& coded() const { return coded_; }

  // Returns how many pairs were scored exactly so far.
  int64_t screen_panels(int64_t first, int64_t last) {
    std::fill(query_counts_.begin(), query_counts_.end(), 0);
    std::fill(key_counts_.begin(), key_counts_.end(), 0);
    ScreenCall call{coded_.codes.data(),
                    coded_.coefficients.data(),
                    maybe_.data(),
                    static_cast<int64_t>(maybe_.size()),
                    &screen_,
                    first,
                    last,
                    hits_.data()};
    call.sure = sure_.data();
    call.query_counts = query_counts_.data();
    call.key_counts = totals_.per_key != nullptr ? key_counts_.data() : nullptr;
    const auto begin = hits_.begin();
    const auto end = begin + kernels_.screen(call);
    for (size_t i = 0; i < query_counts_.size(); ++i) {
      totals_.add_query(first_query_ + static_cast<int64_t>(i), query_counts_[i]);
    }
    const int64_t first_key = first * kPanel;
    const int64_t last_key = std::min(last * kPanel, screen_.keys);
    for (int64_t key = first_key; key < last_key; ++key) {
      totals_.add_key(key, key_counts_[key - first_key]);
    }
    std::sort(begin, end, [](const Hit& a, const Hit& b) {
      return a.query != b.query ? a.query < b.query : a.key < b.key;
    });
    for (Iterator hit = begin; hit != end;) hit = decide(hit, end, first_key);
    return scored_;
  }

 private:
  using Iterator = std::vector<Hit>::const_iterator;

  // Scores the next few hits of one query exactly.
  Iterator decide(Iterator hit, Iterator end, int64_t first_key) {
    const int64_t i = hit->query;
    int64_t count = 0;
    for (; hit != end && hit->query == i && count < scorer_.batch(); ++hit) {
      batch_[count++] = first_key + hit->key;
    }
    for (Iterator next = hit; next != end && next - hit < scorer_.batch(); ++next) {
      scorer_.prefetch(first_key + next->key);
    }
    const float* scores = scorer_.score(i, batch_.data(), count);
    for (int64_t c = 0; c < count; ++c) {
      if (!thresholds_.ahead(first_query_ + i, scores[c], batch_[c])) continue;
      totals_.add_query(first_query_ + i, 1);
      totals_.add_key(batch_[c], 1);
    }
    scored_ += count;
    return hit;
  }

  const Kernels& kernels_;
  const ScreenKeys& screen_;
  const int64_t first_query_;
  const Thresholds& thresholds_;
  const Totals& totals_;
  const CodedQueries coded_;
  PairScorer scorer_;
  std::vector<float> maybe_, sure_;
  std::vector<int32_t> query_counts_, key_counts_;
  std::vector<int64_t> batch_;
  std::vector<Hit> hits_;
  int64_t scored_ = 0;
};

void count_exactly(const Kernels& kernels, const Matrix& queries, int64_t first_query,
                   const Matrix& keys, int64_t first_key, int64_t last_key,
                   const Thresholds& thresholds, const Totals& totals, Interrupt& interrupt) {
  std::vector<int64_t> key_counts;
  sweep(kernels, queries, keys, first_key, last_key, interrupt,
        [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
          key_counts.assign(count, 0);
          for (int64_t i = 0; i < queries.rows; ++i) {
            int64_t ahead = 0;
            for (int64_t j = 0; j < count; ++j) {
              const bool is = thresholds.ahead(first_query + i, scores[i * ld + j], begin + j);
              ahead += is;
              key_counts[j] += is;
            }
            totals.add_query(first_query + i, ahead);
          }
          for (int64_t j = 0; j < count; ++j) totals.add_key(begin + j, key_counts[j]);
        });
}

}  // namespace

int64_t count_ahead(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                    const float* scores, const int64_t* ties, int64_t* per_query, int64_t* per_key,
                    int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  if (isa.query_levels == 0) screen = nullptr;
  const Thresholds thresholds{scores, ties};
  const Totals totals{per_query, per_key};
  const double longest = screen != nullptr ? longest_key(*screen) : 0;
  std::atomic<int64_t> scored{0};
  const int64_t block = screen != nullptr ? kQueryBlock : kMaxQueryBlock;
  const Plan plan(queries.rows, keys.rows, block, kMaxPanels * kPanel, threads);
  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t index) {
    const int64_t first_query = index / plan.key_parts * plan.query_block;
    const Matrix rows =
        queries.slice(first_query, std::min(first_query + plan.query_block, queries.rows));
    const int64_t first_key = index % plan.key_parts * plan.keys_per_part;
    const int64_t last_key = std::min(first_key + plan.keys_per_part, keys.rows);
    int64_t panel = first_key / kPanel;
    if (screen != nullptr) {
      ScreenedCount screened(isa, rows, first_query, keys, *screen, thresholds, totals);
      if (screened.coded().can_screen(longest)) {
        int64_t so_far = 0;
        panel = walk_panels(panel, ceil_div(last_key, kPanel), rows.rows, interrupt,
                            [&](int64_t first, int64_t last) {
                              return so_far = screened.screen_panels(first, last);
                            });
        scored += so_far;
      }
    }
    const int64_t rest = std::min(panel * kPanel, last_key);
    scored += rows.rows * (last_key - rest);
    count_exactly(isa, rows, first_query, keys, rest, last_key, thresholds, totals, interrupt);
  });
  return scored;
}

void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices, float* out,
                 int threads, Interrupt& interrupt) {
  constexpr int64_t kPairs = 256;
  const Kernels& isa = kernels();
  parallel_for(ceil_div(queries.rows, kPairs), threads, interrupt, [&](int64_t task) {
    const int64_t begin = task * kPairs;
    const int64_t end = std::min(begin + kPairs, queries.rows);
    PairScorer scorer(isa, queries.slice(begin, end), keys, 1);
    for (int64_t i = begin; i < end; ++i) out[i] = *scorer.score(i - begin, indices + i, 1);
  });
}

}  // namespace fastclip::cpu
