// Questions about groups of keys: the best key of each group, and which groups beat a target.
#include <algorithm>
#include <atomic>
#include <vector>

#include "fixed_screen.h"
#include "isa.h"
#include "mainloop.h"
#include "ops.h"

namespace fastclip::cpu {
namespace {

struct BeatsTask {
  const Threshold* thresholds;  // of the block
  const int64_t* groups;
  int64_t first_query;
  int64_t queries;
  int64_t words;
  uint64_t* bits;  // of all queries, [queries, words]; several tasks may set bits of one word

  bool is_set(int64_t i, int64_t group) const {
    return (word(i, group).load(std::memory_order_relaxed) >> (group % 64) & 1) != 0;
  }
  void set(int64_t i, int64_t group) const {
    word(i, group).fetch_or(uint64_t{1} << (group % 64), std::memory_order_relaxed);
  }

  void screened(FixedScreen& screen, int64_t first, int64_t last) {
    screen.run(first, last);
    screen.decide(
        [&](int64_t i, int64_t key, bool sure) {
          if (is_set(i, groups[key])) return false;
          if (sure) set(i, groups[key]);
          return !sure;
        },
        [&](int64_t i, int64_t key, float score) {
          if (thresholds[i].passed(score, key)) set(i, groups[key]);
        });
  }

  void exact(const float* scores, int64_t ld, int64_t first_key, int64_t count) {
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < count; ++j) {
        const int64_t key = first_key + j;
        if (thresholds[i].passed(scores[i * ld + j], key) && !is_set(i, groups[key])) {
          set(i, groups[key]);
        }
      }
    }
  }

 private:
  std::atomic_ref<uint64_t> word(int64_t i, int64_t group) const {
    return std::atomic_ref(bits[(first_query + i) * words + group / 64]);
  }
};

}  // namespace

int64_t group_beats(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                    const float* scores, const int64_t* ties, const int64_t* groups, int64_t words,
                    uint64_t* bits, int threads, Interrupt& interrupt) {
  const std::vector<Threshold> thresholds = join_thresholds(scores, ties, queries.rows);
  return search_fixed(
      kernels(), queries, keys, screen, scores, threads, interrupt,
      [&](int64_t first_query, int64_t rows) {
        return BeatsTask{thresholds.data() + first_query, groups, first_query, rows, words, bits};
      });
}

void group_max(const Matrix& queries, const Matrix& keys, const int64_t* groups, int64_t num_groups,
               float* values, int64_t* indices, int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  // Keys are not split: with few queries and many groups, merging would cost as much as it gains.
  const int64_t block = std::clamp<int64_t>(ceil_div(queries.rows, threads), 1, kMaxQueryBlock);
  parallel_for(ceil_div(queries.rows, block), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * block;
    const int64_t last = std::min(first + block, queries.rows);
    std::fill(indices + first * num_groups, indices + last * num_groups, -1);
    sweep(isa, queries.slice(first, last), keys, 0, keys.rows, interrupt,
          [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = first; i < last; ++i) {
              float* best = values + i * num_groups;
              int64_t* where = indices + i * num_groups;
              const float* row = scores + (i - first) * ld;
              for (int64_t j = 0; j < count; ++j) {
                const int64_t group = groups[begin + j];
                // Keys come in increasing order, so that the earlier one wins a tie.
                if (where[group] < 0 || row[j] > best[group]) {
                  best[group] = row[j];
                  where[group] = begin + j;
                }
              }
            }
          });
  });
}

}  // namespace fastclip::cpu
