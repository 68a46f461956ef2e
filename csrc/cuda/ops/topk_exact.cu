// The k best keys of each query by exact scores of all keys.
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

// Finds the best keys of each failed query (of every one if `all`) in each of `parts` parts of the
// keys.
__global__ void __launch_bounds__(kThreads, Tuned::kBlocks)
    exact_kernel(TopKState state, TopKOutput out, int parts, int room, bool all) {
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

__global__ void __launch_bounds__(kThreads, Tuned::kBlocks)
    merge_parts_kernel(TopKState state, TopKOutput out, int parts, int room, bool all) {
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

}  // namespace

void exact_topk(const TopKState& state, const TopKOutput& out, bool all, Stream stream) {
  const int k = state.k;
  const int parts = static_cast<int>(std::clamp<int64_t>(
      std::min<int64_t>(state.capacity / k, out.keys.rows / kThreads), 1, Tuned::kMostParts));
  const int select_room = next_power_of_two(k + kThreads),
            merge_room = next_power_of_two(parts * k);
  const int64_t most = int64_t{Tuned::kExactBlocks} * multiprocessors();
  launch(exact_kernel, static_cast<unsigned>(std::min(out.queries.rows * parts, most)), kThreads,
         select_room * sizeof(OrderedKey), stream, state, out, parts, select_room, all);
  launch(merge_parts_kernel, static_cast<unsigned>(std::min(out.queries.rows, most)), kThreads,
         merge_room * sizeof(OrderedKey), stream, state, out, parts, merge_room, all);
}

}  // namespace fastclip::cuda
