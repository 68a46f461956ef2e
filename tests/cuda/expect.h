// Ends a test program at the first thing that is not as it should be.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}
