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

// What both epilogues know of the strip's queries.
struct Rows {
  __device__ Rows(const CodedQueries& queries, const Strip& strip)
      : coefficients{queries.coefficients[strip.query(0)], queries.coefficients[strip.query(1)]},
        gamma{queries.gamma[strip.query(0)], queries.gamma[strip.query(1)]} {}

  ScreenQuery coefficients[2];
  float gamma[2];  // infinite where nothing is known, NaN where there is no query
};

// Keeps the best lower bound of each query and group, as a number of ordered.h.
struct LowerEpilogue {
  CodedQueries queries;
  Groups groups;
  uint32_t* lower;  // [queries, groups]

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip) const {
    const Rows rows(queries, strip);
    int64_t group = -1;
    float best[2] = {-INFINITY, -INFINITY};
    visit_strip(dots, strip, rows.coefficients, [&](int h, int bit, ScreenedScore score) {
      if (h == 0) {  // comes first of the two scores of a key
        const int64_t key = key_of_bit(strip, bit);
        const int64_t next = std::isnan(score.scale) ? group : groups.of_keys[key];
        if (next != group) {
          raise(strip, group, best);
          group = next;
          best[0] = best[1] = -INFINITY;
        }
      }
      score.margin += rows.gamma[h];
      best[h] = fmaxf(best[h], score.lower());  // a NaN loses
    });
    raise(strip, group, best);
  }

 private:
  __device__ void raise(const Strip& strip, int64_t group, const float (&best)[2]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!(best[h] > -INFINITY)) continue;
      uint32_t* at = lower + strip.query(h) * groups.count + group;
      const uint32_t number = ordered(best[h]);
      if (number > *at)
        atomicMax(at, number);  // another thread may have raised it since, which is harmless
    }
  }
};

struct UpperEpilogue {
  CodedQueries queries;
  Groups groups;
  const uint32_t* lower;
  PairList list;

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip) const {
    const Rows rows(queries, strip);
    int64_t group = -1;
    float least[2] = {};
    uint32_t passed = 0;
    visit_strip(dots, strip, rows.coefficients, [&](int h, int bit, ScreenedScore score) {
      if (h == 0) {
        const int64_t key = key_of_bit(strip, bit);
        const int64_t next = std::isnan(score.scale) ? group : groups.of_keys[key];
        if (next != group) {
          group = next;
          for (int r = 0; r < 2; ++r) {
            const int64_t query = strip.query(r);
            if (query >= queries.count) continue;
            const uint32_t number = lower[query * groups.count + group];
            least[r] = number == 0 ? -INFINITY : from_ordered(number);
          }
        }
      }
      score.margin += rows.gamma[h];
      if (score.upper() >= least[h]) passed |= 1u << bit;
    });
    list.append(passed, strip);
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
      const CodedQueries coded = encode_queries(rows, *screen_keys, parts.arrays, stream);
      MainloopParams params{coded.codes, coded.tiles(), *screen_keys, 0, keys.rows};
      screen(params, LowerEpilogue{coded, groups, parts.lower}, stream);
      for (int64_t key = 0; key < keys.rows; key += plan.keys) {
        params.first_key = key;
        params.last_key = std::min(key + plan.keys, keys.rows);
        parts.list.begin(rows.rows, params.first_key, params.last_key, stream);
        screen(params, UpperEpilogue{coded, groups, parts.lower, parts.list}, stream);
        rescore(parts.list, rows, keys, take, scored, stream);
      }
    }
    launch(write_kernel, blocks_for(entries), tuned::kThreads, 0, stream, parts.best, entries,
           call.values.data + first * groups.count, call.indices.data + first * groups.count);
  }
}

}  // namespace fastclip::cuda
