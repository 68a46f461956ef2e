// Top-k through the screen: pairs whose upper bound is below the k-th best lower bound are dropped,
// the rest is scored exactly, most promising first.
#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <vector>

#include "ops.h"
#include "screen.h"
#include "select.h"
#include "topk_plan.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kQueryBlock = 512;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A pair that the screen let pass, with bounds on its exact score in units of s_q from q.c.
struct Candidate {
  float lower;
  float upper;
  int64_t key;
};

constexpr int64_t candidates_per_query(int64_t k) { return 2 * k + 128; }

class ScreenedTopK {
 public:
  // `best` may hold keys already.
  ScreenedTopK(const Kernels& kernels, BlockScreen& block, int64_t k, TopK& best)
      : kernels_(kernels),
        block_(block),
        k_(k),
        capacity_(candidates_per_query(k)),
        best_(best),
        floor_(block.num_queries(), -kInfinity),
        thresholds_(block.num_queries(), -kInfinity),
        counts_(block.num_queries()),
        candidates_(block.num_queries() * capacity_, Contents::kAnything),
        lowers_(std::max(capacity_, kMaxPanelKeys)),
        hits_(block.num_queries() * kMaxPanelKeys, Contents::kAnything) {
    for (int64_t i = 0; i < block.num_queries(); ++i) raise_to_best(i);
  }

  // Looks at the panels that the block has gone to. Returns how many pairs were scored so far.
  int64_t screen() {
    if (!begun_) return begin();
    ScreenCall call = block_.call();
    call.thresholds = thresholds_.data();
    call.hits = hits_.get();
    const int64_t count = kernels_.screen(call);
    for (int64_t h = 0; h < count; ++h) {
      const Hit& hit = hits_.get()[h];
      add(hit.query, hit.key, hit.x);
    }
    return scored_;
  }

  int64_t certify_all() {
    for (int64_t i = 0; i < block_.num_queries(); ++i) certify(i);
    return scored_;
  }

 private:
  static constexpr int64_t kFolded = 64;
  static constexpr int64_t kBatch = 32;  // pairs scored at a time

  // Nothing is known yet to drop pairs by. The first keys give a floor: the k-th best of their
  // lower bounds or, cheaper, of the best bounds of kFolded sets that they are dealt to.
  int64_t begin() {
    begun_ = true;
    AlignedBuffer<float> products(block_.num_queries() * kMaxPanelKeys, Contents::kAnything);
    ScreenCall call = block_.call();
    call.products = products.get();
    call.products_stride = kMaxPanelKeys;
    kernels_.screen(call);
    const int64_t keys = block_.num_keys();
    int32_t reaching[kMaxPanelKeys];
    for (int64_t i = 0; i < block_.num_queries(); ++i) {
      const float* x = products.get() + i * kMaxPanelKeys;
      if (keys >= k_) {
        const KeyRun run = block_.run(i, x, 0, keys);
        float* lowers = lowers_.data();
        for (int64_t j = 0; j < keys; ++j) {
          lowers[j] =
              x[j] - (run.query.alpha * run.error[j] + run.query.beta * run.norm[j] + run.gamma);
        }
        int64_t sets = keys;
        if (4 * k_ <= kFolded && keys > kFolded) {
          for (int64_t begin = kFolded; begin < keys; begin += kFolded) {
            const float* next = lowers + begin;
            const int64_t count = std::min(kFolded, keys - begin);
            for (int64_t j = 0; j < count; ++j) lowers[j] = std::max(lowers[j], next[j]);
          }
          sets = kFolded;
        }
        raise(i, kth_largest(lowers, sets, k_));
      }
      const int64_t count = kernels_.reaching(block_.run(i, x, 0, keys), floor_[i], reaching);
      for (int64_t r = 0; r < count; ++r) add(i, reaching[r], x[reaching[r]]);
    }
    return scored_;
  }

  void add(int64_t i, int64_t key, float x) {
    const float margin = block_.margin(i, key);
    if (x + margin < floor_[i]) return;
    candidates_.get()[i * capacity_ + counts_[i]++] = {x - margin, x + margin,
                                                       block_.first_key() + key};
    if (counts_[i] == capacity_) certify(i);
  }

  // Scores the candidates of a query exactly, as far as they can still be among the best k.
  void certify(int64_t i) {
    Candidate* begin = candidates_.get() + i * capacity_;
    Candidate* end = begin + counts_[i];
    if (counts_[i] > k_) {
      for (int64_t c = 0; c < counts_[i]; ++c) lowers_[c] = begin[c].lower;
      raise(i, kth_largest(lowers_.data(), counts_[i], k_));
    }
    end = std::remove_if(begin, end, [&](const Candidate& c) { return c.upper < floor_[i]; });
    // The k most promising ones first; few of the others are left after that.
    Candidate* rest = std::min(begin + k_, end);
    if (rest < end) {
      std::nth_element(begin, rest, end,
                       [](const Candidate& a, const Candidate& b) { return a.upper > b.upper; });
    }
    score(i, begin, rest);
    score(i, rest, end);
    counts_[i] = 0;
  }

  // Scores the candidates [begin, end) that can still be among the best.
  void score(int64_t i, const Candidate* begin, const Candidate* end) {
    while (begin < end) {
      int64_t count = 0;
      for (; begin < end && count < kBatch; ++begin) {
        if (begin->upper < floor_[i]) continue;
        block_.scorer().prefetch(begin->key);
        batch_[count++] = {i, begin->key};
      }
      block_.scorer().score(batch_, count, scores_);
      for (int64_t j = 0; j < count; ++j) best_.merge(i, scores_ + j, &batch_[j].key, 1);
      scored_ += count;
      if (begin == end || k_ <= kBatch) raise_to_best(i);
    }
  }

  // The k-th best exact score is what a key must reach from now on.
  void raise_to_best(int64_t i) {
    if (best_.settle(i)) raise(i, block_.floor_of(i, best_.threshold(i)));
  }

  // From now on, keys whose upper bound is below `floor` are out.
  void raise(int64_t i, float floor) {
    if (!(floor > floor_[i])) return;
    floor_[i] = floor;
    thresholds_[i] = round_down(static_cast<double>(floor) - block_.gamma(i));
  }

  const Kernels& kernels_;
  BlockScreen& block_;
  const int64_t k_;
  const int64_t capacity_;
  TopK& best_;
  bool begun_ = false;
  std::vector<float> floor_;
  std::vector<float> thresholds_;  // floor - gamma, as the kernel asks for it
  std::vector<int64_t> counts_;
  AlignedBuffer<Candidate> candidates_;
  std::vector<float> lowers_;
  Pair batch_[kBatch];
  float scores_[kBatch];
  AlignedBuffer<Hit> hits_;
  int64_t scored_ = 0;
};

}  // namespace

int64_t screened_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                      const Screens& screens, int64_t k, NonFiniteRow* nonfinite, float* values,
                      int64_t* indices, int threads, Interrupt& interrupt) {
  const ScreenKeys* codes = screens.codes[0];
  const double longest = codes != nullptr ? longest_key(*codes) : 0;
  std::atomic<int64_t> scored{0};
  const auto candidate_bytes = static_cast<int64_t>(sizeof(Candidate)) * candidates_per_query(k);
  // Keys that stay near can be passed over often, so that the queries stay near as well.
  const bool near = keys.rows * keys.cols * size_of(keys.dtype) <= kKeyBlockBytes;
  const int64_t block =
      std::clamp<int64_t>((16 << 20) / candidate_bytes, 1, near ? kQueryBlock / 8 : kQueryBlock);
  // Each part of the keys has its own k best to find, which takes as long as to screen some
  // thousand keys, the more the larger k is. Very few queries cannot be split instead.
  const int64_t key_block =
      queries.rows >= 16 ? std::max<int64_t>(4096, 512 * k) : std::max<int64_t>(kScreenKeys, 8 * k);
  static_assert(Plan::kPartStep % kPanel == 0);
  const Plan plan(queries.rows, keys.rows, block, key_block, threads);
  reduce_topk(plan, queries.rows, keys.rows, k, values, indices, threads, interrupt,
              [&](const TopKTask& task, auto&& finish) {
                const Matrix rows = queries.slice(task.first_query, task.last_query);
                TopK best(rows.rows, task.last_key - task.first_key, task.k);
                int64_t panel = task.first_key / kPanel;
                for (int s = 0; s < screens.count && panel * kPanel < task.last_key; ++s) {
                  BlockScreen block(isa, rows, keys, screens.codes[s], longest);
                  ScreenedTopK screened(isa, block, task.k, best);
                  panel =
                      walk_panels(block, panel, ceil_div(task.last_key, kPanel), 4 * task.k + 64,
                                  interrupt, [&] { return screened.screen(); });
                  scored += screened.certify_all();
                }
                const int64_t rest = std::min(panel * kPanel, task.last_key);
                scored += rows.rows * (task.last_key - rest);
                sweep(
                    isa, rows, keys, rest, task.last_key, interrupt,
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
