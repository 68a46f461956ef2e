// Contiguous arrays as operations take them: an address and sizes.
#pragma once

#include <cstdint>

namespace fastclip {

template <class T, int kDimensions>
struct View {
  using Element = T;
  static constexpr int kSizes = kDimensions;

  T* data = nullptr;  // null where an optional array is left out
  int64_t sizes[kDimensions > 0 ? kDimensions : 1] = {};

  int64_t count() const {
    int64_t count = 1;
    for (int i = 0; i < kDimensions; ++i) count *= sizes[i];
    return count;
  }
  // Of all elements, whatever the dimensions.
  T& operator[](int64_t i) const { return data[i]; }
};

template <class T>
using Scalar = View<T, 0>;
template <class T>
using Array = View<T, 1>;
template <class T>
using Table = View<T, 2>;

}  // namespace fastclip
