// The order of keys: score descending, then key index ascending.
#pragma once

#include <cstdint>

namespace fastclip {

struct ScoredKey {
  float score;
  int64_t index;
};

inline bool ahead(const ScoredKey& a, const ScoredKey& b) {
  return a.score > b.score || (a.score == b.score && a.index < b.index);
}

}  // namespace fastclip
