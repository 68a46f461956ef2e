// What the outputs of a cell keep of the survivors: the best one, or the k best.
#pragma once

#include "cuda/ops/pixel_survivors.cuh"
#include "cuda/tuning.h"

namespace fastclip::cuda {

// Where the labels of one image go.
struct Labels {
  float* values;
  int64_t* indices;
  int64_t k, height, width;

  __device__ int64_t at(int64_t image, int64_t y, int64_t x) const {
    return (image * k * height + y) * width + x;
  }
};

__device__ inline float lerp(float a, float b, float weight) {
  return __fadd_rn(a, __fmul_rn(weight, __fsub_rn(b, a)));
}

// The best survivor at each of kPixels neighbouring outputs.
class BestLabel {
 public:
  static constexpr int kPixels = tuned::PixelLabels::kPixels;

  __device__ BestLabel(const Labels& labels, int64_t at)
      : values_(labels.values + at), indices_(labels.indices + at) {}

  __device__ void begin() {}

  __device__ void take(const Survivors::Shared& shared, int count, float y,
                       const float (&x)[kPixels]) {
    int better[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) better[p] = -1;
    for (int s = 0; s < count; ++s) {
      const float4 c = shared.corners[s];
      const float left = lerp(c.x, c.z, y);
      const float across = __fsub_rn(lerp(c.y, c.w, y), left);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const float value = __fadd_rn(left, __fmul_rn(x[p], across));
        if (value > best_[p]) {  // the first of equals stays
          best_[p] = value;
          better[p] = s;
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      if (better[p] >= 0) tags_[p] = shared.tags[better[p]];
    }
  }

  __device__ void finish(int pixels, float background) {
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      if (p >= pixels) continue;
      values_[p] = background > best_[p] ? background : best_[p];
      indices_[p] = background > best_[p] ? -1 : tags_[p];
    }
  }

 private:
  float* values_;
  int64_t* indices_;
  static_assert(kPixels == 4);
  float best_[kPixels] = {kNone, kNone, kNone, kNone};
  int64_t tags_[kPixels] = {-1, -1, -1, -1};
};

// The k best at one output, best first, kept where the result belongs.
class BestLabels {
 public:
  static constexpr int kPixels = 1;

  __device__ BestLabels(const Labels& labels, int64_t at)
      : values_(labels.values + at),
        indices_(labels.indices + at),
        k_(labels.k),
        stride_(labels.height * labels.width) {}

  __device__ void begin() {
    for (int64_t j = 0; j < k_; ++j) put(j, kNone, -1);
  }

  __device__ void take(const Survivors::Shared& shared, int count, float y,
                       const float (&x)[kPixels]) {
    for (int s = 0; s < count; ++s) {
      const float4 c = shared.corners[s];
      insert(lerp(lerp(c.x, c.z, y), lerp(c.y, c.w, y), x[0]), shared.tags[s]);
    }
  }

  __device__ void finish(int, float background) { insert(background, -1); }

 private:
  __device__ void put(int64_t j, float value, int64_t tag) {
    values_[j * stride_] = value;
    indices_[j * stride_] = tag;
  }

  // Inserts behind all that are as good, from the bottom up: most rise by a few places only.
  __device__ void insert(float value, int64_t tag) {
    if (!(value > last_)) return;
    int64_t j = k_ - 1;
    for (; j > 0 && value > values_[(j - 1) * stride_]; --j) {
      put(j, values_[(j - 1) * stride_], indices_[(j - 1) * stride_]);
    }
    put(j, value, tag);
    last_ = values_[(k_ - 1) * stride_];
  }

  float* values_;
  int64_t* indices_;
  int64_t k_, stride_;  // from one of the k to the next
  float last_ = kNone;
};

}  // namespace fastclip::cuda
