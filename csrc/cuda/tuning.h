// Every number that tunes the CUDA kernels, and what it was chosen by: `tuned` is what they are
// compiled with, Tuning how much memory the operations take.
//
// A multiprocessor has 65,536 registers, so that launch bounds of (threads, blocks) leave each
// thread 65,536 / threads / blocks of them, at most 255; tests/cuda/check_kernels.py tells whether
// any spill. Shared memory: 163 KB a block on 8.0, 99 KB on 8.6 and 8.9, 227 KB on 9.0, and 48 KB
// where it is not asked for. No number has been measured on a device yet.
//
// Numbers of a format (arch/code_layout.h), of an instruction or of a proof stand beside it. Those
// marked (bits) decide the order of sums: with others the results differ within their stated error.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

// Arrays that belong to queries are padded to whole tiles of this: 4 KB of each k-tile on sm_80,
// two consumers of 64 queries on sm_90, which is what one wgmma takes.
inline constexpr int kQueryTile = 128;

// Ranges of keys begin at multiples of this: the wider of the two tiles of keys.
inline constexpr int kKeyAlignment = 256;

namespace tuned {

// Of a block, where nothing below says otherwise: kernels without tiles in shared memory.
inline constexpr int kThreads = 256;

// arch/mainloop_sm80.cuh. A warp holds 64 x 64 products, 128 registers of the 255 that a thread may
// have. A block takes 49 to 52 KB of shared memory with three stages, of which two fit on 8.0 and
// 9.0, and 33 to 36 KB with two, for 8.6, 8.9 and 12.0.
struct MainloopSm80 {
  static constexpr int kKeyTile = 128;
  static constexpr int kStages = 3;
  static constexpr int kStagesOfSmall = 2;
  static constexpr int kThreads = 128;  // 2 x 2 warps
  static constexpr int kBlocks = 2;     // on a multiprocessor
};

// arch/mainloop_sm90.cuh, which calculates the floors. A consumer holds 64 x 256 products, the
// widest wgmma, in 128 registers of a thread. Stages take 216 of 227 KB: of the keys 256 rows of
// 768 codes; of the queries what is left, a multiple of kConsumers.
struct MainloopSm90 {
  static constexpr int kConsumers = 2;  // warp-groups: one multiplies, one is in its epilogue
  static constexpr int kKeyBytes = 256 * 768;
  static constexpr int kQueryStages = 6;
  static constexpr int kBoundsStages = 2;
  // 128 * (40 + 2 * 232) = 64,512 registers; these are multiples of 8.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
};

// arch/value_tile.cuh, arch/split_tile.cuh: 8 x 8 sums a thread (twice that while a chunk is added)
// leave room for one block of 256 threads on a multiprocessor.
struct ValueTile {
  static constexpr int kRows = 128, kColumns = 128, kThreads = 256;
  static constexpr int kSide = 8;    // of the square of one thread
  static constexpr int kTileK = 16;  // terms in shared memory at a time: two stages in 33 KB
};
struct SplitTile {
  static constexpr int kRows = 128, kColumns = 128, kThreads = 256;
  static constexpr int kSide = 8;
  static constexpr int kTileK = 32;  // two instructions' terms
  static constexpr int kStages = 3;  // 96 KB with `low`
};

// engine/encode.cuh. A row of 65,536 codes would need 264 KB of shared memory; one of 512 needs 2
// KB, so that threads are what limits the blocks of a multiprocessor: 16 of 128.
struct Encode {
  static constexpr int kThreads = 128;
  static constexpr int kBlocks = 16;      // of a multiprocessor
  static constexpr int kKeysAThread = 4;  // at least, where bounds of all keys are read,
  static constexpr int kBoundBlocks = 4;  // by so many blocks of a multiprocessor
};

// engine/finite.cu, engine/split_rows.cuh: enough blocks for any device, rows in turns.
struct Rows {
  static constexpr int kFiniteBlocks = 1 << 16;
  static constexpr int kLengthBlocks = 1024;
};

// engine/pair_list.cuh: half a warp for each pair. Blocks of a multiprocessor: those that fit, and
// those of the grid, four rounds of them since pairs differ in nothing but where they lie.
struct Rescore {
  static constexpr int kThreads = 256;
  static constexpr int kBlocks = 2;
  static constexpr int kGridBlocks = 8;
  // Places in the list that a warp reserves at once, if there are so many times as many: 1,056
  // warps of the screen on an H100.
  static constexpr int kReserved = 64;
  static constexpr int64_t kReservers = 1 << 14;
};

// engine/value_loop.cuh. Parts of the keys by their number alone (bits): enough for 128 blocks of a
// few queries, and no longer than sums of float32 stay precise.
struct ValueLoop {
  static constexpr int64_t kEnoughParts = 128, kLeastKeys = 1024, kMostKeys = 65536;
  static constexpr int64_t kSplitBytes = int64_t{128} << 20;  // of keys at a time, about
  static constexpr int kMergeThreads = 128;
};

struct TopK {
  // Candidates that a warp collects in shared memory before it writes them: what mainloop_sm90.cuh
  // has left, at 12 bytes.
  static constexpr int kQueue = 48;
  static constexpr int kThreads = 256;
  static constexpr int kBlocks = 2;        // 128 registers
  static constexpr int kSelectBlocks = 4;  // 64 registers: they wait for memory and barriers
  // Candidates of a query: powers of two. 8,192 take 96 KB of shared memory, in one block of a
  // multiprocessor; many come with few queries, for fewer phases, up to kEntries of all queries.
  static constexpr int64_t kLeastCandidates = 1024;
  static constexpr int64_t kCandidatesOfBest = 8;  // for each of the k best, at least
  static constexpr int64_t kMostCandidates = 8192;
  static constexpr int64_t kEntries = int64_t{1} << 24;      // 128 MB
  static constexpr int64_t kMostEntries = int64_t{1} << 26;  // 512 MB
  static constexpr int64_t kMostQueries = 16384;  // on 9.0 keys are read once for so many
  // Phases: keys grow by the candidates over so many survivors of each of the k best, as counted on
  // real features by the CPU's screen, at most by kMostGrowth.
  static constexpr int64_t kSurvivors = 16;
  static constexpr int64_t kMostGrowth = 31;
  // Of a phase that overflowed, before exact scores of all keys. Of few queries these are cheap,
  // and kernels that find nothing to do are a good part of the time.
  static constexpr int kRetries = 2;
  static constexpr int kRetriesOfFew = 1;
  static constexpr int64_t kMostParts = 256;  // of all keys, whose best are merged by one block
  static constexpr int kExactBlocks = 4;      // of a multiprocessor
};

struct GroupMax {
  static constexpr int64_t kMostEntries = int64_t{1} << 25;  // queries times groups: 384 MB
};

// Sums over kSumKeys keys are computed in float32, these sums added in float64 (bits).
struct CacheLogits {
  static constexpr int64_t kSumKeys = 256;
  static constexpr int64_t kWeights = 1 << 22;        // of a block, about: 16 MB
  static constexpr int64_t kSums = int64_t{1} << 24;  // of a block, about: 64 MB
};

struct GroupMean {
  static constexpr int kColumns = 32, kRows = 8;  // of a block (bits: rows)
};

// A thread holds 32 float64 sums, 64 registers.
struct Similarity {
  static constexpr int kTile = 32;               // queries and keys of a block,
  static constexpr int kQueries = 4, kKeys = 8;  // of half a warp
  static constexpr int kColumns = 32;            // in shared memory at a time
};

struct PixelLabels {
  static constexpr int kThreads = 128;
  static constexpr int kMarkBlocks = 8;   // 64 registers
  static constexpr int kLabelBlocks = 4;  // 128 registers
  static constexpr int kHeld = 512;       // survivors in shared memory: 12 KB
  static constexpr int kPixels = 4;       // neighbouring outputs of a thread, where k = 1
};

struct RefineMasks {
  static constexpr int kMasks = 8;  // of a thread: their weights are the same
};

}  // namespace tuned

// How much the operations take at a time, at most: less needs less memory.
struct Tuning {
  // Candidates of one query of topk: a power of two, at least 256 and at least k. 16,384 queries
  // with 1,024 each take 128 MiB.
  int64_t topk_queries = 1 << 14;
  int64_t topk_candidates = 1 << 13;

  // Of the other searches. Pairs that are screened have numbers below 2^31; those that the screen
  // does not decide are listed in 32 MiB.
  int64_t search_queries = 1 << 13;
  int64_t search_pairs = 1 << 30;
  int64_t search_open = 1 << 22;

  // Scores that are held where no kernel does without: 28 bytes each where they are sorted.
  int64_t held_scores = 1 << 26;

  int64_t logsumexp_queries = 1 << 14;
  int64_t potential_rows = 1 << 14;
  int64_t cache_queries = 1 << 11;
  int64_t mean_rows = 1 << 12;             // that are converted to float64
  int64_t pixel_scores_at_once = 1 << 12;  // tags and pixels: 64 MiB of scores
  int64_t pixel_labels_scores = 1 << 24;   // 64 MiB
  int64_t refine_weights = 1 << 26;        // 256 MiB
};

// Tests change it, to have many parts of little.
inline Tuning& tuning() {
  static Tuning tuning;
  return tuning;
}

// Of `rows`, no more than is tuned and than `most`; at least one, so that memory has a size.
inline int64_t rows_at_once(int64_t rows, int64_t tuned, int64_t most) {
  const int64_t fewer = tuned < most ? tuned : most;
  return rows < 1 || fewer < 1 ? 1 : (rows < fewer ? rows : fewer);
}

}  // namespace fastclip::cuda
