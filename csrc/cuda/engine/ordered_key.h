// A score and its key as one whole number, in the order of the answers.
#pragma once

#include <bit>
#include <cstdint>

#include "fastclip/operation.h"
#include "fastclip/ordered.h"

namespace fastclip::cuda {

// The larger, the better: score descending, then key ascending. 0 is behind all. The last bit,
// which decides nothing, keeps the sign of a zero.
using OrderedKey = unsigned long long;  // as atomicMax takes it

FASTCLIP_HD constexpr OrderedKey ordered_key(float score, int64_t key) {
  const auto low = static_cast<uint32_t>(kMostKeys - key) << 1 |
                   static_cast<uint32_t>(std::bit_cast<uint32_t>(score) == 0x80000000u);
  return static_cast<OrderedKey>(ordered(score)) << 32 | low;
}
FASTCLIP_HD constexpr int64_t key_of(OrderedKey number) {
  return kMostKeys - static_cast<int64_t>(static_cast<uint32_t>(number) >> 1);
}
FASTCLIP_HD constexpr float score_of(OrderedKey number) {
  const float score = from_ordered(static_cast<uint32_t>(number >> 32));
  return score == 0 && (number & 1) != 0 ? -0.0f : score;
}

}  // namespace fastclip::cuda
