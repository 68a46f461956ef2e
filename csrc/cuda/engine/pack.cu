// Codes and bounds of keys.
#include "cuda/engine/encode.cuh"
#include "fastclip/ops/pack.h"

namespace fastclip::cuda {
namespace {

__global__ void __launch_bounds__(kEncodeThreads)
    pack_kernel(Encoding encoding, int64_t padded, int8_t* codes, float* bounds) {
  const RowCoder coder(encoding);
  for (int64_t i = blockIdx.x; i < padded; i += gridDim.x) {
    RowSums sums;
    if (i < encoding.rows.rows) {
      sums = coder.encode(i, codes);
    } else {
      coder.pad(i, codes);
    }
    if (threadIdx.x == 0) {
      const RowBounds row_bounds = bound_row(sums, encoding.error());
      bounds[i] = sums.scale;
      bounds[padded + i] = round_up_to_float(row_bounds.error);
      bounds[2 * padded + i] = round_up_to_float(row_bounds.norm);
    }
  }
}

}  // namespace

void pack(const PackCall& call, Stream stream) {
  const Encoding encoding(call.keys, call.center.data);
  const int64_t padded = padded_keys(call.keys.rows);
  launch(pack_kernel, encoding.blocks(padded), kEncodeThreads, encoding.shared_bytes(), stream,
         encoding, padded, reinterpret_cast<int8_t*>(call.codes.data), call.bounds.data);
}

}  // namespace fastclip::cuda
