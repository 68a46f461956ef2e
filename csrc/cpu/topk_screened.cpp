// Top-k through the screen: pairs whose upper bound is below the k-th best lower bound are dropped,
// the rest is scored exactly, most promising first.
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "fastclip/topk.h"
#include "isa.h"
#include "mainloop.h"
#include "ops.h"
#include "screen.h"
#include "topk_plan.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kScreenQueryBlock = 512;
constexpr int64_t kMaxPanels = 8;  // between two updates of the thresholds
// A pair scored alone costs about ten times its share of a block of exact scores: where more than
// this fraction survives, blocks are faster.
constexpr double kWorthScreening = 1.0 / 16;
constexpr int64_t kWindow = 4096;  // keys after which that is asked, again and again

// A pair that the screen let pass, with bounds on its exact score in units of s_q from q.c.
struct Candidate {
  float lower;
  float upper;
  int64_t key;
};

class ScreenedTopK {
 public:
  ScreenedTopK(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
               const ScreenKeys& screen, int64_t part_keys, int64_t k)
      : kernels_(kernels),
        keys_(keys),
        screen_(screen),
        k_(k),
        capacity_(2 * k + 128),
        batch_(round_up(std::max<int64_t>(4, k / 16), kernels.key_tile)),
        steps_(lane_steps(queries.cols)),
        coded_(kernels, queries, screen),
        best_(queries.rows, part_keys, k),
        rows_(queries.rows),
        floor_(queries.rows, -std::numeric_limits<float>::infinity()),
        thresholds_(queries.rows, -std::numeric_limits<float>::infinity()),
        counts_(queries.rows),
        candidates_(queries.rows * capacity_),
        lowers_(capacity_),
        query_rows_(queries.rows * steps_ * kLanes),
        key_rows_(batch_ * steps_ * kLanes),
        scores_(batch_),
        hits_(queries.rows * kMaxPanels * kPanel) {
    kernels.load_rows(queries, query_rows_.get());
  }

  bool usable(double longest_key) const { return coded_.longest * longest_key < kLargestScore; }
  int64_t certified() const { return certified_; }
  TopK& best() { return best_; }

  // Screens panels [first, last), at most kMaxPanels.
  void screen_panels(int64_t first, int64_t last) {
    const int64_t count =
        kernels_.screen(coded_.codes.data(), coded_.coefficients.data(), thresholds_.data(), rows_,
                        screen_, first, last, hits_.data());
    for (int64_t h = 0; h < count; ++h) add(hits_[h], first * kPanel);
  }

  void certify_all() {
    for (int64_t i = 0; i < rows_; ++i) certify(i);
  }

 private:
  void add(const Hit& hit, int64_t first_key) {
    const int64_t i = hit.query;
    const int64_t key = first_key + hit.key;
    const ScreenQuery& query = coded_.coefficients[i];
    const float margin =
        query.alpha * screen_.error[key] + query.beta * screen_.norm[key] + coded_.gamma[i];
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
      const int64_t count = std::min<int64_t>(batch_, end - c);
      prefetch(c + count, end);
      score(i, c, count);
      c += count;
      if (best_.settle(i)) {
        raise(i, round_down((best_.threshold(i) - coded_.offset[i]) / coded_.scale[i]));
      }
    }
    counts_[i] = 0;
  }

  // Keys whose exact score is at most `floor` away from q.c, in units of s_q, are out.
  void raise(int64_t i, float floor) {
    if (!(floor > floor_[i])) return;
    floor_[i] = floor;
    thresholds_[i] = round_down(static_cast<double>(floor) - coded_.gamma[i]);
  }

  void prefetch(const Candidate* from, const Candidate* end) const {
    const int64_t bytes = keys_.cols * size_of(keys_.dtype);
    for (const Candidate* c = from; c < std::min(from + batch_, end); ++c) {
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(keys_.row(c->key) + at);
    }
  }

  void score(int64_t i, const Candidate* candidates, int64_t count) {
    const int64_t row = steps_ * kLanes;
    for (int64_t c = 0; c < count; ++c) {
      const int64_t key = candidates[c].key;
      kernels_.load_rows(keys_.slice(key, key + 1), key_rows_.get() + c * row);
    }
    kernels_.score_block(query_rows_.get() + i * row, 1, key_rows_.get(), count, steps_,
                         scores_.data(), batch_);
    for (int64_t c = 0; c < count; ++c) best_.merge(i, &scores_[c], &candidates[c].key, 1);
    certified_ += count;
  }

  const Kernels& kernels_;
  const Matrix keys_;
  const ScreenKeys& screen_;
  const int64_t k_;
  const int64_t capacity_;
  const int64_t batch_;
  const int64_t steps_;
  const CodedQueries coded_;
  TopK best_;
  const int64_t rows_;
  std::vector<float> floor_;       // upper bounds below this are out
  std::vector<float> thresholds_;  // floor - gamma, as the kernel asks for it
  std::vector<int64_t> counts_;
  std::vector<Candidate> candidates_;
  std::vector<float> lowers_;
  AlignedBuffer<double> query_rows_, key_rows_;
  std::vector<float> scores_;
  std::vector<Hit> hits_;
  int64_t certified_ = 0;
};

// Best keys of a block of queries among panels [first, last); returns the exact scores computed.
int64_t search(ScreenedTopK& screened, const Kernels& kernels, const Matrix& queries,
               const Matrix& keys, int64_t first, int64_t last, double longest_key,
               Interrupt& interrupt) {
  const int64_t last_key = std::min(last * kPanel, keys.rows);
  int64_t step = 1;  // few keys at first: nothing is known yet to drop pairs by
  bool worth = screened.usable(longest_key);
  int64_t window_end = first + kWindow / kPanel, certified = 0;
  while (worth && first < last) {
    if (interrupt.poll()) return screened.certified();
    const int64_t end = std::min(first + step, last);
    screened.screen_panels(first, end);
    first = end;
    step = std::min(2 * step, kMaxPanels);
    if (first >= window_end) {
      const double seen = static_cast<double>(queries.rows) * kWindow;
      worth = static_cast<double>(screened.certified() - certified) < kWorthScreening * seen;
      certified = screened.certified();
      window_end = first + kWindow / kPanel;
    }
  }
  screened.certify_all();
  if (first * kPanel >= last_key) return screened.certified();
  sweep(kernels, queries, keys, first * kPanel, last_key, interrupt,
        [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
          for (int64_t i = 0; i < queries.rows; ++i) {
            screened.best().accumulate(i, scores + i * ld, count, begin);
          }
        });
  return screened.certified() + queries.rows * (last_key - first * kPanel);
}

}  // namespace

int64_t screened_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                      const ScreenKeys& screen, int64_t k, float* values, int64_t* indices,
                      int threads, Interrupt& interrupt) {
  const double longest = longest_key(screen);
  std::atomic<int64_t> survivors{0};
  const auto candidate_bytes = static_cast<int64_t>(sizeof(Candidate)) * (2 * k + 128);
  const int64_t block = std::clamp<int64_t>((16 << 20) / candidate_bytes, 1, kScreenQueryBlock);
  const Plan plan(queries.rows, keys.rows, block, kPanel, threads);
  reduce_topk(plan, queries.rows, keys.rows, k, values, indices, threads, interrupt,
              [&](const TopKTask& task, auto&& finish) {
                const Matrix block_queries = queries.slice(task.first_query, task.last_query);
                ScreenedTopK screened(isa, block_queries, keys, screen,
                                      task.last_key - task.first_key, task.k);
                survivors += search(screened, isa, block_queries, keys, task.first_key / kPanel,
                                    ceil_div(task.last_key, kPanel), longest, interrupt);
                finish(screened.best());
              });
  return survivors;
}

}  // namespace fastclip::cpu
