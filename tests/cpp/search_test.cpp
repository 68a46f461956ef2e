// Searches, with packed keys and without.
#include <algorithm>

#include "fastclip/ops/count_ahead.h"
#include "fastclip/ops/group_beats.h"
#include "fastclip/ops/group_max.h"
#include "fastclip/ops/pairs_above.h"
#include "fastclip/ops/topk.h"
#include "fastclip/scored_key.h"
#include "packed.h"
#include "search_case.h"

namespace fastclip::tests {

bool SearchCase::is_ahead(int64_t i, int64_t j) const {
  return ahead({score(i, j), j}, {thresholds_[i], targets_[i]});
}

void SearchCase::check_searches(Run& run) const {
  Indices in_order = groups_;
  std::sort(in_order.begin(), in_order.end());
  const Packed packed(k(), run);
  for (const ScreenKeys* screen : {static_cast<const ScreenKeys*>(nullptr), &packed.view}) {
    check_topk(run, screen);
    check_count(run, screen);
    check_beats(run, screen);
    check_pairs(run, screen);
    check_groups(run, screen, groups_);
    check_groups(run, screen, in_order);
  }
}

// Of few among many keys, nearly all must have been dropped unseen.
void SearchCase::expect_screened(const Run& run, const ScreenKeys* screen, int64_t scored,
                                 const char* what) const {
  const bool screened = screen != nullptr || q().rows >= 8;
  if (screened && k().rows > 1000 && k().cols > 32) {
    run.expect(scored < q().rows * k().rows / 4, what);
  }
}

void SearchCase::check_topk(Run& run, const ScreenKeys* screen) const {
  const int64_t best = std::min<int64_t>(5, k().rows);
  Floats values(q().rows * best), expected_values;
  Indices indices(q().rows * best), expected_indices;
  for (int64_t i = 0; i < q().rows; ++i) {
    std::vector<ScoredKey> row;
    for (int64_t j = 0; j < k().rows; ++j) row.push_back({score(i, j), j});
    std::sort(row.begin(), row.end(), ahead);
    for (int64_t r = 0; r < best; ++r) {
      expected_values.push_back(row[r].score);
      expected_indices.push_back(row[r].index);
    }
  }
  int64_t scored = 0;
  cpu::topk(
      {q(), k(), screen, {}, table(values, q().rows), table(indices, q().rows), {&scored, {}}},
      cpu::Screening::kAlways, run.threads, run.interrupt);
  run.same(values, expected_values, "topk (values)");
  run.same(indices, expected_indices, "topk (indices)");
  expect_screened(run, screen, scored, "topk (pairs scored)");
}

void SearchCase::check_count(Run& run, const ScreenKeys* screen) const {
  Indices per_query(q().rows), per_key(k().rows), expected_query(q().rows), expected_key(k().rows);
  for (int64_t i = 0; i < q().rows; ++i) {
    for (int64_t j = 0; j < k().rows; ++j) {
      expected_query[i] += is_ahead(i, j);
      expected_key[j] += is_ahead(i, j);
    }
  }
  int64_t scored = 0;
  cpu::count_ahead({q(),
                    k(),
                    screen,
                    {},
                    array(thresholds_),
                    array(targets_),
                    array(per_query),
                    array(per_key),
                    {&scored, {}}},
                   cpu::Screening::kAlways, run.threads, run.interrupt);
  run.same(per_query, expected_query, "count_ahead (of queries)");
  run.same(per_key, expected_key, "count_ahead (of keys)");
  expect_screened(run, screen, scored, "count_ahead (pairs scored)");
}

void SearchCase::check_beats(Run& run, const ScreenKeys* screen) const {
  constexpr int64_t kWords = (kGroups + 63) / 64;
  Indices bits(q().rows * kWords), expected(q().rows * kWords);
  int64_t scored = 0;
  for (int64_t i = 0; i < q().rows; ++i) {
    for (int64_t j = 0; j < k().rows; ++j) {
      if (is_ahead(i, j)) {
        expected[i * kWords + groups_[j] / 64] |=
            static_cast<int64_t>(uint64_t{1} << groups_[j] % 64);
      }
    }
  }
  cpu::group_beats({q(),
                    k(),
                    screen,
                    array(thresholds_),
                    array(targets_),
                    array(groups_),
                    table(bits, q().rows),
                    {&scored, {}}},
                   cpu::Screening::kAlways, run.threads, run.interrupt);
  run.same(bits, expected, "group_beats");
}

void SearchCase::check_pairs(Run& run, const ScreenKeys* screen) const {
  const float threshold = thresholds_[0];
  Floats values, expected_values;
  Indices pairs, expected_pairs;
  for (int64_t i = 0; i < q().rows; ++i) {
    for (int64_t j = 0; j < k().rows; ++j) {
      if (!(score(i, j) > threshold)) continue;
      expected_pairs.push_back(i * k().rows + j);
      expected_values.push_back(score(i, j));
    }
  }
  for (const ScoredPair& pair :
       cpu::pairs_above({q(), k(), screen, threshold, false}, cpu::Screening::kAlways, run.threads,
                        run.interrupt)) {
    pairs.push_back(pair.query * k().rows + pair.key);
    values.push_back(pair.score);
  }
  run.same(pairs, expected_pairs, "pairs_above (pairs)");
  run.same(values, expected_values, "pairs_above (values)");
}

// Groups in any order are scored exactly; groups of consecutive keys are screened.
void SearchCase::check_groups(Run& run, const ScreenKeys* screen, const Indices& group_of) const {
  const int64_t groups = std::min(kGroups, k().rows);
  Floats values(q().rows * groups), expected_values(q().rows * groups);
  Indices indices(q().rows * groups), expected_indices(q().rows * groups, -1);
  for (int64_t i = 0; i < q().rows; ++i) {
    for (int64_t j = 0; j < k().rows; ++j) {
      const int64_t at = i * groups + group_of[j];
      if (expected_indices[at] < 0 || score(i, j) > expected_values[at]) {
        expected_values[at] = score(i, j);
        expected_indices[at] = j;
      }
    }
  }
  int64_t scored = 0;
  cpu::group_max({q(),
                  k(),
                  screen,
                  array(group_of),
                  table(values, q().rows),
                  table(indices, q().rows),
                  {&scored, {}}},
                 cpu::Screening::kAlways, run.threads, run.interrupt);
  run.same(values, expected_values, "group_max (values)");
  run.same(indices, expected_indices, "group_max (indices)");
}

}  // namespace fastclip::tests
