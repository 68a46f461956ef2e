// The k best keys of each query, with the help of the screen.
//
// Keys are screened in phases. A query's threshold is its k-th best lower bound so far and rises
// after each phase; keys above it become candidates, unsorted. If these overflow, the phase is
// repeated for the query with the threshold that its candidates give; if that does not help, exact
// scores of all keys decide. At the end the candidates are rescored.
#include "cuda/arch/mainloop.cuh"
#include "cuda/arch/threads.cuh"
#include "cuda/engine/exact_score.cuh"
#include "cuda/engine/select.cuh"
#include "cuda/ops/topk_state.cuh"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace {

using Tuned = tuned::TopK;
constexpr int kThreads = Tuned::kThreads;
constexpr int kHalfWarps = kThreads / static_cast<int>(kLanes);

struct CandidateEpilogue {
  const ScreenQuery* coefficients;
  const float* thresholds;
  int* counts;
  Candidate* candidates;
  int capacity;

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip) const {
    const int64_t query[2] = {strip.query(0), strip.query(1)};
    const ScreenQuery rows[2] = {coefficients[query[0]], coefficients[query[1]]};
    const float threshold[2] = {thresholds[query[0]], thresholds[query[1]]};
    uint32_t passed = 0;
    visit_strip(dots, strip, rows, [&](int h, int bit, const ScreenedScore& score) {
      if (score.upper() >= threshold[h]) passed |= 1u << bit;
    });
    if (passed == 0) return;
    int at[2];
    Candidate* to[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int count = __popc(passed & (0x33333333u << (2 * h)));
      at[h] = count > 0 ? atomicAdd(&counts[query[h]], count) : 0;
      to[h] = candidates + query[h] * capacity;
    }
    visit_strip(dots, strip, rows, [&](int h, int bit, const ScreenedScore& score) {
      if ((passed >> bit & 1) == 0) return;
      if (at[h] < capacity)
        to[h][at[h]] = {score.x(), static_cast<int32_t>(key_of_bit(strip, bit))};
      ++at[h];
    });
  }
};

__global__ void begin_kernel(TopKState state) {
  const int64_t q = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (q >= state.queries.tiles() * kQueryTile) return;
  state.counts[q] = 0;
  state.floors[q] = -INFINITY;
  state.thresholds[q] = q < state.queries.count ? -INFINITY : NAN;
  state.retry_thresholds[q] = NAN;
  if (q < state.queries.count && !(state.queries.gamma[q] < INFINITY)) state.fail(q);
}

// Calls score(i), which returns an exact score in every lane of half a warp, for k candidates with
// the best upper bounds (as numbers of ordered.h). Returns the lowest score, a lower bound on the
// k-th best of all keys, in every thread.
template <class Score>
__device__ float score_best(const uint32_t* upper, int count, int k, Score score) {
  __shared__ unsigned worst;
  __shared__ int taken;
  if (threadIdx.x == 0) {
    worst = 0xffffffffu;
    taken = 0;
  }
  const uint32_t least = kth_largest(count, k, [&](int i) { return upper[i]; });
  const bool first_lane = threadIdx.x % kLanes == 0;
  const unsigned half_warp = 0xffffu << (threadIdx.x % kWarp / kLanes * kLanes);
  for (int i = threadIdx.x / kLanes; i < count; i += kHalfWarps) {
    if (upper[i] < least) continue;
    // Of equal ones there may be more than k, and any k will do.
    const int before = first_lane ? atomicAdd(&taken, 1) : 0;
    if (__shfl_sync(half_warp, before, 0, kLanes) >= k) break;
    const float value = score(i);
    if (first_lane) atomicMin(&worst, ordered(value));
  }
  __syncthreads();
  return from_ordered(worst);
}

// Candidates of a query in shared memory.
struct Held {
  Candidate* candidates;
  uint32_t* bounds;  // as numbers of ordered.h: lower bounds, then upper ones
  int count;         // at least k where they are asked for a threshold
  bool overflow;     // there were more
};

// The floor that the candidates give, or the one there was if that is higher.
__device__ float raised_floor(const TopKState& state, const TopKOutput& out, int64_t q,
                              const Held& held) {
  __shared__ int above;
  if (threadIdx.x == 0) above = 0;
  const uint32_t kth = kth_largest(held.count, state.k, [&](int i) { return held.bounds[i]; });
  float floor = fmaxf(state.floors[q], from_ordered(kth));
  int mine = 0;
  for (int i = threadIdx.x; i < held.count; i += kThreads) {
    const Candidate c = held.candidates[i];
    const float upper = c.x + state.margin(q, c.key);
    held.bounds[i] = ordered(upper);
    mine += upper >= floor;
  }
  if (mine > 0) atomicAdd(&above, mine);
  __syncthreads();
  if (!held.overflow && above <= state.capacity / 2) return floor;
  // They are crowded: room is worth k exact scores.
  const float worst = score_best(held.bounds, held.count, state.k, [&](int i) {
    return exact_score(out.queries, q, out.keys, held.candidates[i].key);
  });
  if (threadIdx.x == 0) add(out.scored, state.k);
  return fmaxf(floor, state.floor_of(q, worst));
}

// Stores the candidates that are not below the floor, of those that overflowed only the keys before
// `first_key`: the others will be found again. Returns how many.
__device__ int keep(const TopKState& state, int64_t q, const Held& held, float floor,
                    int64_t first_key) {
  __shared__ int kept;
  if (threadIdx.x == 0) kept = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < held.count; i += kThreads) {
    const Candidate c = held.candidates[i];
    if (c.x + state.margin(q, c.key) < floor) continue;
    if (held.overflow && c.key >= first_key) continue;
    state.candidates[q * state.capacity + atomicAdd(&kept, 1)] = c;
  }
  __syncthreads();
  return kept;
}

// After the keys from `first_key` on were screened: raises the threshold of a query and drops the
// candidates below it. `retry`: only those queries that were screened again.
__global__ void __launch_bounds__(kThreads, Tuned::kBlocks)
    raise_kernel(TopKState state, TopKOutput out, int64_t first_key, bool retry, bool last_try) {
  const int64_t q = blockIdx.x;
  const float screened = retry ? state.retry_thresholds[q] : state.thresholds[q];
  if (std::isnan(screened)) return;
  auto* candidates = dynamic_shared<Candidate>();
  const Held held{candidates, reinterpret_cast<uint32_t*>(candidates + state.capacity),
                  min(state.counts[q], state.capacity), state.counts[q] > state.capacity};
  for (int i = threadIdx.x; i < held.count; i += kThreads) {
    const Candidate c = state.candidates[q * state.capacity + i];
    held.candidates[i] = c;
    held.bounds[i] = ordered(c.x - state.margin(q, c.key));
  }
  __syncthreads();
  const float floor = held.count >= state.k ? raised_floor(state, out, q, held) : state.floors[q];
  const int kept = keep(state, q, held, floor, first_key);
  if (threadIdx.x > 0) return;
  const float threshold = round_down(static_cast<double>(floor) - state.queries.gamma[q]);
  state.floors[q] = floor;
  state.counts[q] = kept;
  state.thresholds[q] = threshold;
  state.retry_thresholds[q] = NAN;
  if (!held.overflow) return;
  if (last_try) return state.fail(q);
  state.retry_thresholds[q] = threshold;
  const int tile = static_cast<int>(q / kQueryTile);
  if (atomicExch(&state.retry_flags[tile], 1) == 0) {
    state.retry_list[atomicAdd(state.num_retry, 1)] = tile;
  }
}

// Scores the candidates of a query exactly, first those with the best upper bounds, and writes the
// best.
__global__ void __launch_bounds__(kThreads, Tuned::kBlocks)
    finish_kernel(TopKState state, TopKOutput out) {
  const int64_t q = blockIdx.x;
  if (std::isnan(state.thresholds[q])) return;
  const int k = state.k;
  const int count = state.counts[q];
  auto* best = dynamic_shared<OrderedKey>();
  auto* upper = reinterpret_cast<uint32_t*>(best + state.capacity);
  __shared__ int scored;
  const Candidate* stored = state.candidates + q * state.capacity;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    upper[i] = ordered(stored[i].x + state.margin(q, stored[i].key));
  }
  for (int i = threadIdx.x; i < next_power_of_two(count); i += kThreads) best[i] = 0;
  if (threadIdx.x == 0) scored = 0;
  __syncthreads();
  const auto score = [&](int i) {
    const int32_t key = stored[i].key;
    const float value = exact_score(out.queries, q, out.keys, key);
    if (threadIdx.x % kLanes == 0) {
      best[i] = ordered_key(value, key);
      atomicAdd(&scored, 1);
    }
    return value;
  };
  const uint32_t floor = ordered(state.floor_of(q, score_best(upper, count, k, score)));
  for (int i = threadIdx.x / kLanes; i < count; i += kHalfWarps) {
    if (best[i] == 0 && upper[i] >= floor) score(i);
  }
  __syncthreads();
  sort_descending(best, next_power_of_two(count));
  for (int i = threadIdx.x; i < k; i += kThreads) out.write(q * k + i, best[i]);
  if (threadIdx.x == 0) add(out.scored, scored);
}

// The number of keys of the phase after `seen` ones: few enough that candidates do not overflow if
// keys come in no particular order. A screen of f times as many keys as before lets about f times
// k keys pass, times a constant.
int64_t next_phase(int64_t seen, int64_t k, int64_t capacity) {
  const int64_t factor =
      std::clamp<int64_t>(capacity / (Tuned::kSurvivors * k), 1, Tuned::kMostGrowth);
  return ceil_div<int64_t>(seen * factor, kKeyAlignment) * kKeyAlignment;
}

}  // namespace

void screened_topk(TopKState state, const TopKOutput& out, const QueryArrays& arrays,
                   Stream stream) {
  const auto rows = static_cast<unsigned>(out.queries.rows);
  const size_t shared = static_cast<size_t>(state.capacity) * 12;
  state.queries = encode_queries(out.queries, state.keys, arrays, stream);
  const int64_t tiles = state.queries.tiles();
  zero(state.num_failed, sizeof(int), stream);
  launch(begin_kernel, static_cast<unsigned>(ceil_div<int64_t>(tiles * kQueryTile, kThreads)),
         kThreads, 0, stream, state);
  for (int64_t seen = 0; seen < state.keys.keys;) {
    const int64_t keys = seen == 0 ? state.capacity : next_phase(seen, state.k, state.capacity);
    MainloopParams params{state.queries.codes, tiles, state.keys, seen,
                          std::min(seen + keys, state.keys.keys)};
    CandidateEpilogue epilogue{state.queries.coefficients, state.thresholds, state.counts,
                               state.candidates, state.capacity};
    for (int attempt = 0; attempt <= Tuned::kRetries; ++attempt) {
      screen(params, epilogue, stream);
      zero(state.num_retry, (1 + tiles) * sizeof(int), stream);
      launch(raise_kernel, rows, kThreads, shared, stream, state, out, seen, attempt > 0,
             attempt == Tuned::kRetries);
      if (seen == 0) break;  // the first keys all have room
      epilogue.thresholds = state.retry_thresholds;
      params.tile_list = state.retry_list;
      params.tile_count = state.num_retry;
    }
    seen = params.last_key;
  }
  launch(finish_kernel, rows, kThreads, shared, stream, state, out);
  exact_topk(state, out, false, stream);
}

}  // namespace fastclip::cuda
