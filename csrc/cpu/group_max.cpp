// The best key of each group.
#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "isa.h"
#include "mainloop.h"
#include "ops.h"
#include "screen.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kQueryBlock = 256;
constexpr int64_t kChunkPanels = 4;  // float64 rows of these keys stay in the cache

// Best score and key of each group for a block of queries; -1 where none was seen.
struct Best {
  const int64_t* groups;
  int64_t num_groups;
  float* values;     // [rows, num_groups]
  int64_t* indices;  // [rows, num_groups]

  // Keys must be offered in increasing order: the earlier one wins a tie.
  void offer(int64_t i, int64_t key, float score) const {
    const int64_t at = i * num_groups + groups[key];
    if (indices[at] >= 0 && !(score > values[at])) return;
    values[at] = score;
    indices[at] = key;
  }
};

// Groups of consecutive keys through the screen: where a group's largest lower bound is above a
// key's upper bound, the key is out; the others are scored exactly.
class ScreenedGroupMax {
 public:
  ScreenedGroupMax(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
                   const ScreenKeys& screen, const Best& best)
      : kernels_(kernels),
        keys_(keys),
        screen_(screen),
        best_(best),
        rows_(queries.rows),
        row_(lane_steps(keys.cols) * kLanes),
        coded_(kernels, queries, screen),
        query_rows_(queries.rows * row_),
        key_rows_((kChunkPanels * kPanel + kernels.key_tile) * row_),
        products_(queries.rows * kChunkPanels * kPanel),
        uppers_(kChunkPanels * kPanel),
        scores_(kernels.key_tile) {
    kernels.load_rows(queries, query_rows_.get());
  }

  bool can_screen(double longest_key) const { return coded_.can_screen(longest_key); }
  int64_t scored() const { return scored_; }

  void screen_panels(int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; panel += kChunkPanels) {
      screen_chunk(panel, std::min(panel + kChunkPanels, last));
    }
  }

 private:
  void screen_chunk(int64_t first, int64_t last) {
    constexpr int64_t kStride = kChunkPanels * kPanel;
    ScreenCall call{};
    call.codes = coded_.codes.data();
    call.coefficients = coded_.coefficients.data();
    call.num_queries = rows_;
    call.keys = &screen_;
    call.first = first;
    call.last = last;
    call.products = products_.get();
    call.products_stride = kStride;
    kernels_.screen(call);
    const int64_t begin = first * kPanel;
    const int64_t end = std::min(last * kPanel, keys_.rows);
    kernels_.load_rows(keys_.slice(begin, end), key_rows_.get());
    for (int64_t run = begin; run < end;) {
      int64_t run_end = run + 1;
      while (run_end < end && best_.groups[run_end] == best_.groups[run]) ++run_end;
      for (int64_t i = 0; i < rows_; ++i) {
        decide(i, products_.get() + i * kStride - begin, run, run_end, begin);
      }
      run = run_end;
    }
  }

  // Keys [run, end) of one group; products[key] is x of screen.h.
  void decide(int64_t i, const float* products, int64_t run, int64_t end, int64_t chunk) {
    const ScreenQuery query = coded_.coefficients[i];
    const float gamma = coded_.gamma[i];
    float floor = -std::numeric_limits<float>::infinity();
    const int64_t at = i * best_.num_groups + best_.groups[run];
    if (best_.indices[at] >= 0) {  // the group began in an earlier chunk
      floor = round_down((best_.values[at] - coded_.offset[i]) / coded_.scale[i]);
    }
    float* uppers = uppers_.data() - run;
    for (int64_t key = run; key < end; ++key) {
      const float margin =
          query.alpha * screen_.error[key] + query.beta * screen_.norm[key] + gamma;
      const float lower = products[key] - margin;
      uppers[key] = products[key] + margin;
      floor = lower > floor ? lower : floor;
    }
    for (int64_t key = run; key < end; ++key) {
      if (uppers[key] < floor) continue;
      kernels_.score_block(query_rows_.get() + i * row_, 1, key_rows_.get() + (key - chunk) * row_,
                           1, row_ / kLanes, scores_.data(), kernels_.key_tile);
      best_.offer(i, key, scores_[0]);
      ++scored_;
    }
  }

  const Kernels& kernels_;
  const Matrix keys_;
  const ScreenKeys& screen_;
  const Best best_;
  const int64_t rows_;
  const int64_t row_;
  const CodedQueries coded_;
  AlignedBuffer<double> query_rows_, key_rows_;
  AlignedBuffer<float> products_;
  std::vector<float> uppers_, scores_;
  int64_t scored_ = 0;
};

}  // namespace

int64_t group_max(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                  const int64_t* groups, int64_t num_groups, float* values, int64_t* indices,
                  int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  if (isa.query_levels == 0 || !std::is_sorted(groups, groups + keys.rows)) screen = nullptr;
  const double longest = screen != nullptr ? longest_key(*screen) : 0;
  // Keys are not split: with few queries and many groups, merging would cost as much as it gains.
  const int64_t block = std::clamp<int64_t>(ceil_div(queries.rows, threads), 1, kQueryBlock);
  std::atomic<int64_t> scored{0};
  parallel_for(ceil_div(queries.rows, block), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * block;
    const Matrix rows = queries.slice(first, std::min(first + block, queries.rows));
    const Best best{groups, num_groups, values + first * num_groups, indices + first * num_groups};
    std::fill_n(best.indices, rows.rows * num_groups, -1);
    int64_t panel = 0;
    if (screen != nullptr) {
      ScreenedGroupMax screened(isa, rows, keys, *screen, best);
      if (screened.can_screen(longest)) {
        panel = walk_panels(0, ceil_div(keys.rows, kPanel), rows.rows, interrupt,
                            [&](int64_t begin, int64_t end) {
                              screened.screen_panels(begin, end);
                              return screened.scored();
                            });
        scored += screened.scored();
      }
    }
    const int64_t rest = std::min(panel * kPanel, keys.rows);
    scored += rows.rows * (keys.rows - rest);
    sweep(isa, rows, keys, rest, keys.rows, interrupt,
          [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = 0; i < rows.rows; ++i) {
              for (int64_t j = 0; j < count; ++j) best.offer(i, begin + j, scores[i * ld + j]);
            }
          });
  });
  return scored;
}

}  // namespace fastclip::cpu
