// How many keys score ahead of a threshold: rank and count_above.
#include "cuda/engine/fixed_screen.cuh"
#include "fastclip/ops/count_ahead.h"

namespace fastclip::cuda {
namespace {

struct Totals {
  int64_t* per_query;  // may be null, as may the other
  int64_t* per_key;

  __device__ void add_query(int64_t query, int count) const {
    if (per_query != nullptr) add(&per_query[query], count);
  }
  __device__ void add_key(int64_t key, int count) const {
    if (per_key != nullptr) add(&per_key[key], count);
  }
};

struct CountTake {
  Thresholds thresholds;
  Totals totals;

  __device__ void operator()(int64_t query, int64_t key, float score) const {
    if (!thresholds.passed(query, key, score)) return;
    totals.add_query(query, 1);
    totals.add_key(key, 1);
  }
};

// Counts the pairs that surely pass; those that only may pass go to the list.
struct CountEpilogue : FixedEpilogue {
  Totals totals;

  CountEpilogue(const FixedMemory& memory, const Totals& totals)
      : FixedEpilogue(memory.epilogue()), totals(totals) {}

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State& places) const {
    const uint32_t maybe = reaching(dots, strip, rows);
    if (!__any_sync(kAllLanes, maybe != 0)) return;
    const uint32_t sure = maybe & surely(dots, strip, rows);
    // If they do not fit, all pairs of the strip are rescored and counted then.
    if (!list.append(maybe & ~sure, strip, places)) return;
    if (!__any_sync(kAllLanes, sure != 0)) return;
    const int lane = threadIdx.x % kWarp;
    if (totals.per_query != nullptr) {
      for (int h = 0; h < 2; ++h) {
        int count = __popc(sure & (0x33333333u << (2 * h)));
        count += __shfl_xor_sync(kAllLanes, count, 1);
        count += __shfl_xor_sync(kAllLanes, count, 2);
        if (lane % 4 == 0) totals.add_query(strip.query(h), count);
      }
    }
    if (totals.per_key == nullptr) return;
    const unsigned same_columns = 0x11111111u << (lane % 4);
    for (int bit = 0; bit < 32; bit += bit % 4 == 0 ? 1 : 3) {  // bits of rows with h = 0
      const unsigned upper = __ballot_sync(kAllLanes, sure >> bit & 1);
      const unsigned lower = __ballot_sync(kAllLanes, sure >> (bit + 2) & 1);
      const int count = __popc(upper & same_columns) + __popc(lower & same_columns);
      if (lane < 4) totals.add_key(key_of_bit(strip, bit), count);
    }
  }
};

struct CountTask {
  CountTake take;

  CountEpilogue epilogue(const FixedMemory& memory) const { return {memory, take.totals}; }
};

}  // namespace

Room count_ahead_room(const CountAheadCall& call, int64_t most) { return fixed_room(call, most); }

void count_ahead(const CountAheadCall& call, int64_t at_once, void* memory, Stream stream) {
  int64_t *per_query = call.per_query.data, *per_key = call.per_key.data;
  if (per_query != nullptr) zero(per_query, sizeof(int64_t) * call.queries.rows, stream);
  if (per_key != nullptr) zero(per_key, sizeof(int64_t) * call.keys.rows, stream);
  const Thresholds thresholds{call.scores.data, call.ties.data};
  search_fixed(call, at_once, memory, stream, [&](int64_t first) {
    int64_t* totals = per_query == nullptr ? nullptr : per_query + first;
    return CountTask{{thresholds.slice(first), {totals, per_key}}};
  });
}

}  // namespace fastclip::cuda
