// Top-k through the screen: pairs whose upper bound is below the k-th best lower bound are dropped,
// the others are rescored, most promising first.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/engine/screen.h"
#include "cpu/ops/topk_plan.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The keys that survived the screen, in order for each query, with bounds on their exact scores: in
// units of s_q from q.c.
class Candidates {
 public:
  static constexpr int64_t kEntryBytes = 2 * sizeof(float) + sizeof(int64_t);

  static constexpr int64_t capacity(int64_t k) {
    return round_up(tuning::topk_candidates(k), kLanes);
  }

  Candidates(int64_t queries, int64_t k)
      : capacity_(capacity(k)),
        counts_(queries),
        lowers_(queries * capacity_, Contents::kAnything),
        uppers_(queries * capacity_, Contents::kAnything),
        keys_(queries * capacity_, Contents::kAnything) {}

  int64_t capacity() const { return capacity_; }
  int64_t& count(int64_t query) { return counts_[query]; }
  float* lowers(int64_t query) const { return lowers_.get() + query * capacity_; }
  float* uppers(int64_t query) const { return uppers_.get() + query * capacity_; }
  int64_t* keys(int64_t query) const { return keys_.get() + query * capacity_; }

 private:
  int64_t capacity_;
  std::vector<int64_t> counts_;
  AlignedBuffer<float> lowers_, uppers_;
  AlignedBuffer<int64_t> keys_;
};

class ScreenedTopK {
 public:
  // `best` may hold keys already.
  ScreenedTopK(const Kernels& kernels, BlockScreen& block, const Matrix& keys, int64_t k,
               TopK& best)
      : kernels_(kernels),
        block_(block),
        k_(k),
        few_(tuning::topk_few(k)),
        window_(resident_keys(keys)),
        best_(best),
        floor_(block.num_queries(), -kInfinity),
        thresholds_(block.num_queries(), -kInfinity),
        places_(block.num_queries()),
        first_(block.num_queries()),
        candidates_(block.num_queries(), k),
        hits_(block.num_queries() * kMaxPanelKeys, Contents::kAnything) {
    for (int64_t i = 0; i < block.num_queries(); ++i) raise_to_best(i);
  }

  int64_t allowance() const { return tuning::topk_allowance(k_); }

  // Looks at the panels that the block has gone to. Returns how many pairs survived so far: one
  // that is dropped without a score costs a part of one with a score.
  int64_t screen() {
    if (begun_) {
      find();
    } else {
      begin();
    }
    return scored_ + survivors_ / tuning::kSurvivorsPerScore;
  }

  // Scores what is left exactly. Returns how many pairs were scored in all.
  int64_t finish() {
    rescore(0, 0);
    return scored_;
  }

 private:
  static constexpr int64_t kFolded = tuning::kFoldedSets, kBatch = tuning::kRescoreBatch;

  // Keys that are resident in the L2 while all queries are scored with them.
  static int64_t resident_keys(const Matrix& keys) {
    return tuning::kKeyBlockBytes / std::max<int64_t>(1, keys.cols * size_of(keys.dtype)) + 1;
  }

  // A key with bounds on its score, in units of s_q from q.c.
  struct Candidate {
    int64_t query, key;  // the latter from the first key of the block on
    float lower, upper;
  };

  void find() {
    const Hit* hits = hits_.get();
    add(block_.find_hits({thresholds_.data(), hits_.get()}), [&](int64_t h) {
      const Hit& hit = hits[h];
      const float margin = block_.margin(hit.query, hit.key) + block_.gamma(hit.query);
      return Candidate{hit.query, hit.key, hit.x - margin, hit.x + margin};
    });
  }

  // At first there is no threshold. The first keys give one: the k-th best of their lower bounds
  // or, cheaper, of the best bounds of kFolded sets that they are dealt to.
  void begin() {
    begun_ = true;
    const int64_t size = block_.num_queries() * kMaxPanelKeys, keys = block_.num_keys();
    AlignedBuffer<float> lowers(size, Contents::kAnything), uppers(size, Contents::kAnything);
    block_.write_bounds({lowers.get(), uppers.get(), kMaxPanelKeys});
    int32_t passed[kMaxPanelKeys + kLanes];
    for (int64_t i = 0; i < block_.num_queries(); ++i) {
      float* lower = lowers.get() + i * kMaxPanelKeys;
      for (int64_t j = 0; !block_.allows_all() && j < keys; ++j) {
        if (std::isnan(lower[j])) lower[j] = -kInfinity;
      }
      const float* upper = uppers.get() + i * kMaxPanelKeys;
      const float gamma = block_.gamma(i);
      if (keys >= k_) raise(i, kth_lower(lower, keys) - gamma);
      const int64_t count = kernels_.compress({upper, 0, keys}, thresholds_[i], passed);
      add(count, [&](int64_t c) {
        return Candidate{i, passed[c], lower[passed[c]] - gamma, upper[passed[c]] + gamma};
      });
    }
  }

  float kth_lower(const float* lower, int64_t keys) const {
    const int64_t more = tuning::topk_slack(k_);
    if (4 * k_ > kFolded || keys <= kFolded) return kernels_.kth_largest(lower, keys, k_, more);
    float best[kFolded];
    std::copy_n(lower, kFolded, best);
    for (int64_t begin = kFolded; begin < keys; begin += kFolded) {
      const int64_t count = std::min(kFolded, keys - begin);
      for (int64_t j = 0; j < count; ++j) {  // not std::max, which GCC does not vectorise
        const float x = lower[begin + j];
        best[j] = x > best[j] ? x : best[j];
      }
    }
    return kernels_.kth_largest(best, kFolded, k_, more);
  }

  // Adds the candidates at(0) ... at(count - 1). Those of one query come in runs.
  template <class At>
  void add(int64_t count, At&& at) {
    for (int64_t c = 0; c < count;) {
      const int64_t i = at(c).query;
      const float floor = floor_[i];
      float* lowers = candidates_.lowers(i);
      float* uppers = candidates_.uppers(i);
      int64_t* keys = candidates_.keys(i);
      const int64_t begin = candidates_.count(i), end = candidates_.capacity();
      int64_t to = begin;
      for (; c < count && to < end; ++c) {
        const Candidate candidate = at(c);
        if (candidate.query != i) break;
        lowers[to] = candidate.lower;
        uppers[to] = candidate.upper;
        keys[to] = block_.first_key() + candidate.key;
        to += uppers[to] >= floor ? 1 : 0;
      }
      survivors_ += to - begin;
      candidates_.count(i) = to;
      // Where bounds alone drop enough of them, scores are not needed yet.
      if (to < end) continue;
      rescore(candidates_.capacity() / 2, k_ + k_ / 2);
    }
  }

  // Drops candidates of queries that have more than `many`, by their bounds. Where more than `most`
  // are left, the k most promising are scored exactly, so that others can be dropped, and the rest
  // only if there are still more than `many`: later they may be dropped without a score.
  void rescore(int64_t many, int64_t most) {
    queries_.clear();
    for (int64_t i = 0; i < block_.num_queries(); ++i) {
      int64_t& count = candidates_.count(i);
      if (count <= many) continue;
      drop(i);
      if (count <= most) continue;
      queries_.push_back(i);
      first_[i] = -kInfinity;
      if (count <= few_) continue;
      first_[i] =
          kernels_.kth_largest(candidates_.uppers(i), count, k_, tuning::topk_first_slack(k_));
    }
    score([&](int64_t i, float upper) { return upper >= first_[i]; });
    for (const int64_t i : queries_) {
      raise_to_best(i);
      keep_between(i, floor_[i], first_[i]);
    }
    std::erase_if(queries_, [&](int64_t i) { return candidates_.count(i) <= many; });
    if (queries_.empty()) return;
    score([](int64_t, float) { return true; });
    for (const int64_t i : queries_) {
      raise_to_best(i);
      candidates_.count(i) = 0;
    }
  }

  // Keeps the candidates of a query with upper bounds in [low, high).
  void keep_between(int64_t i, float low, float high) {
    float* lowers = candidates_.lowers(i);
    float* uppers = candidates_.uppers(i);
    int64_t* keys = candidates_.keys(i);
    int64_t to = 0;
    for (int64_t c = 0; c < candidates_.count(i); ++c) {
      const float upper = uppers[c];
      lowers[to] = lowers[c];
      uppers[to] = upper;
      keys[to] = keys[c];
      to += ((upper >= low) & (upper < high)) ? 1 : 0;
    }
    candidates_.count(i) = to;
  }

  // Drops the candidates of a query that cannot be among the best k, by the bounds of the others.
  void drop(int64_t i) {
    int64_t& count = candidates_.count(i);
    float* lowers = candidates_.lowers(i);
    if (count > few_) raise(i, kernels_.kth_largest(lowers, count, k_, tuning::topk_slack(k_)));
    count = kernels_.keep_at_least(floor_[i], count, candidates_.uppers(i), lowers,
                                   candidates_.keys(i));
  }

  // Scores the candidates of `queries_` that take(i, upper bound) says. They are in order of their
  // keys. Where keys have several candidates each, all queries take those of one window of keys
  // before they go to the next, so that a key is read from memory once; else queries go one after
  // the other, whose own rows are read once.
  template <class Take>
  void score(Take&& take) {
    constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
    int64_t pairs = 0, next = kNone, last = 0;
    for (const int64_t i : queries_) {
      const int64_t count = candidates_.count(i);
      places_[i] = 0;
      if (count == 0) continue;
      pairs += count;
      next = std::min(next, candidates_.keys(i)[0]);
      last = std::max(last, candidates_.keys(i)[count - 1]);
    }
    const int64_t window = pairs > last - next ? window_ : kNone - last;
    for (int64_t key = next; key != kNone; key = next) {
      const int64_t end = key + window;
      next = kNone;
      for (const int64_t i : queries_) {
        const float* uppers = candidates_.uppers(i);
        const int64_t* keys = candidates_.keys(i);
        const int64_t count = candidates_.count(i);
        int64_t at = places_[i];
        for (; at < count && keys[at] < end; ++at) {
          if (!take(i, uppers[at])) continue;
          block_.scorer().prefetch(keys[at]);
          batch_[batched_++] = {i, keys[at]};
          if (batched_ == kBatch) score_batch();
        }
        if (at < count) next = std::min(next, keys[at]);
        places_[i] = at;
      }
    }
    score_batch();
  }

  void score_batch() {
    float scores[kBatch];
    block_.scorer().score(batch_, batched_, scores);
    for (int64_t p = 0; p < batched_; ++p) {
      best_.merge(batch_[p].query, scores + p, &batch_[p].key, 1);
    }
    scored_ += batched_;
    batched_ = 0;
  }

  // The k-th best exact score is what a key must reach from now on.
  void raise_to_best(int64_t i) {
    if (best_.settle(i)) raise(i, block_.floor_of(i, best_.threshold(i)));
  }

  // From now on, keys whose upper bound is below `floor` are dropped.
  void raise(int64_t i, float floor) {
    if (!(floor > floor_[i])) return;
    floor_[i] = floor;
    thresholds_[i] = round_down(static_cast<double>(floor) - block_.gamma(i));
  }

  const Kernels& kernels_;
  BlockScreen& block_;
  const int64_t k_;
  const int64_t few_;  // so few that rescoring all costs less than to find those to drop
  const int64_t window_;
  TopK& best_;
  bool begun_ = false;
  std::vector<float> floor_;
  std::vector<float> thresholds_;  // floor - gamma, as the kernel asks for it
  std::vector<int64_t> places_;
  std::vector<float> first_;
  std::vector<int64_t> queries_;  // whose candidates are scored
  Candidates candidates_;
  Pair batch_[kBatch];
  int64_t batched_ = 0;
  AlignedBuffer<Hit> hits_;
  int64_t survivors_ = 0;
  int64_t scored_ = 0;
};

}  // namespace

int64_t screened_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                      const Screens& screens, const uint8_t* allowed, int64_t k,
                      NonFiniteRow* nonfinite, float* values, int64_t* indices, int threads,
                      Interrupt& interrupt) {
  std::atomic<int64_t> scored{0};
  const int64_t candidate_bytes = Candidates::kEntryBytes * Candidates::capacity(k);
  const bool resident = keys.rows * keys.cols * size_of(keys.dtype) <= tuning::kKeyBlockBytes;
  const int64_t block =
      std::clamp<int64_t>(tuning::kCandidateBytes / candidate_bytes, 1,
                          resident ? tuning::kResidentQueryBlock : tuning::kScreenedQueryBlock);
  const int64_t key_block = tuning::topk_part_keys(queries.rows, k);
  static_assert(Plan::kPartMultiple % kPanel == 0);
  const Plan plan(queries.rows, keys.rows, block, key_block, tuning::topk_least_keys(k), threads);
  reduce_topk(
      isa, plan, queries.rows, keys.rows, k, values, indices, threads, interrupt,
      [&](const TopKTask& task, auto&& finish) {
        const Matrix rows = queries.slice(task.first_query, task.last_query);
        TopK best(isa, rows.rows, task.last_key - task.first_key, task.k);
        scored += search_keys(
            isa, rows, keys, task.first_key, task.last_key, screens, allowed, interrupt,
            [&](BlockScreen& block) { return ScreenedTopK(isa, block, keys, task.k, best); },
            [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
              for (int64_t i = 0; i < rows.rows; ++i) {
                best.accumulate(i, scores + i * ld, count, begin);
              }
            },
            nonfinite);
        finish(best);
      });
  return scored;
}

}  // namespace fastclip::cpu
