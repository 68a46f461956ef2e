// One element of a matrix as float32, whatever its number type.
#pragma once

#include "fastclip/float16.h"
#include "fastclip/host_device.h"
#include "fastclip/matrix.h"

namespace fastclip {

FASTCLIP_HD inline float element(const Matrix& m, int64_t row, int64_t col) {
  const char* from = m.row(row);
  switch (m.dtype) {
    case DType::kFloat32:
      return reinterpret_cast<const float*>(from)[col];
    case DType::kFloat16:
      return half_to_float(reinterpret_cast<const uint16_t*>(from)[col]);
    case DType::kBFloat16:
      return bfloat16_to_float(reinterpret_cast<const uint16_t*>(from)[col]);
  }
  return 0;
}

}  // namespace fastclip
