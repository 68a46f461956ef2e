// Affinities of pixels (refine_masks), the same on every backend. Neighbours q of a pixel p are the
// 8 around it at every dilation, n dilations in all, borders replicated; x_k is channel k of the
// image.
//
//   sigma_k(p) = standard deviation of x_k over the n windows of 9 around p (9 n samples, unbiased)
//   a(p, q) = softmax over q of  mean over k of  -|x_k(p) - x_k(q)| / (1e-8 + 0.1 sigma_k(p))
//   in every iteration  m(p) <- sum over q of a(p, q) m(q)
//
// The samples of sigma are the neighbours and, once for every 8 of them, the centre. Taken as
// differences from the centre, that ninth of zeros keeps the square of the sum below 8/9 of n times
// the sum of squares, so their difference loses no more than 4 bits.
//
// Numbers are taken times a unit, a power of two, of each pixel and channel its own: 1, but
// kSmallerUnit where one is above kLargeNumber, so that the square of the sum could overflow.
// Beside such numbers those too small for float32 times that unit count for nothing, and the
// squares of the smallest differences that they can have are still normal floats.
//
// Sums over all neighbours are sums of the sums of each dilation, which rounds less.
#pragma once

#include <cstdint>

#include "fastclip/host_device.h"

namespace fastclip {

inline constexpr int64_t kDirections = 8;  // neighbours at each dilation
inline constexpr float kLargeNumber = 0x1p46f, kSmallerUnit = 0x1p-84f;
inline constexpr float kLeastDeviation = 1e-8f, kDeviations = 0.1f;  // 1e-8 + 0.1 sigma

struct PixelOffset {
  int64_t dy, dx;
};

// Of a neighbour at a dilation. One that is larger than the image reads the replicated border in
// any case.
FASTCLIP_HD inline PixelOffset neighbour_offset(int64_t direction, int64_t dilation, int64_t height,
                                                int64_t width) {
  const int64_t place = direction + (direction >= kDirections / 2 ? 1 : 0);  // of 9, but the centre
  return {(place / 3 - 1) * (dilation < height ? dilation : height),
          (place % 3 - 1) * (dilation < width ? dilation : width)};
}

// Of the standard deviation.
FASTCLIP_HD inline float num_samples(int64_t neighbours) {
  return static_cast<float>(neighbours / kDirections * (kDirections + 1));
}

}  // namespace fastclip
