// What the files of the emulator share: the state of a launch.
#pragma once

#include <setjmp.h>

#include <bitset>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "emulator.h"
#include "static_variables.h"

namespace fastclip::cuda::emulator {

constexpr int kBarriers = 16;
constexpr int kMostThreads = 1024;  // of a block
constexpr int kWarpGroup = 128;

struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes;
};

// A context that can be left and entered again; that of the scheduler has no stack of its own.
struct Context {
  jmp_buf state;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
};

// A bulk copy under way, and the barrier that counts its bytes. Late ones end when no thread can
// run otherwise.
struct BulkCopy {
  Copy copy;
  uint64_t* barrier;
  bool late;
};

// A product of wgmma: descriptors of its operands.
struct Product {
  int columns;
  uint64_t a, b;
  bool add;
};

struct Products {
  std::deque<std::vector<Product>> groups;  // under way, the last one still open
  int* dots = nullptr;                      // of the kernel, null where none is under way
  size_t bytes = 0;                         // of these
  int sums[128];                            // what they will be
  bool fenced = false;
};

struct Block;

struct Fiber {
  Context context;
  Block* block;
  uint3 index;
  int number;                            // in the block
  std::deque<std::vector<Copy>> copies;  // groups under way, the last one still open
  Products products;
  size_t steps = 0;  // of its warp-group that it has taken
};

struct Meeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  Finish finish = nullptr;
  const void* in[32] = {};
  void* out[32] = {};
  Fiber* fibers[32] = {};
};

struct Warp {
  unsigned live = 0;
  int registers = 0;  // of a thread
  std::vector<Meeting> meetings;
};

struct Barrier {
  int expected = 0;
  int count = 0;  // of predicates
  std::vector<std::pair<Fiber*, int*>> waiting;
};

// An instruction that all threads of a warp-group must execute alike.
struct Step {
  const char* what;
  uint64_t a = 0, b = 0;
  int number = 0;
  bool operator==(const Step&) const = default;
};

// The steps that some threads of a warp-group have taken and others not yet.
struct WarpGroup {
  struct Taken {
    Step step;
    int threads;
  };
  std::deque<Taken> steps;
  size_t finished = 0;
};

// A barrier of Hopper since its initialisation: which threads know of that, and of the fence that
// shows it to copies in the background, since both come before a barrier that they have passed.
struct MadeBarrier {
  const Fiber* maker;
  std::bitset<kMostThreads> know, know_fence;
};

struct Block {
  uint3 index;
  int live = 0;
  std::vector<Fiber*> fibers, ready;
  std::vector<Warp> warps;
  std::vector<WarpGroup> groups;
  Barrier barriers[kBarriers];
  std::vector<BulkCopy> bulk_copies;
  std::vector<std::pair<const uint64_t*, Fiber*>> phase_waits;
  std::map<const uint64_t*, MadeBarrier> made;
  int free_registers = 0;
  std::vector<Fiber*> register_waits;
  std::unique_ptr<void, void (*)(void*)> shared{nullptr, std::free};  // dynamic
  StaticContents statics;                                             // while another block runs
};

struct Scheduler {
  std::mutex mutex;
  Context context;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<std::unique_ptr<Block>> blocks;  // as many as ever ran at a time
  Block* block = nullptr;                      // whose static variables are in their place
  Fiber* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr error;
  size_t shared_bytes = 0;  // dynamic, of each block
  std::minstd_rand random;
};

extern Scheduler scheduler;

[[noreturn]] void fail(const std::string& what);
void wait();
void wake(Fiber* fiber);
void finish_copies(const std::vector<Copy>& group);
void finish_copy(const Copy& copy);

// Of Hopper.
// Ends one of those under way, a late one only if `late`.
void finish_bulk_copy(Block& block, bool late);
// All these threads have passed a barrier together.
void share_knowledge(Block& block, const std::vector<const Fiber*>& threads);
// At the end of a block: what its warp-groups did not do together.
void check_steps(const Block& block);
void check_end(const Fiber& fiber);

inline Warp& warp_of(const Fiber& fiber) {
  return fiber.block->warps[static_cast<size_t>(fiber.number / 32)];
}

}  // namespace fastclip::cuda::emulator
