// Memory for one task, aligned to cache lines. Each thread keeps the memory of its freed buffers
// for its next ones: fresh memory costs a page fault every 4 KiB, which takes longer than a small
// call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "cpu/tuning.h"
#include "fastclip/integers.h"

namespace fastclip::cpu {

// Blocks that one thread keeps.
class KeptBlocks {
 public:
  struct Block {
    void* data = nullptr;
    int64_t bytes = 0;
  };

  static KeptBlocks& of_this_thread() {
    static thread_local KeptBlocks kept;
    return kept;
  }

  Block take(int64_t bytes) {
    // The smallest that is large enough, but not many times too large.
    auto best = blocks_.end();
    for (auto b = blocks_.begin(); b != blocks_.end(); ++b) {
      if (b->bytes < bytes || b->bytes > 8 * bytes) continue;
      if (best == blocks_.end() || b->bytes < best->bytes) best = b;
    }
    if (best != blocks_.end()) {
      const Block block = *best;
      total_ -= block.bytes;
      blocks_.erase(best);
      return block;
    }
    return {::operator new(static_cast<size_t>(bytes), kAlignment), bytes};
  }

  void give_back(Block block) {
    if (total_ + block.bytes > kMost) return ::operator delete(block.data, kAlignment);
    total_ += block.bytes;
    blocks_.push_back(block);
  }

  ~KeptBlocks() {
    for (const Block& block : blocks_) ::operator delete(block.data, kAlignment);
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
#if defined(FASTCLIP_SANITIZE)
  static constexpr int64_t kMost = 0;  // the sanitizer should see every buffer come and go
#else
  static constexpr int64_t kMost = tuning::kKeptBytes;
#endif
  std::vector<Block> blocks_;
  int64_t total_ = 0;
};

enum class Contents { kZero, kAnything };

template <class T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(int64_t size, Contents contents = Contents::kZero)
      : block_(KeptBlocks::of_this_thread().take(
            round_up<int64_t>(std::max<int64_t>(size, 1) * static_cast<int64_t>(sizeof(T)), 64))) {
    if (contents == Contents::kZero) {
      std::fill_n(static_cast<char*>(block_.data), block_.bytes, 0);
    }
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept : block_(std::exchange(other.block_, {})) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~AlignedBuffer() {
    if (block_.data != nullptr) KeptBlocks::of_this_thread().give_back(block_);
  }
  T* get() const { return static_cast<T*>(block_.data); }

 private:
  KeptBlocks::Block block_;
};

}  // namespace fastclip::cpu
