// Top-k through the screen: pairs whose upper bound is below the k-th best lower bound are dropped,
// the rest is scored exactly, most promising first.
#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <vector>

#include "fastclip/topk.h"
#include "ops.h"
#include "screen.h"
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
  ScreenedTopK(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
               const ScreenKeys& screen, int64_t part_keys, int64_t k)
      : kernels_(kernels),
        screen_(screen),
        k_(k),
        capacity_(candidates_per_query(k)),
        coded_(kernels, queries, screen),
        scorer_(kernels, queries, keys),
        best_(queries.rows, part_keys, k),
        floor_(queries.rows, -kInfinity),
        thresholds_(queries.rows, -kInfinity),
        counts_(queries.rows),
        candidates_(queries.rows * capacity_),
        lowers_(capacity_),
        batch_size_(std::max<int64_t>(4, k / 16)),
        batch_(batch_size_),
        scores_(batch_size_),
        hits_(queries.rows * kMaxPanels * kPanel, Contents::kAnything) {}

  const CodedQueries& coded() const { return coded_; }
  TopK& best() { return best_; }

  // Returns how many pairs were scored exactly so far.
  int64_t screen_panels(int64_t first, int64_t last) {
    ScreenCall call{coded_.codes.data(),
                    coded_.coefficients.data(),
                    thresholds_.data(),
                    static_cast<int64_t>(counts_.size()),
                    &screen_,
                    first,
                    last,
                    hits_.get()};
    const int64_t count = kernels_.screen(call);
    for (int64_t h = 0; h < count; ++h) add(hits_.get()[h], first * kPanel);
    return scored_;
  }

  int64_t certify_all() {
    for (size_t i = 0; i < counts_.size(); ++i) certify(i);
    return scored_;
  }

 private:
  void add(const Hit& hit, int64_t first_key) {
    const int64_t i = hit.query;
    const int64_t key = first_key + hit.key;
    const float margin = coded_.margin(i, screen_, key);
    if (hit.x + margin < floor_[i]) return;
    candidates_[i * capacity_ + counts_[i]++] = {hit.x - margin, hit.x + margin, key};
    if (counts_[i] == capacity_) certify(i);
  }

  // Scores the candidates of a query exactly, as far as they can still be among the best k.
  void certify(int64_t i) {
    Candidate* begin = candidates_.data() + i * capacity_;
    Candidate* end = begin + counts_[i];
    if (counts_[i] >= k_) {
      for (int64_t c = 0; c < counts_[i]; ++c) lowers_[c] = begin[c].lower;
      const auto kth = lowers_.begin() + (k_ - 1);
      std::nth_element(lowers_.begin(), kth, lowers_.begin() + counts_[i], std::greater<>());
      raise(i, *kth);
    }
    end = std::remove_if(begin, end, [&](const Candidate& c) { return c.upper < floor_[i]; });
    std::sort(begin, end, [](const Candidate& a, const Candidate& b) { return a.upper > b.upper; });
    prefetch(begin, end);
    for (Candidate* c = begin; c < end && !(c->upper < floor_[i]);) {
      const int64_t count = std::min<int64_t>(batch_size_, end - c);
      prefetch(c + count, end);
      for (int64_t j = 0; j < count; ++j) batch_[j] = {i, c[j].key};
      scorer_.score(batch_.data(), count, scores_.data());
      for (int64_t j = 0; j < count; ++j) best_.merge(i, scores_.data() + j, &batch_[j].key, 1);
      scored_ += count;
      c += count;
      if (best_.settle(i)) {
        raise(i, round_down((best_.threshold(i) - coded_.offset[i]) / coded_.scale[i]));
      }
    }
    counts_[i] = 0;
  }

  // From now on, keys whose upper bound is below `floor` are out.
  void raise(int64_t i, float floor) {
    if (!(floor > floor_[i])) return;
    floor_[i] = floor;
    thresholds_[i] = round_down(static_cast<double>(floor) - coded_.gamma[i]);
  }

  void prefetch(const Candidate* from, const Candidate* end) const {
    for (const Candidate* c = from; c < std::min(from + batch_size_, end); ++c) {
      scorer_.prefetch(c->key);
    }
  }

  const Kernels& kernels_;
  const ScreenKeys& screen_;
  const int64_t k_;
  const int64_t capacity_;
  const CodedQueries coded_;
  PairScorer scorer_;
  TopK best_;
  std::vector<float> floor_;
  std::vector<float> thresholds_;  // floor - gamma, as the kernel asks for it
  std::vector<int64_t> counts_;
  std::vector<Candidate> candidates_;
  std::vector<float> lowers_;
  const int64_t batch_size_;  // pairs scored at a time
  std::vector<Pair> batch_;
  std::vector<float> scores_;
  AlignedBuffer<Hit> hits_;
  int64_t scored_ = 0;
};

}  // namespace

int64_t screened_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                      const ScreenKeys& screen, int64_t k, float* values, int64_t* indices,
                      int threads, Interrupt& interrupt) {
  const double longest = longest_key(screen);
  std::atomic<int64_t> scored{0};
  const auto candidate_bytes = static_cast<int64_t>(sizeof(Candidate)) * candidates_per_query(k);
  const int64_t block = std::clamp<int64_t>((16 << 20) / candidate_bytes, 1, kQueryBlock);
  const Plan plan(queries.rows, keys.rows, block, kPanel, threads);
  reduce_topk(
      plan, queries.rows, keys.rows, k, values, indices, threads, interrupt,
      [&](const TopKTask& task, auto&& finish) {
        const Matrix rows = queries.slice(task.first_query, task.last_query);
        ScreenedTopK screened(isa, rows, keys, screen, task.last_key - task.first_key, task.k);
        int64_t panel = task.first_key / kPanel;
        if (screened.coded().can_screen(longest)) {
          panel = walk_panels(
              panel, ceil_div(task.last_key, kPanel), rows.rows, interrupt,
              [&](int64_t first, int64_t last) { return screened.screen_panels(first, last); });
        }
        scored += screened.certify_all();
        const int64_t rest = std::min(panel * kPanel, task.last_key);
        scored += rows.rows * (task.last_key - rest);
        sweep(isa, rows, keys, rest, task.last_key, interrupt,
              [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
                for (int64_t i = 0; i < rows.rows; ++i) {
                  screened.best().accumulate(i, scores + i * ld, count, begin);
                }
              });
        finish(screened.best());
      });
  return scored;
}

}  // namespace fastclip::cpu
