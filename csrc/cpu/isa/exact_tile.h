// Exact scores (exact_score.h) of blocks and of single pairs, written once over vectors of W
// doubles.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "fastclip/exact_score.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

// A tile holds MR x NR accumulators of W doubles in registers.
template <int W, int MR, int NR>
struct ExactTile {
  static constexpr int kKeys = NR;
  static constexpr int kPasses = static_cast<int>(kLanes) / W;

  typedef double Doubles __attribute__((vector_size(W * 8)));
  typedef uint32_t Words __attribute__((vector_size(W * 4)));
  typedef uint16_t Halves __attribute__((vector_size(W * 2)));

  static void score_block(const double* queries, int64_t num_queries, const double* keys,
                          int64_t num_keys, int64_t steps, float* scores, int64_t ld) {
    int64_t i = 0;
    for (; i + MR <= num_queries; i += MR) {
      score_rows<MR>(queries + i * steps * kLanes, keys, num_keys, steps, scores + i * ld, ld);
    }
    score_rest<MR - 1>(num_queries - i, queries + i * steps * kLanes, keys, num_keys, steps,
                       scores + i * ld, ld);
  }

  static void score_pairs(const double* queries, const Matrix& keys, const Pair* pairs,
                          int64_t count, float* scores) {
    score_single<false>(queries, keys, count, scores, [=](int64_t i) { return pairs[i]; });
  }

  static void score_keys(const double* query, const Matrix& keys, float* scores) {
    score_single<true>(query, keys, keys.rows, scores, [](int64_t i) { return Pair{0, i}; });
  }

  static void load_rows(const Matrix& rows, double* out) {
    switch (rows.dtype) {
      case DType::kFloat32:
        return load_rows_as<float>(rows, out, [](float x) { return x; });
      case DType::kFloat16:
        return load_rows_as<uint16_t>(rows, out, [](uint16_t x) { return half_to_float(x); });
      case DType::kBFloat16:
        return load_rows_as<uint16_t>(rows, out, [](uint16_t x) { return bfloat16_to_float(x); });
    }
  }

  static int64_t find_nonfinite(const Matrix& rows) {
    switch (rows.dtype) {
      case DType::kFloat32:
        return find_exponent<Words, uint32_t>(rows, 0x7f800000u);
      case DType::kFloat16:
        return find_exponent<Halves, uint16_t>(rows, 0x7c00u);
      case DType::kBFloat16:
        return find_exponent<Halves, uint16_t>(rows, 0x7f80u);
    }
    return -1;
  }

 private:
  // GCC takes a vector type that depends on W as a template argument of members only.
  template <class Vec>
  static Vec load(const void* from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  }

  // M < MR rows are left: instantiate the narrower tiles and pick one.
  template <int M>
  static void score_rest(int64_t left, const double* queries, const double* keys, int64_t num_keys,
                         int64_t steps, float* scores, int64_t ld) {
    if constexpr (M > 0) {
      if (left == M) return score_rows<M>(queries, keys, num_keys, steps, scores, ld);
      score_rest<M - 1>(left, queries, keys, num_keys, steps, scores, ld);
    }
  }

  template <int M>
  static void score_rows(const double* queries, const double* keys, int64_t num_keys, int64_t steps,
                         float* scores, int64_t ld) {
    for (int64_t j = 0; j < num_keys; j += NR) {
      Doubles lanes[kPasses][M][NR];
      for (int p = 0; p < kPasses; ++p) {
        accumulate<M>(queries + p * steps * W, keys + j * steps * kLanes + p * steps * W, steps,
                      lanes[p]);
      }
      // lane += lane + half: first between whole vectors, then inside one.
      for (int half = kPasses / 2; half > 0; half /= 2) {
        for (int p = 0; p < half; ++p) {
          for (int m = 0; m < M; ++m) {
            for (int n = 0; n < NR; ++n) lanes[p][m][n] += lanes[p + half][m][n];
          }
        }
      }
      for (int m = 0; m < M; ++m) {
        for (int n = 0; n < NR; ++n) scores[m * ld + j + n] = fold<W>(lanes[0][m][n]);
      }
    }
  }

  // Pairs scored side by side: one alone would wait for the latency of its sums.
  static constexpr int kPairs = kPasses >= 8 ? 1 : 8 / kPasses;

  // Exact scores of pair(0) ... pair(count - 1), keys as they are stored; all of one query if
  // kAlone.
  template <bool kAlone, class PairOf>
  static void score_single(const double* queries, const Matrix& keys, int64_t count, float* scores,
                           PairOf pair) {
    switch (keys.dtype) {
      case DType::kFloat32:
        return score_single_as<kAlone, float>(queries, keys, count, scores, pair,
                                              [](float x) { return x; });
      case DType::kFloat16:
        return score_single_as<kAlone, uint16_t>(queries, keys, count, scores, pair,
                                                 [](uint16_t x) { return half_to_float(x); });
      case DType::kBFloat16:
        return score_single_as<kAlone, uint16_t>(queries, keys, count, scores, pair,
                                                 [](uint16_t x) { return bfloat16_to_float(x); });
    }
  }

  template <bool kAlone, class Stored, class PairOf, class ToFloat>
  static void score_single_as(const double* queries, const Matrix& keys, int64_t count,
                              float* scores, PairOf pair, ToFloat to_float) {
    int64_t i = 0;
    for (; i + kPairs <= count; i += kPairs) {
      score_together<kAlone, kPairs, Stored>(queries, keys, i, scores + i, pair, to_float);
    }
    for (; i < count; ++i) {
      score_together<kAlone, 1, Stored>(queries, keys, i, scores + i, pair, to_float);
    }
  }

  template <bool kAlone, int N, class Stored, class PairOf, class ToFloat>
  static void score_together(const double* queries, const Matrix& keys, int64_t first,
                             float* scores, PairOf pair, ToFloat to_float) {
    const int64_t steps = lane_steps(keys.cols), whole = keys.cols / kLanes;
    const double* query[N];
    const char* key[N];
    for (int n = 0; n < N; ++n) {
      query[n] = queries + pair(first + n).query * steps * kLanes;
      key[n] = keys.row(pair(first + n).key);
    }
    Doubles lanes[kPasses][N] = {};
    for (int64_t s = 0; s < whole; ++s) {
#pragma GCC unroll 8
      for (int p = 0; p < kPasses; ++p) {
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          lanes[p][n] += load<Doubles>(query[kAlone ? 0 : n] + (p * steps + s) * W) *
                         widen<Stored>(key[n] + (s * kLanes + p * W) * sizeof(Stored), to_float);
        }
      }
    }
    if (whole < steps) {
      const int64_t left = (keys.cols - whole * kLanes) * static_cast<int64_t>(sizeof(Stored));
      for (int n = 0; n < N; ++n) {
        Stored rest[kLanes] = {};
        __builtin_memcpy(rest, key[n] + whole * sizeof(rest), left);
        for (int p = 0; p < kPasses; ++p) {
          lanes[p][n] += load<Doubles>(query[n] + (p * steps + whole) * W) *
                         widen<Stored>(rest + p * W, to_float);
        }
      }
    }
    for (int half = kPasses / 2; half > 0; half /= 2) {
      for (int p = 0; p < half; ++p) {
        for (int n = 0; n < N; ++n) lanes[p][n] += lanes[p + half][n];
      }
    }
    for (int n = 0; n < N; ++n) scores[n] = fold<W>(lanes[0][n]);
  }

  // W stored numbers as doubles.
  template <class Stored, class ToFloat>
  static Doubles widen(const void* from, ToFloat to_float) {
    typedef float Floats __attribute__((vector_size(W * 4)));
    Stored stored[W];
    __builtin_memcpy(stored, from, sizeof(stored));
    float floats[W];
    for (int w = 0; w < W; ++w) floats[w] = to_float(stored[w]);
#if defined(__AVX512F__)
    // GCC would convert the two halves separately.
    return reinterpret_cast<Doubles>(
        _mm512_maskz_cvtps_pd(0xff, reinterpret_cast<__m256>(load<Floats>(floats))));
#else
    return __builtin_convertvector(load<Floats>(floats), Doubles);
#endif
  }

  // One vector of lanes for each of M x NR pairs. A row is steps * 16 doubles apart from the next.
  template <int M>
  static void accumulate(const double* queries, const double* keys, int64_t steps,
                         Doubles (&lanes)[M][NR]) {
    Doubles sums[M][NR] = {};
    const int64_t row = steps * kLanes;
    for (int64_t s = 0; s < steps; ++s) {
      Doubles k[NR];
#pragma GCC unroll 8
      for (int n = 0; n < NR; ++n) k[n] = load<Doubles>(keys + n * row + s * W);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Doubles q = load<Doubles>(queries + m * row + s * W);
#pragma GCC unroll 8
        for (int n = 0; n < NR; ++n) sums[m][n] += q * k[n];
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < NR; ++n) lanes[m][n] = sums[m][n];
    }
  }

  template <int Lanes, class Vec>
  static float fold(Vec v) {
    if constexpr (Lanes == 1) {
      return static_cast<float>(v[0]);
    } else if constexpr (Lanes == 2) {
      return static_cast<float>(v[0] + v[1]);
    } else {
      typedef double Half __attribute__((vector_size(Lanes * 4)));
      Half low, high;
      __builtin_memcpy(&low, &v, sizeof(Half));
      __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(Half), sizeof(Half));
      return fold<Lanes / 2>(low + high);
    }
  }

  template <class Stored, class ToFloat>
  static void load_rows_as(const Matrix& rows, double* out, ToFloat to_float) {
    const int64_t steps = lane_steps(rows.cols);
    for (int64_t i = 0; i < rows.rows; ++i, out += steps * kLanes) {
      const char* row = rows.row(i);
      for (int64_t s = 0; s < steps; ++s) {
        const int64_t left = rows.cols - s * kLanes;
        Stored stored[kLanes] = {};
        if (left >= kLanes) {
          __builtin_memcpy(stored, row + s * sizeof(stored), sizeof(stored));
        } else {
          __builtin_memcpy(stored, row + s * sizeof(stored), left * sizeof(Stored));
        }
        float x[kLanes];
        for (int l = 0; l < kLanes; ++l) x[l] = to_float(stored[l]);
        for (int p = 0; p < kPasses; ++p) {
          for (int w = 0; w < W; ++w) out[(p * steps + s) * W + w] = x[p * W + w];
        }
      }
    }
  }

  // A number is not finite when all the bits of its exponent are set.
  template <class Vec, class Element>
  static int64_t find_exponent(const Matrix& rows, Element exponent) {
    constexpr int64_t element = sizeof(Element);
    constexpr int64_t kUnroll = 4;
    const Vec mask = Vec{} + exponent;
    for (int64_t i = 0; i < rows.rows; ++i) {
      const char* row = rows.row(i);
      const int64_t bytes = rows.cols * element;
      int64_t at = 0;
      Vec found[kUnroll] = {};
      for (; at + kUnroll * static_cast<int64_t>(sizeof(Vec)) <= bytes;
           at += kUnroll * sizeof(Vec)) {
        for (int u = 0; u < kUnroll; ++u) {
          found[u] |= (Vec)((load<Vec>(row + at + u * sizeof(Vec)) & mask) == mask);
        }
      }
      for (; at < bytes; at += sizeof(Vec)) {
        Vec last = {};
        const int64_t left = bytes - at;
        __builtin_memcpy(&last, row + at,
                         left < static_cast<int64_t>(sizeof(Vec)) ? left : sizeof(Vec));
        found[0] |= (Vec)((last & mask) == mask);
      }
      const Vec any = (found[0] | found[1]) | (found[2] | found[3]);
      for (int w = 0; w < W; ++w) {
        if (any[w] != 0) return i;
      }
    }
    return -1;
  }
};

}  // namespace
}  // namespace fastclip::cpu
