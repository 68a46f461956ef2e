// Arrays in one piece of memory that the caller provides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastclip::cuda {

// Without memory it only counts: the same code says how much is needed and hands it out.
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
