// Pairs that the screen leaves open, collected in a list of bounded length and rescored exactly. A
// strip (mainloop_params.cuh) whose pairs do not fit is marked, and all its pairs are rescored.
#pragma once

#include "cuda/arch/threads.cuh"
#include "cuda/engine/exact_score.cuh"
#include "cuda/engine/screen.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {

struct OpenPair {
  int32_t query;  // of the block; -1: none
  int32_t key;
};

// Serves one run of a mainloop over fewer than 2^31 pairs.
class PairList {
 public:
  // A list without marks and gaps: its owner checks the count.
  PairList(OpenPair* pairs, int64_t capacity, unsigned* count)
      : reserved_(0), capacity_(capacity), pairs_(pairs), count_(count), marked_(nullptr) {}

  PairList(Workspace& workspace, int64_t capacity, int64_t most_strips)
      : reserved_(static_cast<int>(
            std::min<int64_t>(tuned::Rescore::kReserved, capacity / tuned::Rescore::kReservers))),
        capacity_(capacity),
        pairs_(workspace.take<OpenPair>(capacity)),
        count_(workspace.take<unsigned>(1 + ceil_div<int64_t>(most_strips, 32))),
        marked_(count_ + 1) {}

  static int64_t strips(int64_t queries, int64_t keys) {
    return ceil_div<int64_t>(queries, kStripQueries) * ceil_div<int64_t>(keys, kStripKeys);
  }

  // Sets what strips there are: those of keys from `first_key` to `last_key`.
  void cover(int64_t queries, int64_t first_key, int64_t last_key) {
    queries_ = queries;
    first_key_ = first_key;
    last_key_ = last_key;
  }

  // Empties the list, for these strips, of which there are no more than it was made for.
  void begin(int64_t queries, int64_t first_key, int64_t last_key, Stream stream) {
    cover(queries, first_key, last_key);
    zero(count_, sizeof(unsigned) * (1 + words()), stream);
  }

  // Those that a warp has reserved, many at a time since it waits for them, and not filled.
  struct Places {
    __device__ explicit Places(Epilogue::Memory&) {}
    int64_t next = 0, end = 0;
  };

  // Adds the pairs of a strip whose bits are set (visit_strip). If they do not fit, adds none and
  // returns false. All lanes of a warp must call, and leave() at the end.
  __device__ bool append(uint32_t bits, const Strip& strip, Places& places) const {
    const int lane = threadIdx.x % kWarp;
    const int count = __popc(bits);
    const int end = inclusive_sum(count);
    const int total = __shfl_sync(kAllLanes, end, kWarp - 1);
    if (total == 0) return true;
    if (places.next + total > places.end && !reserve(total, places)) {
      if (marked_ == nullptr) return false;
      const int64_t at = strip.first_query / kStripQueries * strips_of_keys() +
                         (strip.first_key - first_key_) / kStripKeys;
      if (lane == 0) atomicOr(&marked_[at / 32], 1u << (at % 32));
      return false;
    }
#pragma unroll 1
    for (OpenPair* to = pairs_ + places.next + end - count; bits != 0; bits &= bits - 1) {
      const int bit = __ffs(static_cast<int>(bits)) - 1;
      *to++ = {static_cast<int32_t>(query_of_bit(strip, bit)),
               static_cast<int32_t>(key_of_bit(strip, bit))};
    }
    places.next += total;
    return true;
  }

  __device__ void leave(Places& places) const {
#pragma unroll 1
    for (int64_t i = places.next + threadIdx.x % kWarp; i < places.end; i += kWarp) {
      pairs_[i] = {-1, 0};
    }
    places.next = places.end = 0;
  }

  __device__ int64_t size() const { return min(int64_t{*count_}, capacity_); }
  __device__ OpenPair operator[](int64_t i) const { return pairs_[i]; }
  __device__ bool overflowed() const { return int64_t{*count_} > capacity_; }
  __device__ unsigned marked(int64_t word) const { return marked_[word]; }
  FASTCLIP_HD int64_t words() const {
    return ceil_div<int64_t>(ceil_div<int64_t>(queries_, kStripQueries) * strips_of_keys(), 32);
  }
  FASTCLIP_HD int64_t strips_of_keys() const {
    return ceil_div<int64_t>(last_key_ - first_key_, kStripKeys);
  }
  FASTCLIP_HD int64_t queries() const { return queries_; }
  FASTCLIP_HD int64_t first_key() const { return first_key_; }
  FASTCLIP_HD int64_t last_key() const { return last_key_; }

 private:
  __device__ bool reserve(int total, Places& places) const {
    leave(places);
    const auto asked = static_cast<unsigned>(max(total, reserved_));
    unsigned base = 0;
    if (threadIdx.x % kWarp == 0) base = atomicAdd(count_, asked);
    places.next = __shfl_sync(kAllLanes, base, 0);
    places.end = min(places.next + int64_t{asked}, capacity_);
    if (places.next + total <= places.end) return true;
    leave(places);
    return false;
  }

  int reserved_;
  int64_t queries_ = 0, first_key_ = 0, last_key_ = 0;
  int64_t capacity_;
  OpenPair* pairs_;
  unsigned* count_;  // of all places, including those that there were not
  unsigned* marked_;
};

inline constexpr int kRescoreThreads = tuned::Rescore::kThreads;
inline constexpr int kRescoreHalfWarps = kRescoreThreads / static_cast<int>(kLanes);

// Calls take(query, key, score) for each pair of the list, on one thread.
template <class Take>
__global__ void __launch_bounds__(kRescoreThreads, tuned::Rescore::kBlocks)
    rescore_pairs_kernel(PairList list, Matrix queries, Matrix keys, Take take, int64_t* scored) {
  const int64_t size = list.size();
  int64_t count = 0;
  for (int64_t i = int64_t{blockIdx.x} * kRescoreHalfWarps + threadIdx.x / kLanes; i < size;
       i += int64_t{gridDim.x} * kRescoreHalfWarps) {
    const OpenPair pair = list[i];
    if (pair.query < 0) continue;
    const float score = exact_score(queries, pair.query, keys, pair.key);
    if (threadIdx.x % kLanes != 0) continue;
    take(pair.query, pair.key, score);
    ++count;
  }
  if (threadIdx.x % kLanes == 0) add(scored, count);
}

// Calls it for each pair of the marked strips, or of all strips.
template <class Take>
__global__ void __launch_bounds__(kRescoreThreads, tuned::Rescore::kBlocks)
    rescore_strips_kernel(PairList list, Matrix queries, Matrix keys, Take take, bool all,
                          int64_t* scored) {
  if (!all && !list.overflowed()) return;
  const int64_t strips = list.strips_of_keys();
  const int64_t last_strip = ceil_div<int64_t>(list.queries(), kStripQueries) * strips;
  int64_t count = 0;
  for (int64_t word = blockIdx.x; word < list.words(); word += gridDim.x) {
    for (unsigned bits = all ? ~0u : list.marked(word); bits != 0; bits &= bits - 1) {
      const int64_t strip = 32 * word + __ffs(static_cast<int>(bits)) - 1;
      if (strip >= last_strip) break;
      for (int p = threadIdx.x / kLanes; p < kStripQueries * kStripKeys; p += kRescoreHalfWarps) {
        const int64_t query = strip / strips * kStripQueries + p / kStripKeys;
        const int64_t key = list.first_key() + strip % strips * kStripKeys + p % kStripKeys;
        if (query >= list.queries() || key >= list.last_key()) continue;
        const float score = exact_score(queries, query, keys, key);
        if (threadIdx.x % kLanes != 0) continue;
        take(query, key, score);
        ++count;
      }
    }
  }
  if (threadIdx.x % kLanes == 0) add(scored, count);
}

// Scores the pairs exactly that the screen left open.
template <class Take>
void rescore(const PairList& list, const Matrix& queries, const Matrix& keys, const Take& take,
             int64_t* scored, Stream stream) {
  const auto blocks = static_cast<unsigned>(tuned::Rescore::kGridBlocks * multiprocessors());
  launch(rescore_pairs_kernel<Take>, blocks, kRescoreThreads, 0, stream, list, queries, keys, take,
         scored);
  launch(rescore_strips_kernel<Take>, blocks, kRescoreThreads, 0, stream, list, queries, keys, take,
         false, scored);
}

// Scores all pairs exactly; there may be more than the list was made for.
template <class Take>
void rescore_all(PairList list, const Matrix& queries, const Matrix& keys, const Take& take,
                 int64_t* scored, Stream stream) {
  list.cover(queries.rows, 0, keys.rows);
  launch(rescore_strips_kernel<Take>,
         static_cast<unsigned>(tuned::Rescore::kGridBlocks * multiprocessors()), kRescoreThreads, 0,
         stream, list, queries, keys, take, true, scored);
}

}  // namespace fastclip::cuda
