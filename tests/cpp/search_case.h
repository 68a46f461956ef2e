// Queries and keys with all exact scores; the answers of searches follow from these.
#pragma once

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "inputs.h"
#include "run.h"

namespace fastclip::tests {

class SearchCase {
 public:
  SearchCase(int64_t queries, int64_t keys, int64_t cols, DType dtype, Kind kind)
      : queries_(queries, cols, dtype, kind), keys_(keys, cols, dtype, kind) {
    for (int64_t j = 2; j < keys; j += 5) keys_.copy_row(j / 3, j);  // equal keys
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; ++j) scores_.push_back(exact_score(q(), i, k(), j));
      targets_.push_back(random_below(keys));
      thresholds_.push_back(score(i, targets_[i]));
    }
    for (int64_t j = 0; j < keys; ++j) groups_.push_back(j % kGroups);
  }

  float score(int64_t i, int64_t j) const { return scores_[i * k().rows + j]; }

  void check_scores(Run& run) const;    // scores_test.cpp
  void check_screen(Run& run) const;    // screen_test.cpp
  void check_values(Run& run) const;    // values_test.cpp
  void check_searches(Run& run) const;  // search_test.cpp

 private:
  static constexpr int64_t kGroups = 70;

  Matrix q() const { return queries_.view(); }
  Matrix k() const { return keys_.view(); }
  bool is_ahead(int64_t i, int64_t j) const;

  void check_topk(Run& run, const ScreenKeys* screen) const;
  void check_count(Run& run, const ScreenKeys* screen) const;
  void check_beats(Run& run, const ScreenKeys* screen) const;
  void check_pairs(Run& run, const ScreenKeys* screen) const;
  void check_groups(Run& run, const ScreenKeys* screen, const Indices& group_of) const;
  void expect_screened(const Run& run, const ScreenKeys* screen, int64_t scored,
                       const char* what) const;

  Rows queries_, keys_;
  Floats scores_, thresholds_;
  Indices targets_, groups_;
};

}  // namespace fastclip::tests
