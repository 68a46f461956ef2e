// The screen: bounds on exact scores from int8 codes, tight enough to drop nearly all pairs unseen.
//
// A key k is centred on a vector c, the same for all keys, and rotated by an orthogonal R; a query
// q is rotated only. Both become codes of one byte a number with one scale a row:
//
//   R(k - c) = s_k k8 + e_k,   |e_k| <= E_k,   |k - c| <= N_k
//   R q      = s_q q8 + e_q,   |e_q| <= B s_q, |q8| = alpha
//
//   q.k - q.c = Rq.R(k - c) = s_q s_k (q8.k8) + s_q q8.e_k + e_q.R(k - c)
//   |q.k - q.c - s_q s_k (q8.k8)| <= s_q (alpha E_k + B N_k)                               (1)
//
// R is orthogonal only in exact arithmetic. encode.h computes it in float32, one rounding after the
// other, each of which moves the vector by at most 2^-24 of its length: at most `rotation_error` of
// the length in all, which E_k and B include, as they include what the row's own norms may be off.
//
// The exact score is q.k, summed in float64 and rounded to float32, so it differs from q.k by at
// most (2^-24 + d 2^-52) |q| |k| + 2^-149 <= 2^-23 |q| (N_k + |c|) + 2^-149. With beta = B + 2^-23
// |q|/s_q and gamma = (2^-23 |q| |c| + 2^-149) / s_q, for x = s_k (q8.k8):
//
//   |exact score - q.c - s_q x| <= s_q (alpha E_k + beta N_k + gamma)                      (2)
//
// x and the right side are evaluated in float32, in which q8.k8 <= 2^24 * 4 is rounded too: at most
// seven roundings of numbers no larger than alpha (N_k + E_k) + beta N_k, the last two of which add
// the margin and gamma to x. The stored E_k is larger by 2^-20 (N_k + E_k) and the stored N_k and
// alpha by 2^-20 of themselves, which covers them twice.
//
// Keys that are not packed are screened in float32 with s_q = s_k = 1, c = 0 and x the sum of the d
// products in any order: |x - q.k| <= ((1 + 2^-24)^(d+1) - 1) sum |q_i k_i| + d 2^-149, and
// the sum is at most |q| |k|. So (2) holds with alpha = E_k = 0,
//
//   beta = |q| ((d + 2) 2^-24 * 1.01 + 2^-23 + 2^-21),   gamma = (d + 2) 2^-149
//
// of which 2^-21 |q| N_k covers eight roundings of numbers no larger than |q| |k|, such as x.
//
// What can overflow. The bounds hold where
//
//   max(|q|, alpha + beta) (max N_k + |c|) < kLargestScore                                 (3)
//
// - exact scores, q.k and q.c: |q| |k| <= |q| (N_k + |c|);
// - x, the margin and their sum, in units of s_q: |x| <= alpha |s_k k8| <= alpha (N_k + E_k), where
//   E_k <= (1 + rotation_error + 2^-19) N_k + 2 kUnderflow, since rounding to the nearest code
//   leaves no more than there was, and alpha kUnderflow is nothing: alpha <= 127 * 2^8. With the
//   margin it is at most 3 alpha N_k + beta N_k and a little. A short query has a large alpha +
//   beta beside |q|, so that x overflows for long keys although no score does;
// - gamma <= 2^-22 (alpha + beta) |c| + 2^-148 / s_q, where s_q >= kShortestRow / 127;
// - thresholds, (score - q.c) / s_q: in float64, then rounded down to a float32 number or infinity,
//   which no x reaches that (3) allows;
// - the rotation and the lengths of rows: what overflows is not coded, its E and N are infinite;
// - q8.k8 and the sum of q8, in 32 bits: rows wider than kWidestCoded are not coded.
//
// Beyond (3), every pair is scored exactly; so are those of a query that is not coded, whose gamma
// is infinite.
//
// What can underflow. Rows shorter than kShortestRow are not coded but bounded by their length, so
// s_k and s_q are far from denormal, as is x unless it is 0. What the rotation of a row loses to
// denormal numbers, 2^-149 at most for each of its numbers and steps, is below kUnderflow, as is
// what N_k, E_k and beta N_k lose; kSlack covers alpha E_k, which is larger. In float32, products
// lose 2^-150 each and beta N_k as much: the 2^-149 of gamma are twice that. Denormal numbers
// themselves are kept: FloatEnvironment.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "fastclip/host_device.h"

namespace fastclip {

inline constexpr int64_t kPanel = 32;  // keys side by side in memory
inline constexpr int64_t kWidth = 64;  // codes per row are a multiple of this, zero-padded
inline constexpr double kLargestScore = 1e37;
inline constexpr float kShortestRow = 1e-30f;  // shorter rows are not coded but bounded by length
inline constexpr int64_t kWidestCoded = 1 << 16;  // 255 * 127 * kWidestCoded < 2^31

FASTCLIP_HD constexpr int64_t code_width(int64_t cols) {
  return cols == 0 ? kWidth : (cols + kWidth - 1) / kWidth * kWidth;
}

FASTCLIP_HD constexpr int64_t padded_keys(int64_t keys) {  // to whole panels
  return (keys + kPanel - 1) / kPanel * kPanel;
}

// Keys as pack leaves them. Arrays are padded to whole panels.
struct ScreenKeys {
  // [panels][width / 4][kPanel][4], k8 + 128; on devices int8, as cuda/arch/code_layout.h has them.
  const uint8_t* codes = nullptr;
  const float* scale = nullptr;   // s_k
  const float* error = nullptr;   // E_k
  const float* norm = nullptr;    // N_k
  const float* center = nullptr;  // c, [cols]
  int64_t keys = 0;
  int64_t cols = 0;
  int64_t width = 0;            // code_width(cols)
  const float* rows = nullptr;  // in place of codes: the keys, `row_stride` numbers apart
  int64_t row_stride = 0;
};

// What the screen asks of one query: the codes and the coefficients of (2), in units of s_q.
struct ScreenQuery {
  float alpha = 0;
  float beta = 0;
  int32_t correction = 0;  // - 128 sum(q8): takes back the 128 added to the codes of the keys
};

// A pair that the screen could not drop: x of (2).
struct Hit {
  int32_t query;
  int32_t key;  // from the first key of the call
  float x;
};

inline constexpr double kSlack = 0x1p-20;    // covers the float32 evaluation of the bounds
inline constexpr double kUnderflow = 1e-37;  // covers what denormal products may have lost

// The rotation R of rows of `width` codes: signs, Hadamard transforms of blocks of 2^log2_block
// numbers, and a reflection across the blocks. It is the same in every process, so that packed keys
// can be kept in files: a change needs a new ENCODING in fastclip/ops/pack.py.
FASTCLIP_HD inline int rotation_log2_block(int64_t width) {
  int p = 0;
  while (width % (int64_t{2} << p) == 0) ++p;
  return p;
}

// Whether number i of a row keeps its sign.
FASTCLIP_HD inline bool rotation_keeps_sign(uint64_t i) {  // splitmix64
  i += 0x9e3779b97f4a7c15u;
  i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9u;
  i = (i ^ (i >> 27)) * 0x94d049bb133111ebu;
  return ((i ^ (i >> 31)) & 1) != 0;
}

// What the signs are multiplied by: the normalisation of the transforms.
inline float rotation_scale(int log2_block) {
  return static_cast<float>(std::pow(2.0, -0.5 * log2_block));
}

// Length lost in the float32 rotation, as a fraction: subtraction of the centre 1 rounding, p
// butterflies p, normalisation 2, reflection over m blocks 2 (m + 2).
FASTCLIP_HD inline double rotation_error(int p, int64_t m) {
  return static_cast<double>(p + 3 + 2 * (m + 2)) * 0x1p-24 * 1.01;
}

FASTCLIP_HD inline float round_down(double x) {
  const float f = static_cast<float>(x);
  // Where rounding went up, the next float below: in half of all cases, so that a branch is slow.
  // What rounds up to a zero rounds up to -0.
  const auto bits = std::bit_cast<int32_t>(f);
  const int32_t below = bits < 0 ? 1 : -1;
  return std::bit_cast<float>(bits + (static_cast<double>(f) > x ? below : 0));
}

FASTCLIP_HD inline float round_up_to_float(double x) { return -round_down(-x); }

// Of one rotated and coded row. The sums are infinite or NaN where the row's numbers overflowed.
struct RowSums {
  float scale = 0;
  int32_t code_sum = 0;
  double length_squared = 0;
  double error_squared = 0;
  double code_length_squared = 0;
};

// E and N of one row; infinite where the row's numbers overflowed.
struct RowBounds {
  double error;
  double norm;
};

FASTCLIP_HD inline RowBounds bound_row(const RowSums& sums, double rotation_error) {
  const double length = sqrt(sums.length_squared);
  if (!(length < INFINITY)) return {INFINITY, INFINITY};
  const double norm = length * (1 + 2 * rotation_error + kSlack) + kUnderflow;
  const double error = sqrt(sums.error_squared) + rotation_error * norm + kUnderflow;
  return {error + kSlack * (error + norm), norm};
}

// What is known of one query.
struct QueryBounds {
  ScreenQuery coefficients;
  float gamma = INFINITY;  // of (2): nothing can be said of the scores of a row that is not coded
  double scale = 1;        // s_q
  double reach = 0;        // the left factor of (3)
};

// `center` bounds the length of what the keys were centred on.
FASTCLIP_HD inline QueryBounds bound_query(const RowSums& sums, double rotation_error,
                                           double center) {
  const RowBounds bounds = bound_row(sums, rotation_error);
  QueryBounds query;
  query.reach = bounds.norm;
  if (sums.scale == 0) return query;
  query.scale = sums.scale;
  const double rounding = 0x1p-23 * bounds.norm;
  query.coefficients.alpha = round_up_to_float(sqrt(sums.code_length_squared) * (1 + kSlack));
  query.coefficients.beta =
      round_up_to_float((bounds.error + rounding) / query.scale * (1 + kSlack));
  query.coefficients.correction = -128 * sums.code_sum;
  query.gamma = round_up_to_float((rounding * center + 0x1p-148) / query.scale * (1 + kSlack));
  const double coded = static_cast<double>(query.coefficients.alpha) + query.coefficients.beta;
  if (!(query.reach > coded)) query.reach = coded;
  return query;
}

// A query of `length` or less that is screened in float32.
FASTCLIP_HD inline QueryBounds bound_float_query(double length, int64_t cols) {
  QueryBounds query;
  query.reach = length;
  if (cols > (1 << 18)) return query;  // (1 + 2^-24)^d is no longer 1 + d 2^-24 * 1.01
  const double roundings = static_cast<double>(cols + 2);
  query.coefficients.beta =
      round_up_to_float(length * (roundings * 0x1p-24 * 1.01 + 0x1p-23 + 0x1p-21) * (1 + kSlack));
  query.gamma = round_up_to_float(roundings * 0x1p-149);
  return query;
}

// Where x of a pair must stand for its score to reach `score`: below `maybe` plus its margin it
// does not, at `sure` plus its margin or more it does.
struct ScreenThreshold {
  float maybe;
  float sure;
};

FASTCLIP_HD inline float maybe_threshold(float score, double offset, double scale, float gamma) {
  return round_down((score - offset) / scale - gamma);
}

FASTCLIP_HD inline ScreenThreshold screen_threshold(float score, double offset, double scale,
                                                    float gamma) {
  const float sure = round_up_to_float((score - offset) / scale + gamma);
  return {maybe_threshold(score, offset, scale, gamma), nextafterf(sure, INFINITY)};
}

}  // namespace fastclip
