// The k best keys of each query.
//
// Keys are screened in phases. A query's threshold, raised after each, is its k-th best lower bound
// so far: what is above goes to the query's candidates, unsorted. Where these overflow, the phase
// is repeated for the query with the threshold that the candidates it has give; if that does not
// help, exact scores of all keys decide. At the end the candidates are scored exactly.
#include "cuda/arch/mainloop.cuh"
#include "cuda/engine/encode_queries.h"
#include "cuda/engine/pair_list.cuh"
#include "cuda/engine/select.cuh"
#include "cuda/ops.h"

namespace fastclip::cuda {
namespace {

using Tuning = tuning::TopK;
constexpr int kThreads = Tuning::kThreads;
constexpr int kHalfWarps = kThreads / static_cast<int>(kLanes);

// A pair that the screen let pass: x of screen.h.
struct Candidate {
  float x;
  int32_t key;
};

struct State {
  State(Workspace& workspace, int64_t padded, int64_t capacity)
      : capacity(static_cast<int>(capacity)),
        floors(workspace.take<float>(padded)),
        thresholds(workspace.take<float>(padded)),
        retry_thresholds(workspace.take<float>(padded)),
        counts(workspace.take<int>(padded)),
        failed(workspace.take<int>(padded)),
        num_failed(workspace.take<int>(1)),
        retry_list(workspace.take<int>(padded / kQueryTile)),
        num_retry(workspace.take<int>(1 + padded / kQueryTile)),
        retry_flags(num_retry + 1),
        candidates(workspace.take<Candidate>(padded * capacity)) {}

  __device__ float margin(int64_t q, int32_t key) const {
    return screen_margin(queries.coefficients[q], keys.error[key], keys.norm[key]) +
           queries.gamma[q];
  }

  // Upper bounds below this belong to scores below `score`.
  __device__ float floor_of(int64_t q, float score) const {
    return round_down((static_cast<double>(score) - queries.offset[q]) / queries.scale[q]);
  }

  __device__ void fail(int64_t q) const {
    thresholds[q] = NAN;
    retry_thresholds[q] = NAN;
    failed[atomicAdd(num_failed, 1)] = static_cast<int>(q);
  }

  __device__ OrderedKey* parts(int64_t q) const {
    return reinterpret_cast<OrderedKey*>(candidates + q * capacity);
  }

  CodedQueries queries{};
  ScreenKeys keys{};
  int k = 0;
  int capacity;       // candidates of one query
  float* floors;      // [padded] keys whose upper bound is below are out
  float* thresholds;  // [padded] floor - gamma, as the screen asks for it; NaN: not screened
  float* retry_thresholds;
  int* counts;  // [padded] candidates that there were, also those beyond the capacity
  int* failed;  // queries whose answer the screen does not give
  int* num_failed;
  int* retry_list;  // tiles with queries that overflowed
  int* num_retry;
  int* retry_flags;       // [tiles], behind num_retry: whether a tile is in the list
  Candidate* candidates;  // [padded, capacity]
};

// Where the results of the block of queries go.
struct Output {
  Matrix queries, keys;
  float* values;     // [queries, k]
  int64_t* indices;  // [queries, k]
  int64_t* scored;   // pairs that were scored exactly

  __device__ void write(int64_t at, OrderedKey best) const {
    values[at] = score_of(best);
    indices[at] = key_of(best);
  }
};

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

__global__ void begin_kernel(State state) {
  const int64_t q = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (q >= state.queries.tiles() * kQueryTile) return;
  state.counts[q] = 0;
  state.floors[q] = -INFINITY;
  state.thresholds[q] = q < state.queries.count ? -INFINITY : NAN;
  state.retry_thresholds[q] = NAN;
  if (q < state.queries.count && !(state.queries.gamma[q] < INFINITY)) state.fail(q);
}

// Calls score(i), which returns an exact score in every lane of half a warp, for k candidates with
// the best upper bounds, given as numbers of ordered.h. Returns the lowest in every thread: a bound
// on the k-th best score of all keys.
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

// After the keys from `first_key` on were screened: raises the threshold of a query and drops the
// candidates below it. `retry`: only those queries that were screened again.
__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    raise_kernel(State state, Output out, int64_t first_key, bool retry, bool last_try) {
  const int64_t q = blockIdx.x;
  const float screened = retry ? state.retry_thresholds[q] : state.thresholds[q];
  if (std::isnan(screened)) return;
  auto* candidates = dynamic_shared<Candidate>();
  auto* bounds = reinterpret_cast<uint32_t*>(candidates + state.capacity);
  __shared__ int kept;
  Candidate* stored = state.candidates + q * state.capacity;
  const bool overflow = state.counts[q] > state.capacity;
  const int count = min(state.counts[q], state.capacity);
  for (int i = threadIdx.x; i < count; i += kThreads) {
    candidates[i] = stored[i];
    bounds[i] = ordered(candidates[i].x - state.margin(q, candidates[i].key));
  }
  if (threadIdx.x == 0) kept = 0;
  __syncthreads();
  float floor = state.floors[q];
  if (count >= state.k) {
    const uint32_t kth = kth_largest(count, state.k, [&](int i) { return bounds[i]; });
    floor = fmaxf(floor, from_ordered(kth));
    int above = 0;
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const float upper = candidates[i].x + state.margin(q, candidates[i].key);
      bounds[i] = ordered(upper);
      above += upper >= floor;
    }
    if (above > 0) atomicAdd(&kept, above);
    __syncthreads();
    const bool crowded = overflow || kept > state.capacity / 2;
    __syncthreads();
    if (threadIdx.x == 0) kept = 0;
    if (crowded) {  // room is worth k exact scores
      const float worst = score_best(bounds, count, state.k, [&](int i) {
        return exact_score(out.queries, q, out.keys, candidates[i].key);
      });
      floor = fmaxf(floor, state.floor_of(q, worst));
      if (threadIdx.x == 0) add(out.scored, state.k);
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const Candidate c = candidates[i];
    if (c.x + state.margin(q, c.key) < floor) continue;
    if (overflow && c.key >= first_key) continue;  // will be found again
    stored[atomicAdd(&kept, 1)] = c;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  const float threshold = round_down(static_cast<double>(floor) - state.queries.gamma[q]);
  state.floors[q] = floor;
  state.counts[q] = kept;
  state.thresholds[q] = threshold;
  state.retry_thresholds[q] = NAN;
  if (!overflow) return;
  if (last_try) return state.fail(q);
  state.retry_thresholds[q] = threshold;
  const int tile = static_cast<int>(q / kQueryTile);
  if (atomicExch(&state.retry_flags[tile], 1) == 0) {
    state.retry_list[atomicAdd(state.num_retry, 1)] = tile;
  }
}

// Scores the candidates of a query exactly, first those with the best upper bounds, and writes the
// best.
__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    finish_kernel(State state, Output out) {
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

// The best keys of a failed query (of any if `all`) among each of `parts` parts of all keys.
__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    exact_kernel(State state, Output out, int parts, int room, bool all) {
  auto* best = dynamic_shared<OrderedKey>();  // [room], a power of two and at least k + kThreads
  __shared__ int size;
  const int64_t queries = all ? out.queries.rows : *state.num_failed;
  const int k = state.k;
  for (int64_t item = blockIdx.x; item < queries * parts; item += gridDim.x) {
    const int64_t q = all ? item / parts : state.failed[item / parts];
    const int64_t part = item % parts;
    const int64_t begin = out.keys.rows * part / parts;
    const int64_t end = out.keys.rows * (part + 1) / parts;
    OrderedKey kth = 0;
    __syncthreads();
    if (threadIdx.x == 0) size = 0;
    const auto select = [&] {
      for (int i = size + threadIdx.x; i < room; i += kThreads) best[i] = 0;
      __syncthreads();
      sort_descending(best, room);
      kth = best[k - 1];
      if (threadIdx.x == 0) size = min(size, k);
      __syncthreads();
    };
    for (int64_t first = begin; first < end; first += kThreads) {
      __syncthreads();
      if (size + kThreads > room) select();
      __syncthreads();
      const int64_t last = min(first + kThreads, end);
      for (int64_t j = first + threadIdx.x / kLanes; j < last; j += kHalfWarps) {
        const OrderedKey scored = ordered_key(exact_score(out.queries, q, out.keys, j), j);
        if (threadIdx.x % kLanes == 0 && scored > kth) best[atomicAdd(&size, 1)] = scored;
      }
    }
    __syncthreads();
    select();
    for (int i = threadIdx.x; i < k; i += kThreads) state.parts(q)[part * k + i] = best[i];
    if (threadIdx.x == 0) add(out.scored, end - begin);
  }
}

__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    merge_parts_kernel(State state, Output out, int parts, int room, bool all) {
  auto* best = dynamic_shared<OrderedKey>();  // [room], a power of two and at least parts * k
  const int64_t queries = all ? out.queries.rows : *state.num_failed;
  const int k = state.k;
  for (int64_t item = blockIdx.x; item < queries; item += gridDim.x) {
    const int64_t q = all ? item : state.failed[item];
    for (int i = threadIdx.x; i < room; i += kThreads) {
      best[i] = i < parts * k ? state.parts(q)[i] : 0;
    }
    __syncthreads();
    sort_descending(best, room);
    for (int i = threadIdx.x; i < k; i += kThreads) out.write(q * k + i, best[i]);
    __syncthreads();
  }
}

void exact_topk(const State& state, const Output& out, bool all, Stream stream) {
  const int k = state.k;
  const int parts = static_cast<int>(std::clamp<int64_t>(
      std::min<int64_t>(state.capacity / k, out.keys.rows / kThreads), 1, Tuning::kMostParts));
  const int select_room = next_power_of_two(k + kThreads),
            merge_room = next_power_of_two(parts * k);
  const int64_t most = int64_t{Tuning::kExactBlocks} * multiprocessors();
  launch(exact_kernel, static_cast<unsigned>(std::min(out.queries.rows * parts, most)), kThreads,
         select_room * sizeof(OrderedKey), stream, state, out, parts, select_room, all);
  launch(merge_parts_kernel, static_cast<unsigned>(std::min(out.queries.rows, most)), kThreads,
         merge_room * sizeof(OrderedKey), stream, state, out, parts, merge_room, all);
}

// Keys of the phase after `seen` ones were screened: few enough that candidates do not overflow as
// long as keys come in no particular order. A screen lets some times k pass of keys k times as
// many.
int64_t next_phase(int64_t seen, int64_t k, int64_t capacity) {
  const int64_t factor =
      std::clamp<int64_t>(capacity / (Tuning::kSurvivors * k), 1, Tuning::kMostGrowth);
  return ceil_div<int64_t>(seen * factor, kKeyAlignment) * kKeyAlignment;
}

void screened_topk(State state, const Output& out, const QueryArrays& arrays, Stream stream) {
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
    for (int attempt = 0; attempt <= Tuning::kRetries; ++attempt) {
      screen(params, epilogue, stream);
      zero(state.num_retry, (1 + tiles) * sizeof(int), stream);
      launch(raise_kernel, rows, kThreads, shared, stream, state, out, seen, attempt > 0,
             attempt == Tuning::kRetries);
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

struct Memory {
  Memory(Workspace& workspace, const TopKPlan& plan, int64_t width)
      : arrays(workspace, padded_queries(plan.queries), width),
        state(workspace, padded_queries(plan.queries), plan.candidates) {}

  QueryArrays arrays;
  State state;
};

}  // namespace

int64_t topk_workspace(const TopKPlan& plan, int64_t width) {
  Workspace workspace;
  Memory(workspace, plan, width);
  return workspace.bytes();
}

void topk(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, const TopKPlan& plan,
          float* values, int64_t* indices, int64_t* scored, void* memory, Stream stream) {
  zero(scored, sizeof(int64_t), stream);
  if (queries.rows == 0) return;
  Workspace workspace(memory);
  Memory parts(workspace, plan, screen != nullptr ? screen->width : 0);
  State& state = parts.state;
  state.k = static_cast<int>(plan.k);
  if (screen != nullptr) {
    state.keys = *screen;
    bound_keys(*screen, parts.arrays, stream);
  }
  for (int64_t first = 0; first < queries.rows; first += plan.queries) {
    const Output out{queries.slice(first, std::min(first + plan.queries, queries.rows)), keys,
                     values + first * plan.k, indices + first * plan.k, scored};
    if (screen != nullptr) {
      screened_topk(state, out, parts.arrays, stream);
    } else {
      exact_topk(state, out, true, stream);
    }
  }
}

}  // namespace fastclip::cuda
