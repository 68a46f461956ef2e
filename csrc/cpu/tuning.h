// All numbers of the CPU kernels that were chosen for speed: sizes of blocks and tasks, and
// thresholds between two ways to the same answer. Answers do not depend on them, except that those
// of the float32 sums decide how sums are rounded. Register tiles are in isa/tile_sizes.h. Each
// number says where it comes from:
//
//   derived   from the caches of the processors at hand (32 KiB L1, 1 MiB L2 for each core), from
//             latencies, or from other numbers here
//   measured  by timing both sides of it
//   coarse    any number of the same order would do; not timed by itself
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastclip::cpu::tuning {

// --- Threads and memory ---

// Derived: waking a thread takes about as long as this many products.
inline constexpr double kProductsPerThread = 2.5e5;
// Coarse: enough tasks to even out threads of unequal speed.
inline constexpr int64_t kTasksPerThread = 4;
// Coarse: waking a sleeping thread takes longer than many small calls.
inline constexpr int64_t kSpinMicroseconds = 100;
// Coarse: reading the clock takes longer than checking what is waited for.
inline constexpr int kLooksPerTime = 64;
// Coarse: memory of freed buffers that each thread keeps.
inline constexpr int64_t kKeptBytes = 16 << 20;
// Derived from the time that waking a thread takes: a task is not worth it for less.
inline constexpr int64_t kFiniteTaskBytes = 4 << 20;   // read by find_nonfinite
inline constexpr int64_t kRoundTaskNumbers = 1 << 18;  // rounded by group_mean
// Coarse: some microseconds of work between two checks for an interrupt.
inline constexpr int64_t kRowsPerPoll = 1024;
inline constexpr int64_t kPairsPerPoll = 1 << 16;

// --- Exact scores ---

// Derived: a float64 key block stays in half of the L2 while the queries pass over it. A query
// block is converted once for all keys, so that it may be larger.
inline constexpr int64_t kKeyBlockBytes = 512 << 10;
inline constexpr int64_t kMaxKeyBlock = 256;
inline constexpr int64_t kMaxQueryBlock = 256;
// Coarse: so few queries do not pay for a conversion of the keys.
inline constexpr int64_t kFewQueries = 4;
// Coarse: threads share out the queries, not the keys, where each gets kEnoughQueries; where the
// keys are too few to be split, too, as long as each gets kFewestQueries.
inline constexpr int64_t kEnoughQueries = 32;
inline constexpr int64_t kFewestQueries = 8;
// Coarse: pairs given to pair_scores at a time, queries of its tasks.
inline constexpr int64_t kPairBatch = 256;
inline constexpr int64_t kPairQueries = 256;

// --- The screen ---

// Coarse: so few queries are bound by memory, and need no matrix unit.
inline constexpr int64_t kFewForTiles = 4;

// Coarse: panels in one call of a kernel. After each call a screen may be given up: little is lost
// where all pairs survive.
inline constexpr int64_t kMaxPanels = 8;
// Derived: a pair scored alone costs several times its share of a block of exact scores. A screen
// is given up where more than this share of the pairs survives ...
inline constexpr double kWorthScreening = 1.0 / 8;
// ... among the last keys, at most. Coarse.
inline constexpr int64_t kScreenWindow = 4096;
// Coarse: survivors of a query that are not held against a screen where nothing must be found
// first.
inline constexpr int64_t kFewSurvivors = 16;
// Derived: so few queries are bound by memory, and exact scores take as long as float32 bounds.
inline constexpr int64_t kFewFloatQueries = 2;
// Coarse: keys of a part, at least, where the keys are split.
inline constexpr int64_t kScreenedPartKeys = 256;
// Coarse: queries screened against fixed thresholds together.
inline constexpr int64_t kFixedQueryBlock = 512;
inline constexpr int64_t kFixedBatch = 16;  // pairs rescored at a time
// Coarse: rows whose mean is the centre of packed keys.
inline constexpr int64_t kCenterSample = 8192;
inline constexpr int64_t kPanelsPerPackTask = 16;  // coarse

// --- Selection ---

// Below these, the simple way is faster.
inline constexpr int64_t kFewToCompare = 64;  // sorted by comparisons, not by digits; coarse
inline constexpr int64_t kFewToSort = 32;     // without a selection before; measured
inline constexpr int64_t kFewToSearch = 64;   // copied out by kth_largest; coarse
// Coarse: steps by value of kth_largest, before it halves representations.
inline constexpr int kStepsByValue = 16;
inline constexpr int64_t kGateChunk = 32;  // scores compared at once with the k-th best; coarse

// --- Top-k ---

// Finding the candidates of a query takes as long as exact scores of some keys, the more the larger
// k is. Measured with 1 to 256 queries of 512 and 1,280 numbers.
constexpr bool worth_screening(int64_t keys, int64_t k) {
  return keys >= 64 && keys >= (k <= 128 ? 8 : 16) * k;
}
// Where codes are coarse and not much faster than float32, the pairs that they cannot tell from the
// k best seen so far take longer to score than to be screened in float32: as long as one key of
// some 200 is among these. Measured with k = 10 to 1,000.
constexpr int64_t topk_float_keys(int64_t k, bool narrow_sums) {
  return narrow_sums && k >= 32 ? 192 * k : 0;
}
// With few keys, float32 drops more of them in the time that encoding the queries takes. Very few
// queries are bound by memory, and codes are smaller. Coarse.
constexpr bool worth_codes(int64_t queries, int64_t keys, int64_t k, bool narrow_sums) {
  return keys >= 256 && worth_screening(keys, k) &&
         (queries <= kFewFloatQueries || keys >= std::max(64 * k, topk_float_keys(k, narrow_sums)));
}

// Coarse: entries held for each query, enough beyond k for a selection to pay.
constexpr int64_t topk_entries(int64_t k) { return 4 * k + 64; }
constexpr int64_t topk_candidates(int64_t k) { return k <= 128 ? 8 * k + 320 : 3 * k + 960; }
// Coarse: how many more than k a selection may keep, where that makes it faster.
constexpr int64_t topk_slack(int64_t k) { return k / 4; }
constexpr int64_t topk_first_slack(int64_t k) { return k / 16; }  // of those scored first
// Coarse: rescoring so few candidates takes less time than finding those to drop.
constexpr int64_t topk_few(int64_t k) { return k + (k < 16 ? k : 16); }
// Coarse: the best k must be found first, and those that the screen cannot tell from them.
constexpr int64_t topk_allowance(int64_t k) { return 2 * k + 64; }
// Coarse: survivors that are dropped by their bounds in the time that one score takes.
inline constexpr int64_t kSurvivorsPerScore = 4;

// Coarse: memory for the candidates of a thread's block of queries.
inline constexpr int64_t kCandidateBytes = 64 << 20;
inline constexpr int64_t kScreenedQueryBlock = 512;
// Coarse: keys that are resident in the L2 can be passed over often: a block of so few queries is
// resident, too.
inline constexpr int64_t kResidentQueryBlock = 64;
// Each part of the keys has its own k best to find, which takes as long as to screen some thousand
// keys, the more the larger k is. Very few queries cannot be split instead, and a thread that does
// the same work again is better than one without work. Coarse.
constexpr int64_t topk_least_keys(int64_t k) { return std::max(kScreenedPartKeys, 8 * k); }
constexpr int64_t topk_part_keys(int64_t queries, int64_t k) {
  return queries >= 16 ? std::max<int64_t>(4096, 512 * k) : topk_least_keys(k);
}
// Coarse: sets of keys whose best bounds stand in for all, where k is a quarter of them or less.
inline constexpr int64_t kFoldedSets = 64;
inline constexpr int64_t kRescoreBatch = 16;  // pairs rescored at a time; coarse
// Measured: the processor itself fetches the rest of a row once it is read in order.
inline constexpr int64_t kPrefetchBytes = 512;

// --- Groups ---

inline constexpr int64_t kGroupQueryBlock = 1024;  // coarse
// Derived: queries whose pairs are scored together. Enough pairs for the kernel, and their float64
// rows fit the L1.
inline constexpr int64_t kGroupQueries = 8;
inline constexpr int64_t kSortedQueries = 64;   // of one task of pairs_above; coarse
inline constexpr int64_t kColumnsPerTask = 64;  // of sums over rows; coarse

// --- Sums in float32: these decide how they are rounded ---

// Derived: a packed key block stays in half of the L2 while tiles of queries pass over it; packing
// it pays from some hundred queries on.
inline constexpr int64_t kValueKeyBytes = 512 << 10;
inline constexpr int64_t kValueQueryBytes = 2 << 20;
inline constexpr int64_t kMaxValueQueries = 512;
inline constexpr int64_t kMaxValueKeys = 256;  // whose terms are added in float32
// Coarse: parts are tasks where there are few queries, and their sums take memory.
inline constexpr int64_t kPartKeys = 8192;
inline constexpr int64_t kMaxParts = 64;
inline constexpr int64_t kEnoughTasks = 64;
// Coarse: of one task; cache_logits, gaussian_potential.
inline constexpr int64_t kCacheColumns = 1024;
inline constexpr int64_t kCentredRows = 64;

// --- Pixels and grids ---

// Derived: rows of a cell that are interpolated together, since one alone would wait for its own
// comparisons.
inline constexpr int64_t kCellRows = 4;
inline constexpr int64_t kCellTags = 8;  // compared at once with the k-th best; coarse
// Coarse: larger cells are cut, to listen for an interrupt. Tags times output pixels, and columns.
inline constexpr int64_t kCellInterpolations = 1 << 24;
inline constexpr int64_t kCellColumns = 64;
inline constexpr int64_t kMaskRows = 8;     // of one task of refine_masks; coarse
inline constexpr int64_t kGridImages = 32;  // of one task of cache_grid; coarse

}  // namespace fastclip::cpu::tuning
