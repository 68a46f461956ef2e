// The operations on CPU. Inputs are checked by the caller: equal widths, finite numbers, k in
// range.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/engine/threads.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace fastclip::cpu {

// The lowest row that holds a NaN or an infinity, or -1.
int64_t find_nonfinite(const Matrix& rows, int threads, Interrupt& interrupt);

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, int threads,
                Interrupt& interrupt);

// values and indices are [queries.rows, k], rows without gaps. `codes` may be null. Returns how
// many pairs were scored exactly; -1 - r where row r, counted through the queries and on through
// the keys, is the first that is not finite.
int64_t topk(const Matrix& queries, const Matrix& keys, const ScreenKeys* codes, int64_t k,
             float* values, int64_t* indices, int threads, Interrupt& interrupt);

// Whether topk looks at the codes of packed keys. With few keys float32 drops more of them in the
// time that the codes of the queries take; very few queries are bound by memory, of which the codes
// need less.
bool worth_codes(int64_t queries, int64_t keys, int64_t k);

// For tests: use the screen whenever there is one, also where exact scores would be faster.
void always_screen(bool always);

// What a key must pass: a higher score, or an equal one with an index below `tie`.
struct Threshold {
  float score;
  int64_t tie;

  bool passed(float other, int64_t key) const {
    return other > score || (other == score && key < tie);
  }
};
std::vector<Threshold> join_thresholds(const float* scores, const int64_t* ties, int64_t count);

// A key is ahead of a query's threshold with a higher score, or with an equal one and an index
// below ties[query]. Adds how many keys are ahead of each query's threshold to per_query, and for
// how many queries each key is to per_key; either may be null. Returns how many pairs were scored
// exactly.
int64_t count_ahead(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                    const float* scores, const int64_t* ties, int64_t* per_query, int64_t* per_key,
                    int threads, Interrupt& interrupt);

// out[i, p] = exact score of query i and key indices[i, p]; both are [queries, per_query].
void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices,
                 int64_t per_query, float* out, int threads, Interrupt& interrupt);

struct ScoredPair {
  int64_t query;
  int64_t key;
  float score;
};

// All pairs with a score above the threshold, ordered by query, then key; with `later_only` those
// alone whose key has the higher index.
std::vector<ScoredPair> pairs_above(const Matrix& queries, const Matrix& keys,
                                    const ScreenKeys* screen, float threshold, bool later_only,
                                    int threads, Interrupt& interrupt);

// Sets bit groups[key] of bits[query] (words of 64) for every key ahead of the query's threshold,
// as in count_ahead. Returns how many pairs were scored exactly.
int64_t group_beats(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                    const float* scores, const int64_t* ties, const int64_t* groups, int64_t words,
                    uint64_t* bits, int threads, Interrupt& interrupt);

// Best score and key of each group, [queries, num_groups]; every group has a key. The screen is
// used where the groups of the keys never decrease. Returns how many pairs were scored exactly.
int64_t group_max(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                  const int64_t* groups, int64_t num_groups, float* values, int64_t* indices,
                  int threads, Interrupt& interrupt);

// Fills the arrays of ScreenKeys, padded to whole panels of keys. Returns the lowest row that holds
// a NaN or an infinity, or -1.
int64_t pack(const Matrix& keys, int64_t width, float* center, uint8_t* codes, float* scale,
             float* error, float* norm, int threads, Interrupt& interrupt);

// The nearest pixel of each tag: values and locations are [images, tags.rows]. `pixels` holds the
// pixels of one image after those of another; each has at least one.
void pixel_scores(const Matrix& pixels, int64_t images, const Matrix& tags, float* values,
                  int64_t* locations, int threads, Interrupt& interrupt);

// Sizes of pixel_labels: feature pixels, output pixels, places.
struct LabelShape {
  int64_t h, w, height, width, k;
};

// values and indices are [images, k, height, width]; survivors [images] counts the (cell, tag)
// pairs that were interpolated. `background` is -infinity where there is none. Throws
// std::overflow_error where a score is too large to be interpolated.
void pixel_labels(const Matrix& pixels, int64_t images, const Matrix& tags, const LabelShape& shape,
                  float background, float* values, int64_t* indices, int64_t* survivors,
                  int threads, Interrupt& interrupt);

// Sizes of refine_masks.
struct MaskShape {
  int64_t batch, channels, masks, height, width;
};

// images [batch, channels, height, width], masks and out [batch, masks, height, width], all
// contiguous.
void refine_masks(const float* images, const float* masks, const MaskShape& shape,
                  int64_t iterations, const std::vector<int64_t>& dilations, float* out,
                  int threads, Interrupt& interrupt);

// out[i] = log sum_j exp(scale * score of query i and key j), from float32 scores. Returns the
// first row, counted through the queries and on through the keys if they are to be checked, that is
// not finite, or -1.
int64_t logsumexp(const Matrix& queries, const Matrix& keys, bool check_keys, double scale,
                  float* out, int threads, Interrupt& interrupt);

// How the sums over `num_keys` keys in float32 are cut: blocks that are summed in float32, and
// parts of several blocks whose sums are merged in their order. The last of each may be shorter.
struct ValueBlocks {
  int64_t block, part, parts;
};
ValueBlocks value_blocks(int64_t num_keys, int64_t cols);

// The same answer from keys that come in turn. `max` and `sum` [parts, queries] hold the LogSumExp
// states of each part of all `num_keys` keys. logsumexp_add adds keys [begin, begin + keys.rows) of
// them, in order of the keys, begin being a multiple of a block; logsumexp_merge merges states one
// by one; logsumexp_finish merges the parts and takes the logarithm.
void logsumexp_add(const Matrix& queries, const Matrix& keys, double scale, int64_t begin,
                   int64_t num_keys, float* max, double* sum, int threads, Interrupt& interrupt);
void logsumexp_merge(float* max, double* sum, const float* other_max, const double* other_sum,
                     int64_t count, double scale);
void logsumexp_finish(const float* max, const double* sum, int64_t parts, int64_t rows,
                      double scale, float* out);

// Adds each key to the sums [groups, cols] of its group, in order of the keys.
void group_sums(const Matrix& keys, const int64_t* groups, double* sums, int threads,
                Interrupt& interrupt);
// out [rows, cols] = sums / counts [rows], rounded; without counts, the sums themselves.
void round_means(const double* sums, const int64_t* counts, int64_t rows, int64_t cols, float* out,
                 int threads, Interrupt& interrupt);

// log of the mean of exp(-t ||x_i - y_j||^2) over all pairs, or over i < j if `symmetric`: y must
// then be x.
double gaussian_potential(const Matrix& x, const Matrix& y, bool symmetric, double t, int threads,
                          Interrupt& interrupt);

// out[i, c] = sum_j exp(-beta (1 - score of query i and key j)) values[j, c]; out has no gaps.
// With `totals` [queries, columns] the sums are added to these instead, in the order of the keys:
// keys that come in turn, each time from a multiple of ValueBlocks::block on, give the same sums.
void cache_logits(const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
                  float* out, double* totals, int threads, Interrupt& interrupt);

// Arguments of cache_grid; at least one class, alphas ascend.
struct CacheGrid {
  int64_t images, support, classes;
  const double* affinities;       // [images, support]
  const double* zero_shot;        // [images, classes]
  const int64_t* labels;          // [images]
  const int64_t* support_labels;  // [support]
  double first_beta, beta_step;
  int64_t betas;
  const double* alphas;
  int64_t num_alphas;
};

// Adds to right[betas, num_alphas] how many images have their label's class for the first of those
// with the largest  zero_shot[c] + alpha * sum over support j of c of exp(-beta (1 - affinity j)).
void cache_grid(const CacheGrid& grid, int64_t* right, int threads, Interrupt& interrupt);

}  // namespace fastclip::cpu
