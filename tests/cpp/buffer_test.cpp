// Buffers: on a cache line, cleared where asked for, kept for the next one.
#include "cpu/engine/buffer.h"

#include <cstring>
#include <utility>

#include "tests.h"

namespace fastclip::tests {

void check_buffers(Run& run) {
  using cpu::AlignedBuffer, cpu::Contents, cpu::KeptBlocks;
  for (const int64_t size : {0, 1, 15, 16, 17, 1000, 100'000}) {
    {
      AlignedBuffer<float> used(size, Contents::kAnything);
      std::memset(used.get(), 0xff, size * sizeof(float));
    }
    const AlignedBuffer<float> zeros(size);
    run.expect(reinterpret_cast<uintptr_t>(zeros.get()) % 64 == 0, "the address of a buffer");
    for (int64_t i = 0; i < size; ++i) run.expect(zeros.get()[i] == 0, "a cleared buffer");
  }

  AlignedBuffer<float> first(8), second(800);
  float *of_first = first.get(), *of_second = second.get();
  AlignedBuffer<float> moved(std::move(first));
  run.expect(moved.get() == of_first, "a buffer that was moved");
  moved = std::move(second);
  run.expect(moved.get() == of_second, "a buffer that was assigned");

  KeptBlocks kept;
  const KeptBlocks::Block small = kept.take(64), large = kept.take(64 << 10);
  run.expect(small.data != large.data && small.bytes == 64, "two blocks");
  void* const data = large.data;
  kept.give_back(small);
  kept.give_back(large);
#if !defined(FASTCLIP_SANITIZE)
  // Of what is kept, the smallest that is large enough, unless it is many times too large.
  const KeptBlocks::Block again = kept.take(32 << 10), other = kept.take(1 << 10);
  run.expect(again.data == data && again.bytes == 64 << 10, "a block that was kept");
  kept.give_back(again);
  run.expect(other.bytes == 1 << 10, "a block where those kept are too small");
  const KeptBlocks::Block fresh = kept.take(2 << 10);
  run.expect(fresh.bytes == 2 << 10, "a block where those kept are too large");
  kept.give_back(fresh);
  kept.give_back(other);
#else
  (void)data;
#endif
}

}  // namespace fastclip::tests
