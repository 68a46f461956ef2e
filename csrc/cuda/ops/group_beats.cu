// Which groups of keys beat a target.
#include "cuda/engine/fixed_screen.cuh"
#include "fastclip/ops/group_beats.h"

namespace fastclip::cuda {
namespace {

// Bits of the groups, [queries, words].
struct GroupBits {
  const int64_t* groups;  // of the keys
  int64_t words;
  uint64_t* bits;

  __device__ bool is_set(int64_t query, int64_t group) const {
    // Another thread may be about to set it; setting it twice does no harm.
    return (*word(query, group) >> (group % 64) & 1) != 0;
  }
  __device__ void set(int64_t query, int64_t group) const {
    atomicOr(word(query, group), 1ull << (group % 64));
  }

 private:
  __device__ unsigned long long* word(int64_t query, int64_t group) const {
    return reinterpret_cast<unsigned long long*>(bits + query * words + group / 64);
  }
};

struct BeatsTake {
  Thresholds thresholds;
  GroupBits bits;

  __device__ void operator()(int64_t query, int64_t key, float score) const {
    if (thresholds.passed(query, key, score)) bits.set(query, bits.groups[key]);
  }
};

// Sets the groups of keys that surely pass. Of those that only may pass, the ones whose group is
// not set yet go to the list.
struct BeatsEpilogue : FixedEpilogue {
  GroupBits bits;

  BeatsEpilogue(const FixedMemory& memory, const GroupBits& bits)
      : FixedEpilogue(memory.epilogue()), bits(bits) {}

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State& places) const {
    const uint32_t maybe = reaching(dots, strip, rows);
    if (!__any_sync(kAllLanes, maybe != 0)) return;
    const uint32_t surely_pass = surely(dots, strip, rows);
    uint32_t open = maybe;
    for (uint32_t left = maybe; left != 0; left &= left - 1) {
      const int bit = __ffs(static_cast<int>(left)) - 1;
      const int64_t query = query_of_bit(strip, bit);
      const int64_t group = bits.groups[key_of_bit(strip, bit)];
      const bool is_set = bits.is_set(query, group);
      const bool sure = (surely_pass >> bit & 1) != 0;
      if (!is_set && sure) bits.set(query, group);
      if (is_set || sure) open &= ~(1u << bit);
    }
    __syncwarp();
    list.append(open, strip, places);
  }
};

struct BeatsTask {
  BeatsTake take;

  BeatsEpilogue epilogue(const FixedMemory& memory) const { return {memory, take.bits}; }
};

}  // namespace

Room group_beats_room(const GroupBeatsCall& call, int64_t most) { return fixed_room(call, most); }

void group_beats(const GroupBeatsCall& call, int64_t at_once, void* memory, Stream stream) {
  zero(call.bits.data, sizeof(uint64_t) * call.bits.count(), stream);
  const int64_t words = call.bits.sizes[1];
  const Thresholds thresholds{call.scores.data, call.ties.data};
  search_fixed(call, at_once, memory, stream, [&](int64_t first) {
    auto* bits = reinterpret_cast<uint64_t*>(call.bits.data + first * words);
    return BeatsTask{{thresholds.slice(first), {call.groups.data, words, bits}}};
  });
}

}  // namespace fastclip::cuda
