#include "cuda/engine/encode.cuh"
#include "cuda/engine/encode_queries.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace {

using Tuned = tuned::Encode;
constexpr int kBoundThreads = tuned::kThreads;

__global__ void bound_keys_kernel(ScreenKeys keys, QueryArrays arrays) {
  unsigned longest = 0;
  for (int64_t j = int64_t{blockIdx.x} * kBoundThreads + threadIdx.x; j < keys.keys;
       j += int64_t{gridDim.x} * kBoundThreads) {
    longest = max(longest, __float_as_uint(keys.norm[j]));
  }
  longest = __reduce_max_sync(kAllLanes, longest);
  if (threadIdx.x % kWarp == 0) atomicMax(arrays.longest_key, longest);
  if (blockIdx.x > 0 || threadIdx.x >= kWarp) return;
  double squares = 0;
  for (int64_t j = threadIdx.x; j < keys.cols; j += kWarp) {
    squares += static_cast<double>(keys.center[j]) * keys.center[j];
  }
  squares = warp_sum(squares);
  if (threadIdx.x == 0) *arrays.center_length = sqrt(squares) * (1 + kSlack);
}

__global__ void __launch_bounds__(kEncodeThreads)
    encode_queries_kernel(Encoding encoding, ScreenKeys keys, int64_t padded, QueryArrays arrays) {
  const RowCoder coder(encoding);
  int8_t* codes = arrays.codes;
  const double center = *arrays.center_length;
  const double longest_key = static_cast<double>(__uint_as_float(*arrays.longest_key)) + center;
  for (int64_t i = blockIdx.x; i < padded; i += gridDim.x) {
    RowSums sums;
    double offset[1] = {};
    if (i < encoding.rows.rows) {
      sums = coder.encode(i, codes);
      for (int64_t j = threadIdx.x; j < encoding.rows.cols; j += kEncodeThreads) {
        offset[0] += static_cast<double>(element(encoding.rows, i, j)) * keys.center[j];
      }
      block_sum(offset);
    } else {
      coder.pad(i, codes);
    }
    QueryBounds bounds = bound_query(sums, encoding.error(), center);
    if (!(bounds.reach * longest_key < kLargestScore)) {  // (3)
      // All x must be 0: a product of codes times its scale could overflow, which would surely
      // pass.
      bounds = QueryBounds();
      coder.pad(i, codes);
    }
    if (threadIdx.x > 0) continue;
    arrays.coefficients[i] = bounds.coefficients;
    arrays.gamma[i] = i < encoding.rows.rows ? bounds.gamma : NAN;
    arrays.scale[i] = bounds.scale;
    arrays.offset[i] = offset[0];
  }
}

}  // namespace

void bound_keys(const ScreenKeys& keys, const QueryArrays& arrays, Stream stream) {
  zero(arrays.longest_key, sizeof(unsigned), stream);
  const int64_t blocks =
      std::min<int64_t>(ceil_div<int64_t>(keys.keys, Tuned::kKeysAThread * kBoundThreads),
                        Tuned::kBoundBlocks * multiprocessors());
  launch(bound_keys_kernel, static_cast<unsigned>(blocks), kBoundThreads, 0, stream, keys, arrays);
}

CodedQueries encode_queries(const Matrix& queries, const ScreenKeys& keys,
                            const QueryArrays& arrays, Stream stream) {
  const Encoding encoding(queries, nullptr);
  const int64_t padded = padded_queries(queries.rows);
  launch(encode_queries_kernel, encoding.blocks(padded), kEncodeThreads, encoding.shared_bytes(),
         stream, encoding, keys, padded, arrays);
  return {arrays.codes, arrays.coefficients, arrays.gamma,
          arrays.scale, arrays.offset,       queries.rows};
}

}  // namespace fastclip::cuda
