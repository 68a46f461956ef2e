// The static shared variables of all kernels in this program or library.
//
// `__shared__` makes them thread-local variables of functions, which lie in one piece of memory of
// the thread that runs an emulated kernel. The symbol table tells where: an attribute that places
// them in a section is ignored in templates by some compilers.
#pragma once

#include <cstddef>
#include <vector>

namespace fastclip::cuda::emulator {

// What the variables hold for a block that is not running.
class StaticContents {
 public:
  // The variables of the calling thread get garbage.
  static void clear();

  // It is garbage from now on.
  void forget();
  // Takes the contents away and leaves garbage.
  void save();
  // Puts them back where garbage is.
  void restore() const;

  // The size of those variables that hold anything but garbage.
  static size_t used_bytes();

 private:
  std::vector<std::vector<unsigned char>> kept_;  // empty: garbage
};

}  // namespace fastclip::cuda::emulator
