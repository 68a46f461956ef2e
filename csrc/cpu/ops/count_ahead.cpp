// How many keys score ahead of a threshold: rank and count_above.
#include "fastclip/ops/count_ahead.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/engine/fixed_screen.h"
#include "cpu/isa/isa.h"

namespace fastclip::cpu {
namespace {

// The counts of all tasks. They are integers, so that any order of additions gives the same.
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

// One block of queries.
struct CountTask {
  const Threshold* thresholds;  // of the block
  int64_t first_query;
  int64_t queries;
  const Totals& totals;
  std::vector<int64_t> key_counts;

  void screened(FixedScreen& screen) {
    screen.count(totals.per_key != nullptr);
    for (int64_t i = 0; i < queries; ++i) {
      totals.add_query(first_query + i, screen.query_counts()[i]);
    }
    for (int64_t key = 0; key < screen.num_keys(); ++key) {
      totals.add_key(screen.first_key() + key, screen.key_counts()[key]);
    }
    screen.decide([](int64_t, int64_t, bool) { return true; },
                  [&](int64_t i, int64_t key, float score) {
                    if (!thresholds[i].passed(score, key)) return;
                    totals.add_query(first_query + i, 1);
                    totals.add_key(key, 1);
                  });
  }

  void exact(const float* scores, int64_t ld, int64_t first_key, int64_t count) {
    key_counts.assign(count, 0);
    for (int64_t i = 0; i < queries; ++i) {
      int64_t ahead = 0;
      for (int64_t j = 0; j < count; ++j) {
        const bool is = thresholds[i].passed(scores[i * ld + j], first_key + j);
        ahead += is;
        key_counts[j] += is;
      }
      totals.add_query(first_query + i, ahead);
    }
    for (int64_t j = 0; j < count; ++j) totals.add_key(first_key + j, key_counts[j]);
  }
};

}  // namespace

void count_ahead(const CountAheadCall& call, Screening screening, int threads,
                 Interrupt& interrupt) {
  const Totals totals{call.per_query.data, call.per_key.data};
  if (totals.per_query != nullptr) std::fill_n(totals.per_query, call.queries.rows, 0);
  if (totals.per_key != nullptr) std::fill_n(totals.per_key, call.keys.rows, 0);
  const std::vector<Threshold> thresholds = join_thresholds(call.scores, call.ties);
  *call.survivors.data = search_fixed(
      kernels(), call.queries, call.keys, call.screen, call.allowed.data, call.scores.data,
      screening, threads, interrupt, [&](int64_t first_query, int64_t rows) {
        return CountTask{thresholds.data() + first_query, first_query, rows, totals, {}};
      });
}

}  // namespace fastclip::cpu
