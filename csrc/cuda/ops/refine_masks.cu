// Pixel-adaptive mask refinement (affinity.h).
#include <algorithm>

#include "cuda/arch/device.h"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/affinity.h"
#include "fastclip/ops/refine_masks.h"

namespace fastclip::cuda {
namespace {

constexpr int kThreads = tuned::kThreads;

// Some of the dilations, as a parameter of a kernel: any number of them reaches the device without
// a copy that the host would have to wait for.
struct Dilations {
  static constexpr int kMost = 64;
  int64_t of[kMost];
};

__global__ void write_offsets(Dilations dilations, int64_t height, int64_t width,
                              PixelOffset* offsets) {
  offsets[blockIdx.x * kDirections + threadIdx.x] =
      neighbour_offset(threadIdx.x, dilations.of[blockIdx.x], height, width);
}

struct Neighbours {
  const PixelOffset* offsets;
  int64_t count;
  int64_t height, width;

  __device__ int64_t area() const { return height * width; }
  // The address of neighbour q of a pixel in a plane.
  __device__ int64_t at(int64_t q, int64_t y, int64_t x) const {
    const PixelOffset o = offsets[q];
    return max(int64_t{0}, min(y + o.dy, height - 1)) * width +
           max(int64_t{0}, min(x + o.dx, width - 1));
  }
};

// One channel around a pixel.
struct Window {
  __device__ Window(const Neighbours& neighbours, const float* channel, int64_t y, int64_t x)
      : channel(channel), centre(channel[y * neighbours.width + x]) {
    if (set_inverse_deviation(neighbours, y, x) > kLargeNumber) {
      unit = kSmallerUnit;
      set_inverse_deviation(neighbours, y, x);
    }
  }

  // Returns the largest magnitude.
  __device__ float set_inverse_deviation(const Neighbours& neighbours, int64_t y, int64_t x) {
    float sum = 0, squares = 0, most = fabsf(centre);
    for (int64_t q = 0; q < neighbours.count; ++q) {
      const int64_t at = neighbours.at(q, y, x);
      const float d = difference(at);
      sum += d;
      squares = __fadd_rn(squares, __fmul_rn(d, d));
      most = fmaxf(most, fabsf(channel[at]));
    }
    const float samples = num_samples(neighbours.count);
    const float variance = (squares - __fmul_rn(sum, sum) / samples) / (samples - 1);
    inverse_deviation = 1 / (kLeastDeviation * unit + kDeviations * sqrtf(fmaxf(variance, 0)));
    return most;
  }

  // From the centre of the pixel at this address.
  __device__ float difference(int64_t at) const {
    return __fsub_rn(__fmul_rn(channel[at], unit), __fmul_rn(centre, unit));
  }

  const float* channel;
  float centre;
  float unit = 1;
  float inverse_deviation;  // 1 / (1e-8 + 0.1 sigma), in that unit
};

// How many blocks have a thread for each pixel of an image. Grids are flat, block after block of
// one image (and of one group of masks) after the other: only their first side may be long.
FASTCLIP_HD int64_t blocks_of_image(int64_t area) { return ceil_div<int64_t>(area, kThreads); }

// weights [images, neighbours, area]. One thread for each pixel.
__global__ void __launch_bounds__(kThreads)
    affinities(const float* images, int64_t channels, Neighbours neighbours, float* weights) {
  const int64_t area = neighbours.area();
  const int64_t image = blockIdx.x / blocks_of_image(area);
  const int64_t pixel = blockIdx.x % blocks_of_image(area) * kThreads + threadIdx.x;
  if (pixel >= area) return;
  const int64_t y = pixel / neighbours.width, x = pixel % neighbours.width;
  weights += image * neighbours.count * area + pixel;
  images += image * channels * area;
  float most = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const Window window(neighbours, images + c * area, y, x);
    const float scale = window.inverse_deviation / static_cast<float>(channels);
    for (int64_t q = 0; q < neighbours.count; ++q) {
      const float distance = fabsf(window.difference(neighbours.at(q, y, x))) * scale;
      const float logit = (c == 0 ? 0.0f : weights[q * area]) - distance;
      weights[q * area] = logit;
      most = q == 0 ? logit : fmaxf(most, logit);
    }
  }
  // The neighbours of one dilation: sums over all are sums of their sums, which rounds less.
  float total = 0;
  for (int64_t first = 0; first < neighbours.count; first += kDirections) {
    float part = 0;
    for (int64_t q = first; q < first + kDirections; ++q) {
      const float e = expf(weights[q * area] - most);
      weights[q * area] = e;
      part += e;
    }
    total += part;
  }
  for (int64_t q = 0; q < neighbours.count; ++q) weights[q * area] /= total;
}

// One iteration. One thread for each pixel and kMasks masks: their weights are the same.
constexpr int kMasks = tuned::RefineMasks::kMasks;

__global__ void __launch_bounds__(kThreads)
    weighted_means(const float* weights, const float* masks, const float* low, const float* high,
                   int64_t mask_count, Neighbours neighbours, float* out) {
  const int64_t area = neighbours.area();
  const int64_t group = blockIdx.x / blocks_of_image(area);
  const int64_t groups = ceil_div<int64_t>(mask_count, kMasks);
  const int64_t image = group / groups;
  const int64_t pixel = blockIdx.x % blocks_of_image(area) * kThreads + threadIdx.x;
  if (pixel >= area) return;
  const int64_t y = pixel / neighbours.width, x = pixel % neighbours.width;
  weights += image * neighbours.count * area + pixel;
  const int64_t first_mask = group % groups * kMasks;
  const int64_t first_plane = image * mask_count + first_mask;
  const int count = static_cast<int>(min(mask_count - first_mask, int64_t{kMasks}));
  masks += first_plane * area;
  float sums[kMasks] = {};
  for (int64_t first = 0; first < neighbours.count; first += kDirections) {
    float parts[kMasks] = {};
    for (int64_t q = first; q < first + kDirections; ++q) {
      const float weight = weights[q * area];
      const float* from = masks + neighbours.at(q, y, x);
#pragma unroll
      for (int m = 0; m < kMasks; ++m) {
        if (m < count) parts[m] = fmaf(weight, from[m * area], parts[m]);
      }
    }
#pragma unroll
    for (int m = 0; m < kMasks; ++m) sums[m] += parts[m];
  }
#pragma unroll
  for (int m = 0; m < kMasks; ++m) {
    if (m >= count) continue;
    const int64_t plane = first_plane + m;
    out[plane * area + pixel] = fminf(fmaxf(sums[m], low[plane]), high[plane]);
  }
}

struct Memory {
  Memory(void* workspace, const RefineMasksCall& call, int64_t at_once) : all(workspace) {
    const int64_t area = call.height() * call.width();
    const auto neighbours = static_cast<int64_t>(kDirections * call.dilations.size());
    offsets = all.take<PixelOffset>(neighbours);
    weights = all.take<float>(at_once * neighbours * area);
    masks = all.take<float>(at_once * call.num_masks() * area);
  }

  Workspace all;
  PixelOffset* offsets;
  float* weights;
  float* masks;  // after every second iteration
};

}  // namespace

Room refine_masks_room(const RefineMasksCall& call, int64_t most) {
  const auto neighbours = static_cast<int64_t>(kDirections * call.dilations.size());
  const int64_t tuned = tuning().refine_weights / (neighbours * call.height() * call.width());
  const int64_t images = rows_at_once(call.batch(), tuned, most);
  return {images, Memory(nullptr, call, images).all.bytes()};
}

void refine_masks(const RefineMasksCall& call, int64_t at_once, void* workspace, Stream stream) {
  const auto dilation_count = static_cast<int64_t>(call.dilations.size());
  const Memory memory(workspace, call, at_once);
  for (int64_t first = 0; first < dilation_count; first += Dilations::kMost) {
    const int64_t count = std::min<int64_t>(dilation_count - first, Dilations::kMost);
    Dilations some{};
    std::copy_n(call.dilations.begin() + first, count, some.of);
    launch(write_offsets, dim3(count), dim3(kDirections), 0, stream, some, call.height(),
           call.width(), memory.offsets + first * kDirections);
  }
  const int64_t area = call.height() * call.width(), masks = call.num_masks();
  const Neighbours neighbours{memory.offsets, dilation_count * kDirections, call.height(),
                              call.width()};
  for (int64_t b = 0; b < call.batch(); b += at_once) {
    const int64_t count = std::min(at_once, call.batch() - b);
    const int64_t planes = b * masks;
    const int64_t blocks = count * blocks_of_image(area);
    launch(affinities, dim3(blocks), dim3(kThreads), 0, stream,
           call.images.data + b * call.channels() * area, call.channels(), neighbours,
           memory.weights);
    const float* now = call.masks.data + planes * area;
    for (int64_t i = 0; i < call.iterations; ++i) {
      // In turns, so that the last iteration writes the result.
      float* next = (call.iterations - i) % 2 == 1 ? call.out.data + planes * area : memory.masks;
      launch(weighted_means, dim3(blocks * ceil_div<int64_t>(masks, kMasks)), dim3(kThreads), 0,
             stream, memory.weights, now, call.low.data + planes, call.high.data + planes, masks,
             neighbours, next);
      now = next;
    }
  }
}

}  // namespace fastclip::cuda
