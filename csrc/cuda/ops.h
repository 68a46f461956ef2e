// The operations on CUDA devices. Inputs are checked by the caller; all memory is the current
// device's and the caller's. Calls return at once: the work is in the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/arch/runtime.h"
#include "cuda/engine/ordered_key.h"
#include "cuda/engine/rows.h"
#include "cuda/ops/plans.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, Stream stream);

// out[i, p] = exact score of query i and key indices[i, p]; both are [queries, per_query].
void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices,
                 int64_t per_query, float* out, Stream stream);

inline constexpr int64_t kMostBest = 1024;  // k of topk

// Bytes of `memory`; `width` is that of the codes of the keys, 0 without a screen.
int64_t topk_workspace(const TopKPlan& plan, int64_t width);

// values and indices are [queries.rows, k], rows without gaps, k <= kMostBest. `screen` may be
// null. *scored becomes the number of pairs that were scored exactly.
void topk(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, const TopKPlan& plan,
          float* values, int64_t* indices, int64_t* scored, void* memory, Stream stream);

// A key is ahead of a query's threshold with a higher score, or with an equal one and an index
// below ties[query]. per_query becomes how many keys are ahead of each query's threshold, per_key
// for how many queries each key is; either may be null. *scored becomes the number of pairs that
// were scored exactly.
void count_ahead(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                 const FixedPlan& plan, const float* scores, const int64_t* ties,
                 int64_t* per_query, int64_t* per_key, int64_t* scored, void* memory,
                 Stream stream);

// Bit groups[key] of bits[query] (words of 64) becomes whether a key of the group is ahead of the
// query's threshold, as in count_ahead.
void group_beats(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                 const FixedPlan& plan, const float* scores, const int64_t* ties,
                 const int64_t* groups, int64_t words, uint64_t* bits, int64_t* scored,
                 void* memory, Stream stream);

int64_t group_max_workspace(const GroupPlan& plan, int64_t width);

// Best score and key of each group, [queries, groups]; every group has a key.
void group_max(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
               const GroupPlan& plan, const int64_t* groups, float* values, int64_t* indices,
               int64_t* scored, void* memory, Stream stream);

// Lists (query, key) of all pairs with keys [first_key, last_key), fewer than 2^31, whose score may
// be above its query's threshold; with `later_only` those alone with key > query + shift.
// `first_key` is a multiple of 256. *count becomes how many there are; where that is above the
// capacity of `pairs`, [capacity, 2], what is written there is of no use.
int64_t maybe_above_workspace(int64_t queries, int64_t width);
void maybe_above(const Matrix& queries, const ScreenKeys& keys, int64_t first_key, int64_t last_key,
                 const float* thresholds, bool later_only, int64_t shift, int32_t* pairs,
                 int64_t capacity, unsigned* count, void* memory, Stream stream);

// Exact scores of the pairs of such a list.
void list_scores(const Matrix& queries, const Matrix& keys, const int32_t* pairs, int64_t count,
                 float* scores, Stream stream);

// Sums over scores in float32. Here and below `*_workspace` says how many bytes the workspace of a
// call needs.

// out[i] = log sum_j exp(scale * score of query i and key j), of `at_once` queries at a time.
int64_t logsumexp_workspace(const Matrix& queries, const Matrix& keys, int64_t at_once);
void logsumexp(const Matrix& queries, const Matrix& keys, double scale, float* out, int64_t at_once,
               void* workspace, Stream stream);

// *out = log of the mean of exp(-t ||x_i - y_j||^2) over all pairs, or over i < j if `symmetric`:
// y must then be x. `centre` is the mean of the rows of y; `at_once` rows of x are taken at a time.
int64_t gaussian_potential_workspace(int64_t x, int64_t y, int64_t cols, bool symmetric,
                                     int64_t at_once);
void gaussian_potential(const Matrix& x, const Matrix& y, bool symmetric, double t,
                        const double* centre, double* out, int64_t at_once, void* workspace,
                        Stream stream);

// out[i, c] = sum_j exp(-beta (1 - score of query i and key j)) values[j, c], of `at_once` queries
// at a time; out has no gaps.
int64_t cache_logits_workspace(const Matrix& queries, const Matrix& keys, int64_t columns,
                               int64_t at_once);
void cache_logits(const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
                  float* out, int64_t at_once, void* workspace, Stream stream);

// means[g] = mean of the rows order[starts[g]] to order[starts[g + 1] - 1] of `keys`, added in
// float64 in a fixed order; no group is empty.
void group_means(const Matrix& keys, const int64_t* order, const int64_t* starts, int64_t groups,
                 float* means, Stream stream);

// Questions about the pixels of images.

// The nearest pixel of each tag: values and locations are [images, tags.rows]. `pixels` holds the
// pixels of one image after those of another; each has at least one. `at_once` tags and pixels are
// taken at a time.
int64_t pixel_scores_workspace(const Matrix& pixels, const Matrix& tags, int64_t at_once);
void pixel_scores(const Matrix& pixels, int64_t images, const Matrix& tags, float* values,
                  int64_t* locations, int64_t at_once, void* workspace, Stream stream);

// Sizes of pixel_labels: feature pixels, output pixels, places.
struct LabelShape {
  int64_t h, w, height, width, k;
};

// values and indices are [images, k, height, width]; survivors [images] counts the (cell, tag)
// pairs that were interpolated. `background` is -infinity where there is none. *overflow becomes 1
// where a score is too large to be interpolated, else 0. `at_once` images are taken at a time.
int64_t pixel_labels_workspace(const Matrix& pixels, const Matrix& tags, const LabelShape& shape,
                               int64_t at_once);
void pixel_labels(const Matrix& pixels, int64_t images, const Matrix& tags, const LabelShape& shape,
                  float background, float* values, int64_t* indices, int64_t* survivors,
                  int32_t* overflow, int64_t at_once, void* workspace, Stream stream);

// Sizes of refine_masks.
struct MaskShape {
  int64_t batch, channels, masks, height, width;
};

// images [batch, channels, height, width], masks and out [batch, masks, height, width], all
// contiguous; low and high [batch, masks] are the smallest and the largest value of each mask.
// iterations >= 1. `at_once` images are taken at a time.
int64_t refine_masks_workspace(const MaskShape& shape, int64_t dilations, int64_t at_once);
void refine_masks(const float* images, const float* masks, const float* low, const float* high,
                  const MaskShape& shape, int64_t iterations, const std::vector<int64_t>& dilations,
                  float* out, int64_t at_once, void* workspace, Stream stream);

}  // namespace fastclip::cuda
