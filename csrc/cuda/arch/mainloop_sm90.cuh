// The mainloop for Hopper (compute capability 9.0): wgmma, fed by bulk copies that warps of their
// own start.
//
// A block goes through the tiles of queries with one tile of keys resident in shared memory, so
// that keys come from memory once and each byte of a query serves 256 keys. Codes lie in memory as
// wgmma takes them (code_layout.h): a copy of a block of codes is one instruction without a tensor
// map.
//
// The first warp-group is the producers: one warp copies keys, one queries, one the keys' bounds.
// The two others, the consumers, each multiply 64 queries by the 256 keys, by turns (ping-pong):
// one has the tensor cores while the other is in its epilogue. All stages of the query pipeline
// serve the one whose turn it is.
//
// A tile has 256 keys where that many are resident, rows of up to 768 codes; of wider rows 192 (up
// to 1,024 codes) or 128 (up to 1,536). Wider ones still are not resident: their keys are copied
// again for each tile of queries, and both consumers take the same k-tile at a time.
//
// The floors, for a multiprocessor, rows of 512 codes and 64 queries of a consumer by 256 keys:
//   products           2,048 cycles of the tensor cores
//   epilogue           800 instructions of each of 4 warps, of topk where no pair passes: 182 a
//                      strip, 5.7 lane operations a score; about 60 more for each pair that does
//   shared memory      1,280 cycles for wgmma, 256 for copies, 256 or more for the bounds of keys
//   second-level cache 32 KB, 16 bytes a cycle; on all 132 of an H100 3.9 TB/s. With 192 keys of
//                      1,024 codes 21 bytes, with 128 keys 32
// The epilogue must take no longer than the products of the other consumer, or it is what counts.
//
// An H100 (1,979 TOP/s of int8, 3.35 TB/s) needs at least 25.9 ms for the products of 50,000 x
// 1,000,000 rows of 512 codes and 0.6 ms for the bytes of the keys, which come from memory once for
// each 16,384 queries. Prediction for the 10 best of random rows: 34 ms at its highest clock, 43 at
// four fifths of it, which its power may leave. A tenth of that goes to pairs that pass (simulated:
// 11 a strip from 7,000 keys on, 2 from 50,000 on, 0.4 from 350,000 on), another tenth to raising
// thresholds and to exact scores.
#pragma once

#include <algorithm>

#include "cuda/arch/mainloop_params.cuh"
#include "cuda/arch/ptx_sm90.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace sm90 {

using Tuned = tuned::MainloopSm90;
inline constexpr int kConsumers = Tuned::kConsumers;
inline constexpr int kQueries = kQueryTile / kConsumers;
inline constexpr int kQueryStages = Tuned::kQueryStages;  // k-tiles of the queries of a consumer
inline constexpr int kBoundsStages = Tuned::kBoundsStages;
inline constexpr int kWarpGroup = 128;
inline constexpr int kWarps = kWarpGroup / kWarp;  // of a warp-group
inline constexpr int kThreads = (1 + kConsumers) * kWarpGroup;
static_assert(kQueries == 64, "as wgmma has it");
static_assert(kQueryStages % kConsumers == 0,
              "k-tile by k-tile, each consumer has stages of its own");

// Stages that a producer warp fills in turn and consumers give back.
template <int stages>
struct Pipeline {
  MemoryBarrier full[stages];
  MemoryBarrier empty[stages];

  // Thread 0 calls this; so many threads say that a stage is full, and so many that it is empty.
  __device__ void init(int producers, int consumers) {
    for (int i = 0; i < stages; ++i) {
      barrier_init(full[i], producers);
      barrier_init(empty[i], consumers);
    }
  }
};

// Where a producer or a consumer is in a pipeline. Who waits for a stage to be full has to know
// that it was full the round before: a barrier tells only odd rounds from even ones.
template <int stages>
struct PipelineState {
  int stage = 0;
  int phase = 0;  // of the round, 0 or 1

  __device__ void advance(int count) {
    stage += count;
    phase = (phase + stage / stages) % 2;
    stage %= stages;
  }
  __device__ void wait_full(Pipeline<stages>& p) const { barrier_wait(p.full[stage], phase); }
  __device__ void wait_empty(Pipeline<stages>& p) const { barrier_wait(p.empty[stage], 1 - phase); }
};

// The k-tiles of a tile of 64 `strips` keys that stages have room for.
template <int strips>
inline constexpr int kKeyStages = Tuned::kKeyBytes / (strips * kStripKeys * kTileK);

template <class Epilogue, int strips>
struct Shared {
  static constexpr int kKeyTile = strips * kStripKeys;
  uint8_t keys[kKeyStages<strips>][kKeyTile * kTileK];
  int8_t queries[kQueryStages][kQueries * kTileK];
  TileBounds<kKeyTile, Epilogue::kLabels> bounds[kBoundsStages];
  typename Epilogue::Memory memory[kConsumers * kWarps];
  Pipeline<kKeyStages<strips>> key_pipeline;
  Pipeline<kQueryStages> query_pipeline;
  Pipeline<kBoundsStages> bounds_pipeline;
  MemoryBarrier turns[kConsumers];
};

using QueryState = PipelineState<kQueryStages>;
using BoundsState = PipelineState<kBoundsStages>;

struct Tile {
  int64_t query_tile;
  int64_t first_key;
  int keys;
  bool first, last;  // of the block's tiles with these keys
};

// The tiles of a block: neighbours, of which those with the same keys come one after the other.
template <int strips>
class Tiles {
 public:
  static constexpr int kKeyTile = strips * kStripKeys;

  __device__ explicit Tiles(const MainloopParams& params)
      : k_tiles(static_cast<int>(params.keys.width / kTileK)),
        keys_resident(k_tiles <= kKeyStages<strips>),
        list_(params.tile_list),
        first_key_(params.first_key),
        last_key_(params.last_key),
        queries_(params.tile_list == nullptr ? params.query_tiles : *params.tile_count) {
    const int64_t tiles = queries_ * ceil_div<int64_t>(params.num_keys(), kKeyTile);
    begin_ = tiles * blockIdx.x / gridDim.x;
    end_ = tiles * (blockIdx.x + 1) / gridDim.x;
  }

  template <class Visit>
  __device__ __forceinline__ void visit(Visit visit) const {
    for (int64_t t = begin_; t < end_; ++t) {
      const int64_t nth = t % queries_;
      const int64_t first_key = first_key_ + t / queries_ * kKeyTile;
      visit(Tile{list_ == nullptr ? nth : list_[nth], first_key,
                 static_cast<int>(min(int64_t{kKeyTile}, last_key_ - first_key)),
                 t == begin_ || nth == 0, t + 1 == end_ || nth + 1 == queries_});
    }
  }

  int k_tiles;
  bool keys_resident;

 private:
  const int* list_;
  int64_t first_key_, last_key_, queries_, begin_, end_;
};

template <class Shared, int strips>
__device__ void produce_keys(Shared& shared, const MainloopParams& params,
                             const Tiles<strips>& tiles) {
  PipelineState<kKeyStages<strips>> write;
  tiles.visit([&](const Tile& tile) {
    if (tiles.keys_resident && !tile.first) return;
    const int blocks = ceil_div(tile.keys, static_cast<int>(kPanel));
    for (int k = 0; k < tiles.k_tiles; ++k, write.advance(1)) {
      write.wait_empty(shared.key_pipeline);
      MemoryBarrier& full = shared.key_pipeline.full[write.stage];
      barrier_arrive_expect(full, blocks * kBlockBytes);
      for (int b = 0; b < blocks; ++b) {
        bulk_copy(
            shared.keys[write.stage] + b * kBlockBytes,
            params.keys.codes + block_offset(tile.first_key + b * kPanel, k, params.keys.width),
            kBlockBytes, full);
      }
    }
  });
}

template <class Shared, int strips>
__device__ void produce_queries(Shared& shared, const MainloopParams& params,
                                const Tiles<strips>& tiles) {
  QueryState write;
  tiles.visit([&](const Tile& tile) {
    for (int i = 0; i < kConsumers * tiles.k_tiles; ++i, write.advance(1)) {
      const int consumer = tiles.keys_resident ? i / tiles.k_tiles : i % kConsumers;
      const int k = tiles.keys_resident ? i % tiles.k_tiles : i / kConsumers;
      write.wait_empty(shared.query_pipeline);
      MemoryBarrier& full = shared.query_pipeline.full[write.stage];
      barrier_arrive_expect(full, kQueries * kTileK);
      const int64_t first = tile.query_tile * kQueryTile + consumer * kQueries;
#pragma unroll
      for (int row = 0; row < kQueries; row += kPanel) {
        bulk_copy(shared.queries[write.stage] + row * kTileK,
                  params.queries + block_offset(first + row, k, params.keys.width), kBlockBytes,
                  full);
      }
    }
  });
}

template <class Shared, int strips>
__device__ void produce_bounds(Shared& shared, const MainloopParams& params,
                               const Tiles<strips>& tiles) {
  BoundsState write;
  tiles.visit([&](const Tile& tile) {
    if (!tile.first) return;
    write.wait_empty(shared.bounds_pipeline);
    shared.bounds[write.stage].load(params, tile.first_key, 0, 1);
    barrier_arrive(shared.bounds_pipeline.full[write.stage]);
    write.advance(1);
  });
}

// Starts dots (+)= the products of one k-tile.
template <int strips>
__device__ __forceinline__ void multiply_k_tile(const int8_t* queries, const uint8_t* keys,
                                                int (&dots)[strips][8][4], bool add) {
  constexpr int kDepth = 32;  // of one wgmma
#pragma unroll
  for (int column = 0; column < kTileK; column += kDepth) {
    const int at = column / 16 * kNextColumns;
    wgmma_s8(dots, wgmma_operand(shared_address(queries + at), kNextColumns, kNextRows),
             wgmma_operand(shared_address(keys + at), kNextColumns, kNextRows), add || column > 0);
  }
}

// The stages that a consumer reads.
template <int strips>
struct ReadState {
  PipelineState<kKeyStages<strips>> keys;
  QueryState queries;

  template <class Shared>
  __device__ void release(Shared& shared, bool keys_too) const {
    if (threadIdx.x % kWarp != 0) return;
    barrier_arrive(shared.query_pipeline.empty[queries.stage]);
    if (keys_too) barrier_arrive(shared.key_pipeline.empty[keys.stage]);
  }
};

template <class Epilogue, int strips>
__device__ __forceinline__ void consume(Shared<Epilogue, strips>& shared,
                                        const Tiles<strips>& tiles, int consumer,
                                        const Epilogue& epilogue) {
  // Which stages the consumer's queries are in: tile by tile, or k-tile by k-tile.
  const int stride = tiles.keys_resident ? 1 : kConsumers;
  const int gap = tiles.keys_resident ? (kConsumers - 1) * tiles.k_tiles : 0;
  ReadState<strips> read;
  read.queries.advance(tiles.keys_resident ? consumer * tiles.k_tiles : consumer);
  BoundsState read_bounds;
  int turn = 1 - consumer;  // parity: the first one begins
  const bool first_lane = threadIdx.x % kWarp == 0;
  const int warp = threadIdx.x % kWarpGroup / kWarp;
  typename Epilogue::State state(shared.memory[consumer * kWarps + warp]);
  int dots[strips][8][4] = {};
  tiles.visit([&](const Tile& tile) {
    const int64_t first_query =
        tile.query_tile * kQueryTile + consumer * kQueries + warp * kStripQueries;
    const typename Epilogue::Rows rows = epilogue.rows(first_query);
    const bool release_keys = !tiles.keys_resident || tile.last;
    const auto first_keys = read.keys;
    // All earlier stages were full then.
    if (tiles.keys_resident) barrier_wait(shared.turns[consumer], turn);
    ReadState<strips> previous;
    for (int k = 0; k < tiles.k_tiles; ++k) {
      read.keys.wait_full(shared.key_pipeline);
      read.queries.wait_full(shared.query_pipeline);
      wgmma_fence();
      multiply_k_tile(shared.queries[read.queries.stage], shared.keys[read.keys.stage], dots,
                      k > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (k > 0) previous.release(shared, release_keys);
      previous = read;
      read.keys.advance(1);
      read.queries.advance(stride);
    }
    if (tiles.keys_resident && first_lane) barrier_arrive(shared.turns[1 - consumer]);
    turn = 1 - turn;
    wgmma_finish(dots);
    previous.release(shared, release_keys);
    read.queries.advance(gap);
    if (!release_keys) read.keys = first_keys;

    read_bounds.wait_full(shared.bounds_pipeline);
    const auto& bounds = shared.bounds[read_bounds.stage];
#pragma unroll
    for (int t = 0; t < strips; ++t) {
      epilogue(dots[t], strip_of(bounds, t, first_query, tile.first_key, tile.keys), rows, state);
    }
    __syncwarp();
    if (!tile.last) return;
    if (first_lane) barrier_arrive(shared.bounds_pipeline.empty[read_bounds.stage]);
    read_bounds.advance(1);
  });
  epilogue.finish(state);
}

// Code for other devices takes no block of kThreads, as has_code() expects.
#if defined(FASTCLIP_EMULATE) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTCLIP_HOPPER
inline constexpr int kMostThreads = kThreads;
#else
inline constexpr int kMostThreads = 1;
#endif

template <class Epilogue, int strips>
__global__ void __launch_bounds__(kMostThreads, 1)
    screen_kernel([[maybe_unused]] MainloopParams params, [[maybe_unused]] Epilogue epilogue) {
#ifdef FASTCLIP_HOPPER
  auto& shared = *dynamic_shared<Shared<Epilogue, strips>>();
  if (threadIdx.x == 0) {
    shared.key_pipeline.init(1, kConsumers * kWarps);
    shared.query_pipeline.init(1, kWarps);
    shared.bounds_pipeline.init(kWarp, kConsumers * kWarps);
    for (MemoryBarrier& turn : shared.turns) barrier_init(turn, kWarps);
    barrier_init_fence();
  }
  __syncthreads();
  const Tiles<strips> tiles(params);
  // From lane 0, so that the compiler knows it to be the same in all.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp < kWarps) {
    fewer_registers<Tuned::kProducerRegisters>();
    const bool first_lane = threadIdx.x % kWarp == 0;
    if (warp == 0 && first_lane) produce_keys(shared, params, tiles);
    if (warp == 1 && first_lane) produce_queries(shared, params, tiles);
    if (warp == 2) produce_bounds(shared, params, tiles);
  } else {
    more_registers<Tuned::kConsumerRegisters>();
    consume(shared, tiles, warp / kWarps - 1, epilogue);
  }
#else
  __trap();
#endif
}

template <int strips, class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
  using Memory = Shared<Epilogue, strips>;
  static_assert(sizeof(Memory) <= 227 * 1024);
  const int64_t tiles = params.query_tiles * ceil_div<int64_t>(params.num_keys(), Memory::kKeyTile);
  const int64_t blocks = std::min<int64_t>(tiles, multiprocessors());
  launch(screen_kernel<Epilogue, strips>, static_cast<unsigned>(blocks), kThreads, sizeof(Memory),
         stream, params, epilogue);
}

template <class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
  const int64_t k_tiles = params.keys.width / kTileK;
  if (k_tiles <= kKeyStages<4> || k_tiles > kKeyStages<2>) {
    screen<4>(params, epilogue, stream);
  } else if (k_tiles <= kKeyStages<3>) {
    screen<3>(params, epilogue, stream);
  } else {
    screen<2>(params, epilogue, stream);
  }
}

}  // namespace sm90
}  // namespace fastclip::cuda
