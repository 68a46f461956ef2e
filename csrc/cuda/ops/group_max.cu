// The best key of each group.
//
// The keys are screened twice: first for the best lower bound of each group, then for the keys
// whose upper bound reaches it. These are scored exactly.
#include "cuda/arch/mainloop.cuh"
#include "cuda/engine/encode_queries.h"
#include "cuda/engine/ordered_key.h"
#include "cuda/engine/pair_list.cuh"
#include "cuda/ops/plans.h"
#include "cuda/tuning.h"
#include "fastclip/ops/group_max.h"

namespace fastclip::cuda {
namespace {

struct Groups {
  const int64_t* of_keys;
  int64_t count;
};

// Best lower bounds, as numbers of ordered.h: [groups, queries], so that the lanes of a strip that
// hold the same key write side by side.
struct LowerBounds {
  uint32_t* numbers;
  int queries;

  // Fewer than 2^32 (tuned::GroupMax) or one query.
  __device__ uint32_t* at(int group, int query) const {
    return numbers + query + static_cast<uint32_t>(group) * static_cast<uint32_t>(queries);
  }
};

// What both epilogues know of the two queries of a lane. Where there is none: the last one.
struct GroupRows {
  __device__ GroupRows(int64_t first_query, const CodedQueries& queries) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t at = Strip::query_of(first_query, h);
      query[h] = queries.coefficients[at];
      gamma[h] = queries.gamma[at];
      row[h] = static_cast<int>(min(at, queries.count - 1));
    }
  }

  ScreenQuery query[2];
  float gamma[2];  // infinite where nothing is known, NaN where there is no query
  int row[2];
};

struct GroupEpilogue : Epilogue {
  static constexpr bool kLabels = true;  // the groups of the keys
  using Rows = GroupRows;
  CodedQueries queries;
  LowerBounds lower;

  GroupEpilogue(const CodedQueries& queries, const LowerBounds& lower)
      : queries(queries), lower(lower) {}

  __device__ Rows rows(int64_t first_query) const { return {first_query, queries}; }
};

// Keeps the best lower bound of each query and group. Keys of one group are often neighbours.
struct LowerEpilogue : GroupEpilogue {
  using GroupEpilogue::GroupEpilogue;

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State&) const {
    float best[2] = {-INFINITY, -INFINITY};  // of the eights of columns before, of one group,
    int group = strip.label[0];
    float of_key[2][2];  // [h][c], of these columns
    visit_strip(dots, strip, [&](int h, int bit, const ScreenedScore& score) {
      of_key[h][bit % 2] = score.lower(rows.query[h]);
      if (bit % 4 < 3) return;
      const float pair[2] = {fmaxf(of_key[0][0], of_key[0][1]), fmaxf(of_key[1][0], of_key[1][1])};
      const int first = strip.label[8 * (bit / 4)];
      const int2 labels = strip.labels(bit / 4);
      if (__all_sync(kAllLanes, labels.x == first && labels.y == first)) {
        if (first != group) {
          raise_by_four(rows, group, best);
          group = first;
          best[0] = best[1] = -INFINITY;
        }
        best[0] = fmaxf(best[0], pair[0]);  // a NaN loses
        best[1] = fmaxf(best[1], pair[1]);
        return;
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (labels.x == labels.y) {
          raise(rows, r, labels.x, pair[r]);
        } else {
          raise(rows, r, labels.x, of_key[r][0]);
          raise(rows, r, labels.y, of_key[r][1]);
        }
      }
    });
    raise_by_four(rows, group, best);
  }

 private:
  // The best of the four lanes that hold the same queries: one of them writes that of one query,
  // another that of the other.
  __device__ void raise_by_four(const Rows& rows, int group, const float (&best)[2]) const {
    float all[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      all[h] = fmaxf(best[h], __shfl_xor_sync(kAllLanes, best[h], 1));
      all[h] = fmaxf(all[h], __shfl_xor_sync(kAllLanes, all[h], 2));
    }
    const int lane = threadIdx.x % 4;
    if (lane == 0) raise(rows, 0, group, all[0]);
    if (lane == 1) raise(rows, 1, group, all[1]);
  }
  __device__ void raise(const Rows& rows, int h, int group, float bound) const {
    bound -= rows.gamma[h];
    if (bound > -INFINITY) atomicMax(lower.at(group, rows.row[h]), ordered(bound));
  }
};

struct UpperEpilogue : GroupEpilogue {
  using State = PairList::Places;
  PairList list;

  UpperEpilogue(const CodedQueries& queries, const LowerBounds& lower, const PairList& list)
      : GroupEpilogue(queries, lower), list(list) {}

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State& places) const {
    const uint32_t passed = reaching(dots, strip, rows.query, [&](int n, float(&least)[2][2]) {
      const int2 labels = strip.labels(n);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t first = *lower.at(labels.x, rows.row[h]);
        uint32_t second = first;
        if (labels.y != labels.x) second = *lower.at(labels.y, rows.row[h]);
        least[h][0] = threshold(first, rows.gamma[h]);
        least[h][1] = threshold(second, rows.gamma[h]);
      }
    });
    if (__any_sync(kAllLanes, passed != 0)) list.append(passed, strip, places);
  }

  __device__ void finish(State& places) const { list.leave(places); }

 private:
  __device__ static float threshold(uint32_t number, float gamma) {
    const float known = from_ordered(number) - gamma;
    return std::isnan(gamma) ? INFINITY : (number == 0 ? -INFINITY : known);
  }
};

struct GroupTake {
  Groups groups;
  OrderedKey* best;  // [queries, groups]

  __device__ void operator()(int64_t query, int64_t key, float score) const {
    atomicMax(best + query * groups.count + groups.of_keys[key], ordered_key(score, key));
  }
};

__global__ void write_kernel(const OrderedKey* best, int64_t count, float* values,
                             int64_t* indices) {
  const int64_t i = global_thread();
  if (i >= count) return;
  values[i] = score_of(best[i]);
  indices[i] = key_of(best[i]);
}

GroupPlan plan_of(const GroupMaxCall& call, int64_t at_once) {
  return {call.queries.rows, call.keys.rows, call.values.sizes[1], at_once};
}

struct Memory {
  Memory(Workspace& workspace, const GroupPlan& plan, int64_t width)
      : arrays(workspace, padded_queries(plan.queries), width),
        lower(workspace.take<uint32_t>(plan.queries * plan.groups)),
        best(workspace.take<OrderedKey>(plan.queries * plan.groups)),
        list(workspace, plan.open, PairList::strips(plan.queries, plan.keys)) {}

  QueryArrays arrays;
  uint32_t* lower;
  OrderedKey* best;
  PairList list;
};

}  // namespace

Room group_max_room(const GroupMaxCall& call, int64_t most) {
  const GroupPlan plan = plan_of(call, std::min(most, tuning().search_queries));
  Workspace workspace;
  Memory(workspace, plan, width_of(call.screen));
  return {plan.queries, workspace.bytes()};
}

void group_max(const GroupMaxCall& call, int64_t at_once, void* memory, Stream stream) {
  const auto &queries = call.queries, &keys = call.keys;
  const ScreenKeys* screen_keys = call.screen;
  int64_t* scored = call.survivors.data;
  check_number_of_keys(keys);
  const GroupPlan plan = plan_of(call, at_once);
  zero(scored, sizeof(int64_t), stream);
  const Groups groups{call.groups.data, plan.groups};
  Workspace workspace(memory);
  Memory parts(workspace, plan, width_of(screen_keys));
  if (screen_keys != nullptr && queries.rows > 0) bound_keys(*screen_keys, parts.arrays, stream);
  for (int64_t first = 0; first < queries.rows; first += plan.queries) {
    const Matrix rows = queries.slice(first, std::min(first + plan.queries, queries.rows));
    const int64_t entries = rows.rows * groups.count;
    zero(parts.best, sizeof(OrderedKey) * entries, stream);
    const GroupTake take{groups, parts.best};
    if (screen_keys == nullptr) {
      rescore_all(parts.list, rows, keys, take, scored, stream);
    } else {
      zero(parts.lower, sizeof(uint32_t) * entries, stream);
      const LowerBounds lower{parts.lower, static_cast<int>(rows.rows)};
      const CodedQueries coded = encode_queries(rows, *screen_keys, parts.arrays, stream);
      MainloopParams params{coded.codes, coded.tiles(), *screen_keys, 0, keys.rows};
      params.labels = groups.of_keys;
      screen(params, LowerEpilogue(coded, lower), stream);
      for (int64_t key = 0; key < keys.rows; key += plan.keys) {
        params.first_key = key;
        params.last_key = std::min(key + plan.keys, keys.rows);
        parts.list.begin(rows.rows, params.first_key, params.last_key, stream);
        screen(params, UpperEpilogue(coded, lower, parts.list), stream);
        rescore(parts.list, rows, keys, take, scored, stream);
      }
    }
    launch(write_kernel, blocks_for(entries), tuned::kThreads, 0, stream, parts.best, entries,
           call.values.data + first * groups.count, call.indices.data + first * groups.count);
  }
}

}  // namespace fastclip::cuda
