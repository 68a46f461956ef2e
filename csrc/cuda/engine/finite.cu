#include <algorithm>

#include "cuda/arch/device.h"
#include "cuda/tuning.h"
#include "fastclip/ops/find_nonfinite.h"

namespace fastclip::cuda {
namespace {

constexpr int kThreads = tuned::kThreads;
constexpr int kWarps = kThreads / kWarp;

// Whether an exponent of all ones is in a word: of one float32, or of two 16-bit numbers.
template <DType type>
__device__ bool nonfinite(uint32_t word) {
  if constexpr (type == DType::kFloat32) return (word & 0x7f800000u) == 0x7f800000u;
  constexpr uint32_t exponent = type == DType::kFloat16 ? 0x7c00u : 0x7f80u;
  return (word & exponent) == exponent || (word >> 16 & exponent) == exponent;
}

template <DType type>
__device__ bool nonfinite(const char* row, int64_t cols, int lane) {
  constexpr int64_t size = size_of(type);
  int64_t begin = 0;  // of what is not read in words of 16 bytes
  bool found = false;
  if (reinterpret_cast<uintptr_t>(row) % 16 == 0) {
    const int64_t words = cols * size / 16;
    const auto* from = reinterpret_cast<const uint4*>(row);
#pragma unroll 4
    for (int64_t w = lane; w < words; w += kWarp) {
      const uint4 word = from[w];
      found |= nonfinite<type>(word.x) || nonfinite<type>(word.y) || nonfinite<type>(word.z) ||
               nonfinite<type>(word.w);
    }
    begin = words * 16 / size;
  }
  for (int64_t j = begin + lane; j < cols; j += kWarp) {
    if constexpr (size == 4) {
      found |= nonfinite<type>(reinterpret_cast<const uint32_t*>(row)[j]);
    } else {
      found |= nonfinite<type>(reinterpret_cast<const uint16_t*>(row)[j]);
    }
  }
  return found;
}

// A warp for each row.
template <DType type>
__global__ void find_nonfinite_kernel(Matrix rows, unsigned long long* first) {
  const int lane = threadIdx.x % kWarp;
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; i < rows.rows; i += step) {
    if (__any_sync(kAllLanes, nonfinite<type>(rows.row(i), rows.cols, lane)) && lane == 0) {
      atomicMin(first, static_cast<unsigned long long>(i));
    }
  }
}

template <DType type>
void find(const Matrix& rows, int64_t* row, Stream stream) {
  const int64_t blocks =
      std::min<int64_t>(ceil_div<int64_t>(rows.rows, kWarps), tuned::Rows::kFiniteBlocks);
  launch(find_nonfinite_kernel<type>, blocks, kThreads, 0, stream, rows,
         reinterpret_cast<unsigned long long*>(row));
}

}  // namespace

void find_nonfinite(const FindNonfiniteCall& call, Stream stream) {
  const Matrix& rows = call.rows;
  int64_t* row = call.row.data;
  fill(row, 0x7f, sizeof *row, stream);
  switch (rows.dtype) {
    case DType::kFloat32:
      return find<DType::kFloat32>(rows, row, stream);
    case DType::kFloat16:
      return find<DType::kFloat16>(rows, row, stream);
    case DType::kBFloat16:
      return find<DType::kBFloat16>(rows, row, stream);
  }
}

}  // namespace fastclip::cuda
