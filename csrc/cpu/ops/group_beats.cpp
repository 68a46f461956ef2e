// Which groups of keys beat a target.
#include "fastclip/ops/group_beats.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/engine/fixed_screen.h"
#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"

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

  void screened(FixedScreen& screen) {
    screen.find();
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

void group_beats(const GroupBeatsCall& call, Screening screening, int threads,
                 Interrupt& interrupt) {
  std::fill_n(call.bits.data, call.bits.count(), 0);
  const std::vector<Threshold> thresholds = join_thresholds(call.scores, call.ties);
  *call.survivors.data =
      search_fixed(kernels(), call.queries, call.keys, call.screen, nullptr, call.scores.data,
                   screening, threads, interrupt, [&](int64_t first_query, int64_t rows) {
                     return BeatsTask{thresholds.data() + first_query,
                                      call.groups.data,
                                      first_query,
                                      rows,
                                      call.bits.sizes[1],
                                      reinterpret_cast<uint64_t*>(call.bits.data)};
                   });
}

}  // namespace fastclip::cpu
