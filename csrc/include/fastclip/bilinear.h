// Bilinear up-sampling: one definition for every backend, instruction set and tiling. Positions are
// those of torch.nn.functional.interpolate(mode="bilinear", align_corners=False).
//
//   scale = (float)in / (float)out
//   at(i) = max((float)(scale * (i + 0.5)) - 0.5f, 0)
//   low = min(floor(at), in - 1), high = min(low + 1, in - 1), weight = min(at - low, 1 - 2^-24)
//
//   lerp(a, b, weight) = a + (float)(weight * (float)(b - a)), every operation rounded, none fused
//   value = lerp(lerp(top left, bottom left, wy), lerp(top right, bottom right, wy), wx)
//
// A lerp never leaves [min(a, b), max(a, b)], rounding included, as long as b - a does not overflow
// (kMaxScore). Let a <= b, D = (float)(b - a) and P = (float)(weight * D). P >= 0, so a + P rounds
// to a or more. It rounds to b or less because P <= b - a:
//   - Below 2^-125 the difference of two floats is exact: P <= D = b - a, as rounding is monotone.
//   - Otherwise let D = m 2^e, 1 <= m < 2, with spacing u = 2^(e-23) above. weight * D is at most
//     D - 2^-24 D = D - (m / 2) u. For m > 1 that is nearer to D - u than to D, so P <= D - u, and
//     b - a >= D - u / 2. For m = 1 it is the float below D, so P <= D - u / 2, and b - a >= D - u
//     / 4.
// a > b is the mirror image. So a value lies between the smallest and the largest of its corners.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fastclip/host_device.h"

namespace fastclip {

// Differences of scores up to here are finite.
inline constexpr float kMaxScore = 0x1p126f;

// Where an output lies on one axis: in which cell, and where in it. Cell c is between c and c + 1.
struct BilinearPosition {
  // scale = (float)in / (float)out
  FASTCLIP_HD BilinearPosition(int64_t i, int64_t in, float scale) {
    // Exact in float64, so rounded once, whether or not the compiler fuses.
    const auto product =
        static_cast<float>(static_cast<double>(scale) * (static_cast<double>(i) + 0.5));
    const float at = product - 0.5f < 0.0f ? 0.0f : product - 0.5f;
    cell = static_cast<int64_t>(at) < in - 1 ? static_cast<int64_t>(at) : in - 1;
    const float inside = at - static_cast<float>(cell);
    weight = inside < 1.0f - 0x1p-24f ? inside : 1.0f - 0x1p-24f;
  }

  int64_t cell;
  float weight;
};

FASTCLIP_HD inline float bilinear_scale(int64_t in, int64_t out) {
  return static_cast<float>(in) / static_cast<float>(out);
}

// One axis, all of its outputs.
class BilinearAxis {
 public:
  static constexpr int64_t kPadding = 16;  // kernels read weights by whole vectors

  BilinearAxis(int64_t in, int64_t out)
      : in_(in), weights_(static_cast<size_t>(out + kPadding)), first_(in + 1, out) {
    const float scale = bilinear_scale(in, out);
    int64_t next = 0;  // the first cell whose beginning is not known yet
    for (int64_t i = 0; i < out; ++i) {
      const BilinearPosition position(i, in, scale);
      weights_[i] = position.weight;
      for (; next <= position.cell; ++next) first_[next] = i;
    }
  }

  int64_t first(int64_t cell) const { return first_[cell]; }
  int64_t count(int64_t cell) const { return first_[cell + 1] - first_[cell]; }
  int64_t high(int64_t cell) const { return std::min(cell + 1, in_ - 1); }
  const float* weights(int64_t cell) const { return weights_.data() + first_[cell]; }

 private:
  int64_t in_;
  std::vector<float> weights_;
  std::vector<int64_t> first_;
};

}  // namespace fastclip
