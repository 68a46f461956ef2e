// The best key of each group.
#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "fastclip/scored_key.h"
#include "isa.h"
#include "mainloop.h"
#include "ops.h"
#include "screen.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kQueryBlock = 512;

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
  ScreenedGroupMax(const Kernels& kernels, BlockScreen& block, const Best& best)
      : kernels_(kernels),
        block_(block),
        best_(best),
        products_(block.num_queries() * kStride, Contents::kAnything) {}

  int64_t allowance() const { return kFewSurvivors; }

  // Looks at the panels that the block has gone to. Returns how many pairs were scored so far.
  int64_t screen() {
    ScreenCall call = block_.call();
    call.products = products_.get();
    call.products_stride = kStride;
    kernels_.screen(call);
    first_key_ = block_.first_key();
    const int64_t count = block_.num_keys();
    const int64_t* groups = best_.groups + first_key_;
    runs_.clear();
    for (int64_t begin = 0, end = 1; end <= count; ++end) {
      if (end < count && groups[end] == groups[begin]) continue;
      runs_.push_back({begin, end});
      begin = end;
    }
    for (int64_t i = 0; i < call.num_queries; i += kTogether) {
      const int64_t end = std::min(i + kTogether, call.num_queries);
      for (int64_t query = i; query < end; ++query) pick_favourites(query);
      score_pairs();
      for (const Contest& contest : contests_) pick_rivals(contest);
      contests_.clear();
      score_pairs();
    }
    return scored_;
  }
  int64_t finish() const { return scored_; }

 private:
  static constexpr int64_t kStride = kMaxPanelKeys;
  // Queries whose pairs are scored together: enough pairs for the kernel, and their float64 rows
  // fit the first-level cache.
  static constexpr int64_t kTogether = 8;

  struct Run {
    int64_t begin, end;  // from first_key_ on
  };

  // The keys of a run, for one query; the favourite has been scored.
  struct Contest {
    int64_t query, favourite;
    Run run;
  };

  KeyRun key_run(int64_t i, const Run& run) const {
    return block_.run(i, products_.get() + i * kStride, run.begin, run.end);
  }

  void pick_favourites(int64_t i) {
    for (const Run& run : runs_) {
      int64_t favourite;
      const float upper = kernels_.favourite(key_run(i, run), favourite);
      // The group may have begun in an earlier call.
      if (upper < floor_of(i, first_key_ + run.begin)) continue;
      pairs_.push_back({i, first_key_ + favourite});
      contests_.push_back({i, favourite, run});
    }
  }

  void pick_rivals(const Contest& contest) {
    const float floor = floor_of(contest.query, first_key_ + contest.favourite);
    int32_t keys[kStride];
    const int64_t count = kernels_.reaching(key_run(contest.query, contest.run), floor, keys);
    for (int64_t r = 0; r < count; ++r) {
      if (keys[r] != contest.favourite) pairs_.push_back({contest.query, first_key_ + keys[r]});
    }
  }

  // What the upper bound of a key must reach, from the best score of its group so far.
  float floor_of(int64_t i, int64_t key) const {
    const int64_t at = best_.at(i, key);
    if (best_.indices[at] < 0) return -std::numeric_limits<float>::infinity();
    return block_.floor_of(i, best_.values[at]);
  }

  void score_pairs() {
    const auto count = static_cast<int64_t>(pairs_.size());
    scores_.resize(pairs_.size());
    block_.scorer().score(pairs_.data(), count, scores_.data());
    for (int64_t p = 0; p < count; ++p) best_.offer(pairs_[p].query, pairs_[p].key, scores_[p]);
    scored_ += count;
    pairs_.clear();
  }

  const Kernels& kernels_;
  BlockScreen& block_;
  const Best best_;
  AlignedBuffer<float> products_;
  int64_t first_key_ = 0;
  std::vector<Run> runs_;
  std::vector<Contest> contests_;
  std::vector<Pair> pairs_;
  std::vector<float> scores_;
  int64_t scored_ = 0;
};

}  // namespace

int64_t group_max(const Matrix& queries, const Matrix& keys, const ScreenKeys* codes,
                  const int64_t* groups, int64_t num_groups, float* values, int64_t* indices,
                  int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  // Keys are not split: with few queries and many groups, merging would cost as much as it gains.
  const int64_t block_rows = std::clamp<int64_t>(ceil_div(queries.rows, threads), 1, kQueryBlock);
  Screens screens{};
  if (std::is_sorted(groups, groups + keys.rows)) screens = screens_for(isa, codes, block_rows);
  std::atomic<int64_t> scored{0};
  parallel_for(ceil_div(queries.rows, block_rows), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * block_rows;
    const Matrix rows = queries.slice(first, std::min(first + block_rows, queries.rows));
    const Best best{groups, num_groups, values + first * num_groups, indices + first * num_groups};
    std::fill_n(best.indices, rows.rows * num_groups, -1);
    scored += search_keys(
        isa, rows, keys, 0, keys.rows, screens, interrupt,
        [&](BlockScreen& block) { return ScreenedGroupMax(isa, block, best); },
        [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
          for (int64_t i = 0; i < rows.rows; ++i) {
            for (int64_t j = 0; j < count; ++j) best.offer(i, begin + j, scores[i * ld + j]);
          }
        });
  });
  return scored;
}

}  // namespace fastclip::cpu
