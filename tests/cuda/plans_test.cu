// Workspaces, plans and scored keys as numbers: what needs no device.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "cuda/engine/ordered_key.h"
#include "cuda/engine/workspace.h"
#include "cuda/ops/plans.h"
#include "expect.h"
#include "fastclip/ops/topk.h"

using namespace fastclip;
using namespace fastclip::cuda;

namespace {

// Takes arrays of such sizes; returns where they begin and how many bytes they are in all.
std::vector<char*> take(Workspace& workspace, const std::vector<int64_t>& sizes) {
  std::vector<char*> arrays;
  for (int64_t size : sizes) {
    arrays.push_back(workspace.take<char>(size));
    arrays.push_back(reinterpret_cast<char*>(workspace.take<double>(size)));
  }
  return arrays;
}

void test_workspace() {
  const std::vector<int64_t> sizes = {0, 1, 255, 256, 257, 4096, 0, 7};
  Workspace counting;
  for (char* array : take(counting, sizes)) expect(array == nullptr, "counting hands out nothing");
  alignas(256) static char memory[1 << 20];
  Workspace workspace(memory);
  const std::vector<char*> arrays = take(workspace, sizes);
  expect(counting.bytes() == workspace.bytes(), "what is counted is what is handed out");
  char* end = memory;
  for (size_t i = 0; i < arrays.size(); ++i) {
    expect(arrays[i] == end, "no gap but to the next multiple of 256 bytes");
    expect(reinterpret_cast<uintptr_t>(arrays[i]) % 256 == 0, "aligned");
    end = arrays[i] + round_up<int64_t>(sizes[i / 2] * (i % 2 == 0 ? 1 : 8), 256);
  }
  expect(end == memory + workspace.bytes(), "bytes in all");
  Workspace huge;
  huge.take<double>(int64_t{1} << 50);
  huge.take<char>(1);
  expect(huge.bytes() == (int64_t{8} << 50) + 256, "sizes beyond 32 bits");
}

const int64_t kCounts[] = {
    0, 1, 2, 127, 128, 129, 8192, 16384, 100'000, int64_t{1} << 31, int64_t{1} << 40};
const int64_t kKeyCounts[] = {0, 1, 255, 256, 257, 1'000'000, kMostKeys};

// What tests and people may set the limits of a search to.
std::vector<Tuning> all_limits() {
  std::vector<Tuning> all(1);
  for (int64_t pairs : {int64_t{1}, int64_t{1} << 20}) {
    for (int64_t open : {int64_t{1}, int64_t{40}}) {
      Tuning limits;
      limits.search_pairs = pairs;
      limits.search_open = open;
      all.push_back(limits);
    }
  }
  return all;
}

void check(const FixedPlan& plan, int64_t count, int64_t keys, int64_t at_once,
           const Tuning& limits) {
  expect(plan.queries >= 1 && plan.queries <= std::max<int64_t>(1, std::min(count, at_once)),
         "queries");
  expect(plan.keys >= kKeyAlignment && plan.keys % kKeyAlignment == 0, "ranges of keys");
  expect(plan.keys < std::max<int64_t>(keys, 1) + kKeyAlignment, "no more keys than there are");
  const int64_t pairs = padded_queries(plan.queries) * plan.keys;
  expect(pairs <= limits.search_pairs || plan.keys == kKeyAlignment, "pairs at a time");
  expect(pairs < int64_t{1} << 31, "pairs of a list are counted in 32 bits");
  expect(plan.open >= 1 && plan.open <= limits.search_open && plan.open <= plan.queries * plan.keys,
         "open");
}

void test_fixed_plans() {
  for (const Tuning& limits : all_limits()) {
    for (int64_t count : kCounts) {
      for (int64_t keys : kKeyCounts) {
        for (int64_t at_once : {int64_t{1}, int64_t{5}, limits.search_queries}) {
          check(FixedPlan(count, keys, at_once, limits), count, keys, at_once, limits);
          for (int64_t groups : {int64_t{1}, int64_t{65}, kMostKeys}) {
            const GroupPlan plan(count, keys, groups, at_once, limits);
            check(plan, count, keys, at_once, limits);
            expect(plan.groups == groups, "groups");
            expect(plan.queries == 1 || plan.queries * groups <= tuned::GroupMax::kMostEntries,
                   "entries of queries and groups");
          }
        }
      }
    }
  }
}

void test_topk_plans() {
  using Tuned = tuned::TopK;
  Tuning limits;
  for (int64_t count : kCounts) {
    for (int64_t k = 1; k <= kMostBest; k = k < 20 ? k + 1 : k * 3 / 2) {
      for (int64_t at_once : {int64_t{1}, int64_t{5}, int64_t{1} << 14, int64_t{1} << 40}) {
        for (limits.topk_candidates = std::max<int64_t>(256, std::bit_ceil<uint64_t>(k));
             limits.topk_candidates <= 1 << 15; limits.topk_candidates *= 2) {
          const TopKPlan plan(count, k, at_once, limits);
          expect(plan.k == k, "k");
          expect(std::has_single_bit(static_cast<uint64_t>(plan.candidates)), "a power of two");
          expect(plan.candidates >= k && plan.candidates <= limits.topk_candidates, "candidates");
          expect(plan.candidates % kKeyAlignment == 0, "as many first keys as candidates");
          expect(plan.candidates <= Tuned::kMostCandidates, "shared memory of a query");
          expect(
              plan.queries >= 1 && plan.queries <= std::max<int64_t>(1, std::min(count, at_once)),
              "queries");
          expect(plan.queries <= Tuned::kMostQueries &&
                     plan.queries * plan.candidates <= Tuned::kMostEntries,
                 "candidates of all queries");
        }
      }
    }
  }
  // One query more than has room for the double.
  const int64_t enough = Tuned::kEntries / 8192;
  expect(TopKPlan(enough, 1, enough, Tuning()).candidates == 8192, "few queries");
  expect(TopKPlan(enough + 1, 1, enough + 1, Tuning()).candidates == 4096, "more queries");
}

void test_ordered_keys() {
  const float infinity = std::numeric_limits<float>::infinity();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float scores[] = {-infinity, -1e30f, -1, -tiny, -0.0f, 0.0f, tiny, 1, 1e30f, infinity};
  const int64_t keys[] = {0, 1, 2, int64_t{1} << 30, kMostKeys - 2, kMostKeys - 1};
  for (float a : scores) {
    for (int64_t i : keys) {
      const OrderedKey first = ordered_key(a, i);
      expect(first > 0, "0 is behind all");
      expect(key_of(first) == i, "the key comes back");
      expect(std::bit_cast<uint32_t>(score_of(first)) == std::bit_cast<uint32_t>(a),
             "the score comes back, with the sign of a zero");
      for (float b : scores) {
        for (int64_t j : keys) {
          const bool ahead = a > b || (a == b && i < j);
          if (a == b && i == j) continue;
          expect((first > ordered_key(b, j)) == ahead, "score descending, then key ascending");
        }
      }
    }
  }
}

}  // namespace

int main() {
  test_workspace();
  test_fixed_plans();
  test_topk_plans();
  test_ordered_keys();
  std::puts("passed");
}
