// What differs between instruction sets: functions on blocks of rows. Everything else (threads,
// reducers, checks) is compiled once, for the baseline.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace fastclip::cpu {

// R of screen.h. `signs` includes the normalisation of the transforms.
struct Rotation {
  int64_t width;
  int log2_block;
  const float* signs;  // [width]
};

struct Pair {
  int64_t query, key;
};

// Rows of float32 numbers, `stride` of them apart.
struct FloatRows {
  const float* first = nullptr;
  int64_t stride = 0;

  const float* row(int64_t i) const { return first + i * stride; }
};

// What the codes of a row may be.
struct CodeLimits {
  int largest = 127;  // magnitude; 0 where float32 is the faster screen
  // Whether products with keys, whose codes are at most 255, are added in 16 bits: those of a strip
  // of 16 codes whose indices have the same bit 1. Their codes of either sign must then add up to
  // no more than kLargestStrip.
  bool narrow_sums = false;
};
inline constexpr int kLargestStrip = 32767 / 255;

// A block of queries and panels of keys; either both have codes, or both have rows of floats.
struct ScreenOperands {
  const int8_t* codes;              // [num_queries][keys.width]
  FloatRows floats;                 // [num_queries][keys.cols]
  const ScreenQuery* coefficients;  // [num_queries]
  int64_t num_queries;
  ScreenKeys keys;
};

// What a kernel of the screen does with x and margin = alpha E_k + beta N_k of every pair.

// Writes the pairs with x + margin >= thresholds[query]; there is room for all pairs.
struct FindHits {
  const float* thresholds;  // [num_queries]
  Hit* hits;
};

// The same, except that pairs with x - margin >= sure[query] are not written but counted: in
// query_counts[query] and, unless it is null, in key_counts[key].
struct CountSure {
  FindHits hits;
  const float* sure;  // [num_queries]
  int32_t* query_counts;
  int32_t* key_counts;  // for whole panels
};

// uppers[query * stride + key] = x + margin, for whole panels.
struct WriteUppers {
  float* uppers;
  int64_t stride;
};

// The same, and lowers[query * stride + key] = x - margin.
struct WriteBounds {
  float* lowers;
  float* uppers;
  int64_t stride;
};

// A run of keys, [begin, end), with the upper bounds of one query.
struct KeyRun {
  const float* uppers;  // of whole panels
  int64_t begin, end;
};

// Of the corner scores of all tags in a cell.
struct CornerBounds {
  float best_low;  // the best of the tags' smallest corners
  float largest;   // the largest magnitude
};

// A cell between four neighbouring feature pixels, the tags that may win in it, and its output.
struct Cell {
  int64_t tags;
  const int64_t* tag_indices;  // [tags], increasing
  int64_t edge_stride;         // `tags` rounded up to 16, or more
  const float* corners;        // [4][edge_stride]: top left, top right, bottom left, bottom right
  int64_t height, width;       // output pixels
  const float* y_weights;      // [height]
  const float* x_weights;      // [width], to be read up to a multiple of 16
  int64_t k;
  float background;  // competes after all tags, with index -1; -infinity for none
  float* values;     // output pixel (y, x), place j: at j * place_stride + y * row_stride + x
  int64_t* indices;
  int64_t row_stride, place_stride;
  float* edges;        // workspace [tuning::kCellRows][2][edge_stride]
  float* best;         // workspace [k][16]
  int32_t* best_tags;  // workspace [k][16]
};

// The neighbours of a row of pixels, one shifted row for each. `width` is a multiple of 16, and all
// rows can be read that far.
struct NeighbourRows {
  int64_t width;
  int64_t neighbours;
  const float* const* rows;  // [neighbours]
};

// For scores on a grid of pixels: pixel_labels and refine_masks.
struct PixelKernels {
  // low[t] and high[t]: the smallest and largest of corners[0..3][t], t < tags.
  CornerBounds (*corner_bounds)(const float* const* corners, int64_t tags, float* low, float* high);
  // Interpolates the tags of a cell and writes the k best of each output pixel.
  void (*label_cell)(const Cell& cell);
  // weights[neighbour * width + x]: affinities of a row of pixels; see affinity.h.
  void (*affinities)(const NeighbourRows* channels, const float* const* centres,
                     int64_t num_channels, float* weights);
  // out[x] = the weighted sum of the neighbours of x, clamped to [low, high].
  void (*weighted_mean)(const NeighbourRows& mask, const float* weights, float low, float high,
                        float* out);
};

// float32 kernels for answers that are numbers (value_tile.h). `scores` rows are `ld` apart, and
// everything is padded so that whole vectors may be read and written.
struct ValueKernels {
  // A score function fills scores[i * ld + j] for i < num_queries <= query_tile and j < num_keys
  // rounded up to key_tile, from queries packed in a tile of num_queries and keys packed in tiles
  // of key_tile.
  using Score = void(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
                     int64_t cols, float* scores, int64_t ld);

  int64_t query_tile;
  int64_t key_tile;
  // Writes [rows / tile][cols][tile]; elements beyond the last row are left alone.
  void (*pack)(const Matrix& rows, int64_t tile, float* out);
  Score* products;
  // The same bits for num_queries <= tuning::kFewQueries from keys as they are stored, which would
  // take longer to pack than to multiply.
  void (*products_in_place)(const float* queries, int64_t num_queries, const Matrix& keys,
                            float* scores, int64_t ld);
  Score* distances;  // -||q - k||^2, from the differences
  // Turns products into -||q - k||^2 <= 0, given the squared norms.
  void (*distances_from_products)(float* scores, int64_t count, float query_norm,
                                  const float* key_norms);
  float (*largest)(const float* scores, int64_t count);
  // Sum of exp(scale * (score - shift)).
  double (*sum_exp)(const float* scores, int64_t count, float scale, float shift);
  // score = exp(scale * (score - shift))
  void (*exp)(float* scores, int64_t count, float scale, float shift);
};

// Alphas with which an image is right: >= from, > above, <= to, < below; none if `empty`.
struct AlphaRange {
  double from, above, to, below;
  bool empty;
};

// Rows of float64 in cache_grid.cpp are padded to multiples of this.
constexpr int64_t kGridPadding = 8;

// For cache_grid; `count` is padded.
struct GridKernels {
  // sums[c] += weights[c], then weights[c] *= factors[c].
  void (*add_and_multiply)(double* weights, const double* factors, int64_t count, double* sums);
  // Where a class with the sum `own` is ahead of all: its zero-shot score leads that of class c by
  // leads[c], and it wins a tie with c where wins_ties[c] has all bits set.
  AlphaRange (*where_ahead)(double own, const double* sums, const double* leads,
                            const int64_t* wins_ties, int64_t count);
};

// See peak_tile.h. Each returns how many operations it did, a multiplication and an addition
// counting as two (0 where the screen has no such instruction), or bytes that it read.
struct PeakKernels {
  double (*float32)(int64_t steps);
  double (*float64)(int64_t steps);
  double (*int8)(int64_t steps);
  double (*read)(const float* numbers, int64_t count);
};

struct Kernels {
  const char* name;

  // --- exact scores ---
  // Rows of a key block must be padded to a multiple of this.
  int64_t key_tile;
  // Converts finite rows to float64 in the order that score_block reads:
  // [rows][16 / W][steps][W], element 16 j + W p + w at [p][j][w], zero beyond `cols`.
  void (*load_rows)(const Matrix& rows, double* out);
  // Exact scores of every pair: scores[i * ld + j], i < queries, j < keys rounded up to key_tile.
  void (*score_block)(const double* queries, int64_t num_queries, const double* keys,
                      int64_t num_keys, int64_t steps, float* scores, int64_t ld);

  // Exact scores of single pairs, of queries as load_rows converts them and keys as stored.
  void (*score_pairs)(const double* queries, const Matrix& keys, const Pair* pairs, int64_t count,
                      float* scores);

  // Exact scores of one query with all keys, as score_pairs gives them.
  void (*score_keys)(const double* query, const Matrix& keys, float* scores);

  // The first row that holds a NaN or an infinity, or -1.
  int64_t (*find_nonfinite)(const Matrix& rows);

  // --- screen ---
  // Codes [rows][rotation.width] of (row - center) rotated. `scratch` holds rotation.width floats.
  void (*encode_rows)(const Matrix& rows, const Rotation& rotation, const float* center,
                      CodeLimits limits, float* scratch, int8_t* codes, RowSums* sums);
  CodeLimits query_codes;
  // The first two return how many hits there are.
  int64_t (*find_hits)(const ScreenOperands& operands, const FindHits& to);
  int64_t (*count_sure)(const ScreenOperands& operands, const CountSure& to);
  void (*write_uppers)(const ScreenOperands& operands, const WriteUppers& to);
  void (*write_bounds)(const ScreenOperands& operands, const WriteBounds& to);
  // squares[i] = the sum of the squares of each row; has room for a multiple of four.
  void (*sum_squares)(const FloatRows& rows, int64_t count, int64_t cols, float* squares);
  // The largest bound of the run, and its key.
  float (*argmax)(const KeyRun& run, int64_t& key);
  // Writes the keys of the run whose bound is at least `threshold` and returns how many they are.
  // `keys` has room for kLanes more than those of the run.
  int64_t (*compress)(const KeyRun& run, float threshold, int32_t* keys);

  // --- selection; all can be read and written up to a multiple of kLanes entries ---
  // The k-th largest of n numbers, 1 <= k <= n, which may be infinite but not NaN. With `more`, it
  // may be any number that between k and k + more of them reach.
  float (*kth_largest)(const float* numbers, int64_t n, int64_t k, int64_t more);
  // Keeps the entries whose number is at least `floor`, in order, and returns how many they are.
  // `others` may be null.
  int64_t (*keep_at_least)(float floor, int64_t n, float* numbers, float* others, int64_t* keys);

  ValueKernels value;
  PixelKernels pixels;
  GridKernels grid;
  PeakKernels peak;
};

extern const Kernels kPortable;
#ifdef FASTCLIP_X86
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAmx;
extern const Kernels kAvx512Vnni;
#endif
#ifdef FASTCLIP_AVX_VNNI
extern const Kernels kAvx2Vnni;
#endif
#ifdef FASTCLIP_ARM64
extern const Kernels kNeonDot;
#endif

}  // namespace fastclip::cpu
