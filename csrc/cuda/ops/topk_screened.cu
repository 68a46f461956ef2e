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

// Of the first keys, for which there is room and no threshold yet: all are candidates.
struct FirstEpilogue : Epilogue {
  struct Rows {};
  Candidate* candidates;
  int capacity;

  explicit FirstEpilogue(const TopKState& state)
      : candidates(state.candidates), capacity(state.capacity) {}
  __device__ Rows rows(int64_t) const { return {}; }
  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows&, State&) const {
    visit_strip(dots, strip, [&](int h, int bit, const ScreenedScore& score) {
      const int64_t key = key_of_bit(strip, bit);
      if (std::isnan(score.scale)) return;
      candidates[strip.query(h) * capacity + key] = {score.x(), static_cast<int32_t>(key)};
    });
  }
};

// Collects candidates in shared memory, since a warp would wait for the place of each.
struct CandidateEpilogue : Epilogue {
  using Rows = ThresholdRows;
  struct Entry {
    int32_t query;
    Candidate candidate;
  };
  struct Memory {
    Entry entries[Tuned::kQueue];
  };
  struct State {
    __device__ explicit State(Memory& memory) : entries(memory.entries) {}
    Entry* entries;
    int count = 0;
  };
  const ScreenQuery* coefficients;
  const float* thresholds;
  int* counts;
  Candidate* candidates;
  int capacity;

  CandidateEpilogue(const TopKState& state, const float* thresholds)
      : coefficients(state.queries.coefficients),
        thresholds(thresholds),
        counts(state.counts),
        candidates(state.candidates),
        capacity(state.capacity) {}

  __device__ Rows rows(int64_t first_query) const {
    const int64_t first = Strip::query_of(first_query, 0);
    const int64_t second = Strip::query_of(first_query, 1);
    return Rows(coefficients[first], coefficients[second], thresholds[first], thresholds[second]);
  }

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State& state) const {
    const uint32_t passed = reaching(dots, strip, rows);
    uint32_t bits = __reduce_or_sync(kAllLanes, passed);
    if (bits == 0) return;
    if (__reduce_add_sync(kAllLanes, __popc(passed)) > Tuned::kQueue / 2) {
      write_all(passed, dots, strip);
      return;
    }
    const unsigned before = (1u << threadIdx.x % kWarp) - 1;
    for (; bits != 0; bits &= bits - 1) {
      const int bit = __ffs(static_cast<int>(bits)) - 1;
      const bool mine = (passed >> bit & 1) != 0;
      const unsigned lanes = __ballot_sync(kAllLanes, mine);
      if (state.count + __popc(lanes) > Tuned::kQueue) empty(state);
      const Candidate candidate{x_of_bit(dots, strip, bit),
                                static_cast<int32_t>(key_of_bit(strip, bit))};
      if (mine) {
        state.entries[state.count + __popc(lanes & before)] = {
            static_cast<int32_t>(query_of_bit(strip, bit)), candidate};
      }
      state.count += __popc(lanes);
    }
  }

  __device__ void finish(State& state) const { empty(state); }

 private:
  __device__ void empty(State& state) const {
    __syncwarp();
#pragma unroll 1
    for (int i = threadIdx.x % kWarp; i < state.count; i += kWarp) {
      const Entry entry = state.entries[i];
      write(entry.query, atomicAdd(&counts[entry.query], 1), entry.candidate);
    }
    state.count = 0;
    __syncwarp();
  }

  // Where so many pass in one strip, waiting once for places of their own is faster.
  __device__ void write_all(uint32_t passed, const int (&dots)[8][4], const Strip& strip) const {
    for (int h = 0; h < 2; ++h) {
      uint32_t of_query = passed & 0x33333333u << (2 * h);
      if (of_query == 0) continue;
      int at = atomicAdd(&counts[strip.query(h)], __popc(of_query));
      for (; of_query != 0; of_query &= of_query - 1) {
        const int bit = __ffs(static_cast<int>(of_query)) - 1;
        write(strip.query(h), at++,
              {x_of_bit(dots, strip, bit), static_cast<int32_t>(key_of_bit(strip, bit))});
      }
    }
  }

  __device__ void write(int64_t query, int at, const Candidate& candidate) const {
    if (at < capacity) candidates[query * capacity + at] = candidate;
  }
};

__global__ void begin_kernel(TopKState state, int first_keys) {
  const int64_t q = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t tiles = state.queries.tiles();
  for (const RetryList& list : state.retries) {
    if (q == 0) *list.count = 0;
    if (q < tiles) list.listed[q] = 0;
  }
  if (q >= tiles * kQueryTile) return;
  state.counts[q] = first_keys;
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
  for (int i = threadIdx.x / kLanes; i < count; i += blockDim.x / kLanes) {
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
  for (int i = threadIdx.x; i < held.count; i += blockDim.x) {
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
  for (int i = threadIdx.x; i < held.count; i += blockDim.x) {
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
__global__ void __launch_bounds__(kThreads, Tuned::kSelectBlocks)
    raise_kernel(TopKState state, TopKOutput out, int64_t first_key, int attempt, bool last_try) {
  const int64_t q = blockIdx.x;
  const bool retry = attempt > 0;
  const bool odd = attempt % 2 != 0;
  const RetryList list = odd ? state.retries[1] : state.retries[0];
  if (q == 0) {
    const RetryList read = odd ? state.retries[0] : state.retries[1];
    for (int64_t i = threadIdx.x; i <= state.queries.tiles(); i += blockDim.x) read.count[i] = 0;
  }
  const float screened = retry ? state.retry_thresholds[q] : state.thresholds[q];
  if (std::isnan(screened)) return;
  auto* candidates = dynamic_shared<Candidate>();
  const Held held{candidates, reinterpret_cast<uint32_t*>(candidates + state.capacity),
                  min(state.counts[q], state.capacity), state.counts[q] > state.capacity};
  for (int i = threadIdx.x; i < held.count; i += blockDim.x) {
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
  if (atomicExch(&list.listed[tile], 1) == 0) list.tiles[atomicAdd(list.count, 1)] = tile;
}

// Scores the candidates of a query exactly, first those with the best upper bounds, and writes the
// best.
__global__ void __launch_bounds__(kThreads, Tuned::kSelectBlocks)
    finish_kernel(TopKState state, TopKOutput out) {
  const int64_t q = blockIdx.x;
  if (std::isnan(state.thresholds[q])) return;
  const int k = state.k;
  const int count = state.counts[q];
  auto* best = dynamic_shared<OrderedKey>();
  auto* upper = reinterpret_cast<uint32_t*>(best + state.capacity);
  __shared__ int scored;
  const Candidate* stored = state.candidates + q * state.capacity;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    upper[i] = ordered(stored[i].x + state.margin(q, stored[i].key));
  }
  for (int i = threadIdx.x; i < next_power_of_two(count); i += blockDim.x) best[i] = 0;
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
  for (int i = threadIdx.x / kLanes; i < count; i += blockDim.x / kLanes) {
    if (best[i] == 0 && upper[i] >= floor) score(i);
  }
  __syncthreads();
  sort_descending(best, next_power_of_two(count));
  for (int i = threadIdx.x; i < k; i += blockDim.x) out.write(q * k + i, best[i]);
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
  MainloopParams params{state.queries.codes, tiles, state.keys, 0,
                        std::min<int64_t>(state.capacity, state.keys.keys)};
  zero(state.num_failed, sizeof(int), stream);
  launch(begin_kernel, static_cast<unsigned>(ceil_div<int64_t>(tiles * kQueryTile, kThreads)),
         kThreads, 0, stream, state, static_cast<int>(params.last_key));
  screen(params, FirstEpilogue(state), stream);
  // Where there are blocks enough, smaller ones wait less at their barriers.
  const bool many = out.queries.rows > int64_t{Tuned::kSelectBlocks} * multiprocessors();
  const int threads = many ? kThreads / 2 : kThreads;
  launch(raise_kernel, rows, threads, shared, stream, state, out, int64_t{0}, 0, true);
  const int retries = tiles == 1 ? Tuned::kRetriesOfFew : Tuned::kRetries;
  while (params.last_key < state.keys.keys) {
    params.first_key = params.last_key;
    params.last_key = std::min(
        params.first_key + next_phase(params.first_key, state.k, state.capacity), state.keys.keys);
    params.tile_list = nullptr;
    for (int attempt = 0; attempt <= retries; ++attempt) {
      screen(params,
             CandidateEpilogue(state, attempt > 0 ? state.retry_thresholds : state.thresholds),
             stream);
      launch(raise_kernel, rows, threads, shared, stream, state, out, params.first_key, attempt,
             attempt == retries);
      params.tile_list = state.retries[attempt % 2].tiles;
      params.tile_count = state.retries[attempt % 2].count;
    }
  }
  launch(finish_kernel, rows, threads, shared, stream, state, out);
  exact_topk(state, out, false, stream);
}

}  // namespace fastclip::cuda
