// How much the operations on devices take at a time, at most. Less needs less memory.
#pragma once

#include <cstdint>

namespace fastclip::cuda {

struct Tuning {
  // Candidates of one query of topk: a power of two, from 256 on. 16,384 queries with 1,024 each
  // are 128 MiB.
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
