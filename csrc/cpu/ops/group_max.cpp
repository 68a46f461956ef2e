// The best key of each group.
#include "fastclip/ops/group_max.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/screen.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/scored_key.h"

namespace fastclip::cpu {
namespace {

// Best score and key of each group for a block of queries; -1 where none was seen.
struct Best {
  const int64_t* groups;
  int64_t num_groups;
  float* values;     // [rows, num_groups]
  int64_t* indices;  // [rows, num_groups]

  // Of the group of `key`.
  ScoredKey get(int64_t i, int64_t key) const {
    const int64_t at = i * num_groups + groups[key];
    return {values[at], indices[at]};
  }
  void set(int64_t i, int64_t key, const ScoredKey& best) const {
    const int64_t at = i * num_groups + groups[key];
    values[at] = best.score;
    indices[at] = best.index;
  }
};

void offer(ScoredKey& best, const ScoredKey& key) {
  if (best.index < 0 || ahead(key, best)) best = key;
}

// Screens groups of consecutive keys. In each group the key with the largest upper bound is
// rescored first, then those whose upper bounds reach that score.
class ScreenedGroupMax {
 public:
  ScreenedGroupMax(const Kernels& kernels, BlockScreen& block, const Best& best)
      : kernels_(kernels),
        block_(block),
        best_(best),
        uppers_(block.num_queries() * kMaxPanelKeys, Contents::kAnything),
        contests_(kMaxPairs, Contents::kAnything),
        pairs_(kMaxPairs, Contents::kAnything) {}

  int64_t allowance() const { return tuning::kFewSurvivors; }

  // Looks at the panels that the block has gone to. Returns how many pairs were scored so far.
  int64_t screen() {
    block_.write_uppers({uppers_.get(), kMaxPanelKeys});
    first_key_ = block_.first_key();
    const int64_t count = block_.num_keys();
    const int64_t* groups = best_.groups + first_key_;
    runs_.clear();
    for (int64_t begin = 0, end = 1; end <= count; ++end) {
      if (end < count && groups[end] == groups[begin]) continue;
      runs_.push_back({begin, end});
      begin = end;
    }
    const int64_t queries = block_.num_queries();
    for (int64_t i = 0; i < queries; i += kTogether) {
      num_contests_ = 0;
      for (int64_t q = i; q < std::min(i + kTogether, queries); ++q) pick_largest(q);
      score_pairs();
      for (int64_t c = 0; c < num_contests_; ++c) pick_rivals(c);
      score_pairs();
      for (int64_t c = 0; c < num_contests_; ++c) {
        const Contest& contest = contests_.get()[c];
        best_.set(contest.query, contest.best.index, contest.best);
      }
    }
    return scored_;
  }
  int64_t finish() const { return scored_; }

 private:
  static constexpr int64_t kTogether = tuning::kGroupQueries;
  static constexpr int64_t kMaxPairs = kTogether * kMaxPanelKeys;

  struct Run {
    int64_t begin, end;  // from first_key_ on
  };

  // The keys of a run, for one query.
  struct Contest {
    int64_t query, argmax;
    KeyRun run;
    ScoredKey best;
  };

  void pick_largest(int64_t i) {
    for (const auto& [begin, end] : runs_) {
      const KeyRun run = {uppers_.get() + i * kMaxPanelKeys, begin, end};
      // The group may have begun in an earlier call.
      const ScoredKey best = best_.get(i, first_key_ + begin);
      int64_t argmax;
      const float upper = kernels_.argmax(run, argmax);
      if (best.index >= 0 && upper < threshold_of(i, best)) continue;
      contests_.get()[num_contests_] = {i, argmax, run, best};
      add_pair(num_contests_++, argmax);
    }
  }

  void pick_rivals(int64_t c) {
    const Contest& contest = contests_.get()[c];
    int32_t keys[kMaxPanelKeys + kLanes];
    const int64_t count =
        kernels_.compress(contest.run, threshold_of(contest.query, contest.best), keys);
    for (int64_t r = 0; r < count; ++r) {
      if (keys[r] != contest.argmax) add_pair(c, keys[r]);
    }
  }

  // What the upper bound of a key must reach.
  float threshold_of(int64_t i, const ScoredKey& best) const {
    return block_.maybe_threshold(i, best.score);
  }

  void add_pair(int64_t c, int64_t key) {
    pairs_.get()[num_pairs_] = {contests_.get()[c].query, first_key_ + key};
    owners_[num_pairs_++] = static_cast<int32_t>(c);
  }

  void score_pairs() {
    block_.scorer().score(pairs_.get(), num_pairs_, scores_);
    for (int64_t p = 0; p < num_pairs_; ++p) {
      offer(contests_.get()[owners_[p]].best, {scores_[p], pairs_.get()[p].key});
    }
    scored_ += num_pairs_;
    num_pairs_ = 0;
  }

  const Kernels& kernels_;
  BlockScreen& block_;
  const Best best_;
  AlignedBuffer<float> uppers_;
  int64_t first_key_ = 0;
  std::vector<Run> runs_;
  AlignedBuffer<Contest> contests_;
  int64_t num_contests_ = 0;
  AlignedBuffer<Pair> pairs_;
  int32_t owners_[kMaxPairs];  // the contests that the pairs are scored for
  float scores_[kMaxPairs];
  int64_t num_pairs_ = 0;
  int64_t scored_ = 0;
};

}  // namespace

void group_max(const GroupMaxCall& call, Screening screening, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const int64_t *groups = call.groups.data, num_groups = call.values.sizes[1];
  const Kernels& isa = kernels();
  // Keys are not split: with few queries and many groups, merging would cost as much as it gains.
  const int64_t block_rows =
      std::clamp<int64_t>(ceil_div<int64_t>(queries.rows, threads), 1, tuning::kGroupQueryBlock);
  Screens screens{};
  if (std::is_sorted(groups, groups + keys.rows))
    screens = screens_for(isa, call.screen, block_rows, screening);
  std::atomic<int64_t> scored{0};
  parallel_for(ceil_div(queries.rows, block_rows), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * block_rows;
    const Matrix rows = queries.slice(first, std::min(first + block_rows, queries.rows));
    const Best best{groups, num_groups, call.values.data + first * num_groups,
                    call.indices.data + first * num_groups};
    std::fill_n(best.indices, rows.rows * num_groups, -1);
    scored += search_keys(
        isa, rows, keys, 0, keys.rows, screens, nullptr, interrupt,
        [&](BlockScreen& block) { return ScreenedGroupMax(isa, block, best); },
        [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
          for (int64_t i = 0; i < rows.rows; ++i) {
            for (int64_t j = 0; j < count; ++j) {
              ScoredKey to = best.get(i, begin + j);
              offer(to, {scores[i * ld + j], begin + j});
              best.set(i, begin + j, to);
            }
          }
        });
  });
  *call.survivors.data = scored;
}

}  // namespace fastclip::cpu
