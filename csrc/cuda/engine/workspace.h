// Arrays in one block of memory that the caller provides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastclip::cuda {

// Without memory it only counts, so that the same code computes the size and hands out the arrays.
class Workspace {
 public:
  explicit Workspace(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kAlignment = 256;
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace fastclip::cuda
