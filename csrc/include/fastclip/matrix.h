// Rows of features as the kernels see them: a pointer, a number type, a shape and a row stride.
#pragma once

#include <cstdint>

#include "fastclip/host_device.h"

namespace fastclip {

enum class DType : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

FASTCLIP_HD constexpr int64_t size_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// Elements of one row are next to each other; rows may lie at any distance, also 0 or negative.
template <class Byte>
struct BasicMatrix {
  Byte* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // in elements

  FASTCLIP_HD Byte* row(int64_t i) const { return data + i * row_stride * size_of(dtype); }

  FASTCLIP_HD BasicMatrix slice(int64_t begin, int64_t end) const {
    return {row(begin), dtype, end - begin, cols, row_stride};
  }
};

using Matrix = BasicMatrix<const char>;
using MutableMatrix = BasicMatrix<char>;

}  // namespace fastclip
