// The float32 kernels of one instruction set, for answers that are numbers rather than choices.
// Written once over vectors of W floats.
//
// A score is a sum of chunks of kChunk products, each chunk summed one after the other: its error
// is at most (kChunk + d / kChunk) * 2^-24 * sum |q_i k_i|, and does not depend on the tile it lies
// in.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "cpu/tuning.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

// A tile holds MR x NV accumulators of W floats in registers.
template <int W, int MR, int NV>
struct ValueTile {
  static constexpr int kQueries = MR, kKeys = W * NV;
  static constexpr int64_t kChunk = 64;
  static_assert(MR >= tuning::kFewQueries);

  using V = Vectors<W>;
  using Floats = typename V::Floats;
  using Ints = typename V::Ints;
  typedef float Halves __attribute__((vector_size(W * 2)));

  static void pack(const Matrix& rows, int64_t tile, float* out) {
    switch (rows.dtype) {
      case DType::kFloat32:
        return pack_as<float>(rows, tile, out, [](float x) { return x; });
      case DType::kFloat16:
        return pack_as<uint16_t>(rows, tile, out, [](uint16_t x) { return half_to_float(x); });
      case DType::kBFloat16:
        return pack_as<uint16_t>(rows, tile, out, [](uint16_t x) { return bfloat16_to_float(x); });
    }
  }

  static void products(const float* queries, int64_t num_queries, const float* keys,
                       int64_t num_keys, int64_t cols, float* scores, int64_t ld) {
    pick<MR, false>(queries, num_queries, keys, num_keys, cols, scores, ld);
  }

  static void products_in_place(const float* queries, int64_t num_queries, const Matrix& keys,
                                float* scores, int64_t ld) {
    switch (keys.dtype) {
      case DType::kFloat32:
        return pick_in_place<tuning::kFewQueries, float>(queries, num_queries, keys, scores, ld,
                                                         [](float x) { return x; });
      case DType::kFloat16:
        return pick_in_place<tuning::kFewQueries, uint16_t>(
            queries, num_queries, keys, scores, ld, [](uint16_t x) { return half_to_float(x); });
      case DType::kBFloat16:
        return pick_in_place<tuning::kFewQueries, uint16_t>(
            queries, num_queries, keys, scores, ld,
            [](uint16_t x) { return bfloat16_to_float(x); });
    }
  }

  static void distances(const float* queries, int64_t num_queries, const float* keys,
                        int64_t num_keys, int64_t cols, float* scores, int64_t ld) {
    pick<MR, true>(queries, num_queries, keys, num_keys, cols, scores, ld);
  }

  static void distances_from_products(float* scores, int64_t count, float query_norm,
                                      const float* key_norms) {
    for (int64_t j = 0; j < count; j += W) {
      const Floats s = 2.0f * V::load(scores + j) - (query_norm + V::load(key_norms + j));
      V::store(scores + j, s > 0.0f ? Floats{} : s);
    }
  }

  static float largest(const float* scores, int64_t count) {
    float max = scores[0];
    int64_t j = 0;
    if (count >= W) {
      Floats lanes = V::load(scores);
      for (j = W; j + W <= count; j += W) {
        const Floats s = V::load(scores + j);
        lanes = s > lanes ? s : lanes;
      }
      for (int w = 0; w < W; ++w) max = lane(lanes, w) > max ? lane(lanes, w) : max;
    }
    for (; j < count; ++j) max = scores[j] > max ? scores[j] : max;
    return max;
  }

  static double sum_exp(const float* scores, int64_t count, float scale, float shift) {
    Floats lanes = {};
    int64_t j = 0;
    for (; j + W <= count; j += W) lanes += exp(scale * (V::load(scores + j) - shift));
    double sum = 0;
    for (int w = 0; w < W; ++w) sum += lane(lanes, w);
    if (j < count) {
      Floats rest = {};
      __builtin_memcpy(&rest, scores + j, (count - j) * sizeof(float));
      rest = exp(scale * (rest - shift));
      for (int w = 0; w < count - j; ++w) sum += lane(rest, w);
    }
    return sum;
  }

  static void exp_rows(float* scores, int64_t count, float scale, float shift) {
    for (int64_t j = 0; j < count; j += W) {
      V::store(scores + j, exp(scale * (V::load(scores + j) - shift)));
    }
  }

 private:
  // GCC takes a subscript of a vector only where its type is a template parameter of the function.
  template <class Vec>
  static float lane(const Vec& v, int w) {
    return v[w];
  }

  // Fewer than MR rows in the last tile of queries: their own, narrower kernel.
  template <int M, bool kDistance>
  static void pick(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
                   int64_t cols, float* scores, int64_t ld) {
    if constexpr (M > 0) {
      if (num_queries == M) return score<M, kDistance>(queries, keys, num_keys, cols, scores, ld);
      pick<M - 1, kDistance>(queries, num_queries, keys, num_keys, cols, scores, ld);
    }
  }

  template <int M, bool kDistance>
  static void score(const float* queries, const float* keys, int64_t num_keys, int64_t cols,
                    float* scores, int64_t ld) {
    for (int64_t j = 0; j < num_keys; j += kKeys, keys += kKeys * cols) {
      int64_t begin = 0;
      do {
        const int64_t end = begin + kChunk < cols ? begin + kChunk : cols;
        chunk<M, kDistance>(queries + begin * M, keys + begin * kKeys, end - begin, begin != 0,
                            scores + j, ld);
        begin = end;
      } while (begin < cols);
    }
  }

  // One chunk of M x NV vectors of scores, added to what is there already if `add`.
  template <int M, bool kDistance>
  static inline void chunk(const float* queries, const float* keys, int64_t length, bool add,
                           float* scores, int64_t ld) {
    Floats sums[M][NV] = {};
    for (int64_t i = 0; i < length; ++i) {
      Floats k[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) k[v] = V::load(keys + i * kKeys + v * W);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Floats q = Floats{} + queries[i * M + m];
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) {
          if constexpr (kDistance) {
            const Floats difference = q - k[v];
            sums[m][v] -= difference * difference;
          } else {
            sums[m][v] += q * k[v];
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        float* to = scores + m * ld + v * W;
        V::store(to, add ? V::load(to) + sums[m][v] : sums[m][v]);
      }
    }
  }

  // The sums of M <= tuning::kFewQueries queries fit in registers beside W vectors of keys.
  template <int M, class Stored, class ToFloat>
  static void pick_in_place(const float* queries, int64_t num_queries, const Matrix& keys,
                            float* scores, int64_t ld, ToFloat to_float) {
    if constexpr (M > 0) {
      if (num_queries == M) return score_in_place<M, Stored>(queries, keys, scores, ld, to_float);
      pick_in_place<M - 1, Stored>(queries, num_queries, keys, scores, ld, to_float);
    }
  }

  // The sums of score(), with the keys transposed on the fly: storing them first would take longer
  // than the products. Keys beyond the last repeat it.
  template <int M, class Stored, class ToFloat>
  static void score_in_place(const float* queries, const Matrix& keys, float* scores, int64_t ld,
                             ToFloat to_float) {
    constexpr int kChunks = M <= 2 ? 2 : 1;  // side by side, to hide the latency of one sum
    const int64_t cols = keys.cols;
    for (int64_t j = 0; j < keys.rows; j += W) {
      const char* rows[W];
      for (int r = 0; r < W; ++r) rows[r] = keys.row(j + r < keys.rows ? j + r : keys.rows - 1);
      Floats totals[M] = {};
      for (int64_t begin = 0; begin < cols; begin += kChunks * kChunk) {
        Floats sums[kChunks][M] = {};
        for (int64_t c = begin; c < begin + kChunk; c += W) {
#pragma GCC unroll 2
          for (int s = 0; s < kChunks; ++s) {
            add_columns<M, Stored>(queries, rows, c + s * kChunk, cols, sums[s], to_float);
          }
        }
        for (int s = 0; s < kChunks && begin + s * kChunk < cols; ++s) {
          for (int m = 0; m < M; ++m) {
            totals[m] = begin + s == 0 ? sums[s][m] : totals[m] + sums[s][m];
          }
        }
      }
      for (int m = 0; m < M; ++m) V::store(scores + m * ld + j, totals[m]);
    }
  }

  // Adds the products of columns [first, first + W), or of those up to `cols`.
  template <int M, class Stored, class ToFloat>
  static inline void add_columns(const float* queries, const char* const (&rows)[W], int64_t first,
                                 int64_t cols, Floats (&sums)[M], ToFloat to_float) {
    if (first + W <= cols) {
      Floats v[W];
      turn<Stored>(rows, first, v, to_float);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) add_products<M>(queries + (first + i) * M, v[i], sums);
      return;
    }
    for (int64_t c = first; c < cols; ++c) {
      float column[W];
      for (int r = 0; r < W; ++r) column[r] = to_float(element<Stored>(rows[r], c));
      add_products<M>(queries + c * M, V::load(column), sums);
    }
  }

  template <int M>
  static inline void add_products(const float* queries, Floats key, Floats (&sums)[M]) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Floats q = Floats{} + queries[m];
      sums[m] += q * key;
    }
  }

  // exp to about 1 ulp from 2^-124 up; below that 2.7e-38, above the range of float32 infinity.
  // exp(z) = 2^n exp(r) with |r| <= ln(2) / 2; the polynomial is that of Cephes' expf.
  static Floats exp(Floats z) {
    constexpr float kLowest = -86.5f, kHighest = 89.0f;
    constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the last bits
    z = z < kLowest ? Floats{} + kLowest : z;
    z = z > kHighest ? Floats{} + kHighest : z;
    const Floats shifted = z * 1.44269504088896341f + kRound;
    const Floats n = shifted - kRound;
    const Floats r = (z - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = Floats{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const Ints exponent = ((Ints)shifted - 0x4b400000) + 126;  // 2^(n - 1): 2^128 has no bits
    return (p + p) * (Floats)(exponent << 23);
  }

  template <class Stored, class ToFloat>
  static void pack_as(const Matrix& rows, int64_t tile, float* out, ToFloat to_float) {
    if (tile == 1) return convert<Stored>(rows, out, to_float);
    for (int64_t first = 0; first < rows.rows; first += tile, out += tile * rows.cols) {
      const int64_t count = rows.rows - first < tile ? rows.rows - first : tile;
      const int64_t whole_rows = count / W * W, whole_cols = rows.cols / W * W;
      for (int64_t i = 0; i < whole_rows; i += W) {
        const char* square[W];
        for (int r = 0; r < W; ++r) square[r] = rows.row(first + i + r);
        for (int64_t c = 0; c < whole_cols; c += W) {
          Floats v[W];
          turn<Stored>(square, c, v, to_float);
#pragma GCC unroll 16
          for (int r = 0; r < W; ++r) V::store(out + (c + r) * tile + i, v[r]);
        }
      }
      for (int64_t i = 0; i < count; ++i) {
        const char* row = rows.row(first + i);
        for (int64_t c = i < whole_rows ? whole_cols : 0; c < rows.cols; ++c) {
          out[c * tile + i] = to_float(element<Stored>(row, c));
        }
      }
    }
  }

  template <class Stored, class ToFloat>
  static void convert(const Matrix& rows, float* out, ToFloat to_float) {
    for (int64_t i = 0; i < rows.rows; ++i, out += rows.cols) {
      const char* row = rows.row(i);
      for (int64_t c = 0; c < rows.cols; ++c) out[c] = to_float(element<Stored>(row, c));
    }
  }

  template <class Stored>
  static Stored element(const char* row, int64_t col) {
    Stored stored;
    __builtin_memcpy(&stored, row + col * sizeof(Stored), sizeof(Stored));
    return stored;
  }

  // Transposes W rows and columns in registers: storing single numbers a tile apart would take
  // longer than the products of a few queries. Loads of half vectors replace the first exchange.
  template <class Stored, class ToFloat>
  static inline void turn(const char* const (&rows)[W], int64_t col, Floats (&v)[W],
                          ToFloat to_float) {
    constexpr int kHalf = W / 2;
#pragma GCC unroll 8
    for (int r = 0; r < kHalf; ++r) {
      for (int half = 0; half < 2; ++half) {
        const int64_t from = col + half * kHalf;
        v[r + half * kHalf] = V::join(load_half<Stored>(rows[r], from, to_float),
                                      load_half<Stored>(rows[r + kHalf], from, to_float));
      }
    }
    V::template exchange<1>(v);
    if constexpr (W > 4) V::template exchange<2>(v);
    if constexpr (W > 8) V::template exchange<4>(v);
  }

  template <class Stored, class ToFloat>
  static Halves load_half(const char* row, int64_t col, ToFloat to_float) {
    Stored stored[W / 2];
    __builtin_memcpy(stored, row + col * sizeof(Stored), sizeof(stored));
    float x[W / 2];
    for (int w = 0; w < W / 2; ++w) x[w] = to_float(stored[w]);
    Halves v;
    __builtin_memcpy(&v, x, sizeof(v));
    return v;
  }
};

}  // namespace
}  // namespace fastclip::cpu
