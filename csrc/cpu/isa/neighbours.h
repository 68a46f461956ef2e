// Local affinities of pixels and weighted means over neighbours (affinity.h).
#pragma once

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "fastclip/affinity.h"

namespace fastclip::cpu {
namespace {

template <int W>
struct NeighbourKernels : Vectors<W> {
  using V = Vectors<W>;
  using typename V::Floats;
  using typename V::Ints;

  static void affinities(const NeighbourRows* channels, const float* const* centres,
                         int64_t num_channels, float* weights) {
    const int64_t width = channels[0].width, neighbours = channels[0].neighbours;
    for (int64_t x = 0; x < width; x += W) {
      for (int64_t q = 0; q < neighbours; ++q) V::store(weights + q * width + x, Floats{});
      for (int64_t c = 0; c < num_channels; ++c) {
        const Floats centre = V::load(centres[c] + x);
        const Window window = measure(channels[c], centre, x);
        const Floats scale = window.inverse_deviation / static_cast<float>(num_channels);
        for (int64_t q = 0; q < neighbours; ++q) {
          const Floats d = difference(channels[c], q, x, centre, window.unit);
          float* at = weights + q * width + x;
          V::store(at, V::load(at) - V::times(d < 0 ? -d : d, scale));
        }
      }
      softmax(weights + x, width, neighbours);
    }
  }

  static void weighted_mean(const NeighbourRows& mask, const float* weights, float low, float high,
                            float* out) {
    constexpr int kTogether = 4;  // independent sums hide each other's latency
    int64_t x = 0;
    for (; x + kTogether * W <= mask.width; x += kTogether * W) {
      mean<kTogether>(mask, weights, low, high, x, out);
    }
    for (; x < mask.width; x += W) mean<1>(mask, weights, low, high, x, out);
  }

 private:
  // One channel around some pixels.
  struct Window {
    Floats unit;
    Floats inverse_deviation;  // 1 / (1e-8 + 0.1 sigma), in that unit
  };

  static Floats difference(const NeighbourRows& channel, int64_t q, int64_t x, Floats centre,
                           Floats unit) {
    return V::times(V::load(channel.rows[q] + x), unit) - V::times(centre, unit);
  }

  static Window measure(const NeighbourRows& channel, Floats centre, int64_t x) {
    Window window = {V::fill(1), {}};
    const Floats most = set_inverse_deviation(channel, centre, x, window);
    if (V::any(most > kLargeNumber)) {
      window.unit = most > kLargeNumber ? V::fill(kSmallerUnit) : V::fill(1);
      set_inverse_deviation(channel, centre, x, window);
    }
    return window;
  }

  // Returns the largest magnitudes.
  static Floats set_inverse_deviation(const NeighbourRows& channel, Floats centre, int64_t x,
                                      Window& window) {
    Floats sum = {}, squares = {}, most = magnitude(centre);
    for (int64_t q = 0; q < channel.neighbours; ++q) {
      const Floats d = difference(channel, q, x, centre, window.unit);
      sum += d;
      squares += V::times(d, d);
      most = V::max(most, magnitude(V::load(channel.rows[q] + x)));
    }
    const float samples = num_samples(channel.neighbours);
    const Floats variance = (squares - V::times(sum, sum) / samples) / (samples - 1);
    Floats sigma = {};
    for (int w = 0; w < W; ++w) sigma[w] = __builtin_sqrtf(variance[w] > 0 ? variance[w] : 0);
    window.inverse_deviation = 1 / (V::times(V::fill(kLeastDeviation), window.unit) +
                                    V::times(V::fill(kDeviations), sigma));
    return most;
  }

  static Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }

  static void softmax(float* logits, int64_t stride, int64_t count) {
    Floats most = V::load(logits);
    for (int64_t q = 1; q < count; ++q) most = V::max(most, V::load(logits + q * stride));
    Floats total = {};
    for (int64_t first = 0; first < count; first += kDirections) {
      Floats part = {};
      for (int64_t q = first; q < first + kDirections; ++q) {
        const Floats e = exp_of_nonpositive(V::load(logits + q * stride) - most);
        V::store(logits + q * stride, e);
        part += e;
      }
      total += part;
    }
    const Floats scale = 1 / total;
    for (int64_t q = 0; q < count; ++q) {
      V::store(logits + q * stride, V::times(V::load(logits + q * stride), scale));
    }
  }

  // 2^n * e^r with |r| <= ln(2) / 2; numbers below -87 count as -87, where floats are still normal.
  static Floats exp_of_nonpositive(Floats x) {
    constexpr float kRound = 0x1.8p23f;  // adding it leaves no bits behind the point
    x = V::max(x, V::fill(-87));
    const Floats shifted = V::times(x, V::fill(0x1.715476p0f)) + kRound;
    const Floats n = shifted - kRound;
    // ln(2) in two parts: n times the first is exact.
    Floats r = x - V::times(n, V::fill(0x1.63p-1f));
    r = r - V::times(n, V::fill(-0x1.bd0106p-13f));
    constexpr float kTaylor[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    Floats p = V::fill(1.0f / 5040);
    for (float coefficient : kTaylor) p = V::times(p, r) + coefficient;
    const Ints power = (Ints)shifted - (Ints)V::fill(kRound);
    return (Floats)((Ints)p + power * (1 << 23));
  }

  template <int N>
  static void mean(const NeighbourRows& mask, const float* weights, float low, float high,
                   int64_t x, float* out) {
    Floats sums[N] = {};
    for (int64_t first = 0; first < mask.neighbours; first += kDirections) {
      Floats part[N] = {};
      for (int64_t q = first; q < first + kDirections; ++q) {
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          part[n] += V::times(V::load(weights + q * mask.width + x + n * W),
                              V::load(mask.rows[q] + x + n * W));
        }
      }
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[n] += part[n];
    }
    for (int n = 0; n < N; ++n) {
      V::store(out + x + n * W, V::min(V::max(sums[n], V::fill(low)), V::fill(high)));
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
