#undef _FORTIFY_SOURCE  // its longjmp takes a change of stacks for an attack
#include "emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fastclip/float16.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace fastclip::cuda::emulator {
namespace {

constexpr size_t kStack = 512 * 1024;
constexpr int kBarriers = 16;

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

// A bulk copy under way, and the barrier that counts its bytes.
struct BulkCopy {
  Copy copy;
  uint64_t* barrier;
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

struct Fiber {
  Context context;
  uint3 index;
  int number;                            // in the block
  std::deque<std::vector<Copy>> copies;  // groups under way, the last one still open
  Products products;
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
  std::vector<Meeting> meetings;
};

struct Barrier {
  int expected = 0;
  int count = 0;  // of predicates
  std::vector<std::pair<Fiber*, int*>> waiting;
};

struct Scheduler {
  std::mutex mutex;
  Context context;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> ready;
  std::vector<Warp> warps;
  Barrier barriers[kBarriers];
  std::vector<BulkCopy> bulk_copies;
  std::vector<std::pair<const uint64_t*, Fiber*>> phase_waits;
  Fiber* current = nullptr;
  int live = 0;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr error;
  std::unique_ptr<void, void (*)(void*)> shared{nullptr, std::free};
  size_t shared_bytes = 0;
  std::minstd_rand random;
};

Scheduler scheduler;

// Whoever is entered for the first time has not come through switch_to.
void entered() {
#ifdef __SANITIZE_ADDRESS__
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (scheduler.context.stack == nullptr) {
    scheduler.context.stack = stack;
    scheduler.context.stack_bytes = bytes;
  }
#endif
}

void leave_for([[maybe_unused]] const Context& to) {
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, to.stack, to.stack_bytes);
#endif
}

__attribute__((noinline)) void switch_to(Context& from, Context& to) {
  if (_setjmp(from.state) == 0) {
    leave_for(to);
    _longjmp(to.state, 1);
  }
  entered();
}

void wait() { switch_to(scheduler.current->context, scheduler.context); }

void wake(Fiber* fiber) { scheduler.ready.push_back(fiber); }

[[noreturn]] void fail(const std::string& what) {
  throw std::logic_error("emulated kernel: " + what + " (block " + std::to_string(blockIdx.x) +
                         ", " + std::to_string(blockIdx.y) + ", thread " +
                         std::to_string(threadIdx.x) + ")");
}

Warp& warp_of(const Fiber& fiber) { return scheduler.warps[fiber.number / 32]; }

void finish_meetings(Warp& warp) {
  for (size_t m = 0; m < warp.meetings.size();) {
    Meeting& meeting = warp.meetings[m];
    if (meeting.arrived != (meeting.mask & warp.live)) {
      ++m;
      continue;
    }
    meeting.finish(meeting.in, meeting.out);
    for (Fiber* fiber : meeting.fibers) {
      if (fiber != nullptr) wake(fiber);
    }
    warp.meetings.erase(warp.meetings.begin() + static_cast<ptrdiff_t>(m));
  }
}

void finish_barrier(Barrier& barrier) {
  const int expected = barrier.expected > 0 ? barrier.expected : scheduler.live;
  if (barrier.waiting.empty() || static_cast<int>(barrier.waiting.size()) < expected) return;
  for (const auto& [fiber, count] : barrier.waiting) {
    *count = barrier.count;
    wake(fiber);
  }
  barrier.waiting.clear();
  barrier.count = 0;
}

void finish_copy(const Copy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
  } else {
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
  }
}

void finish_copies(const std::vector<Copy>& group) {
  for (const Copy& copy : group) finish_copy(copy);
}

// What the 64 bits of a barrier in shared memory hold.
struct Phase {
  int16_t threads;  // that must arrive in each phase
  int16_t missing;  // of them
  int32_t odd : 1;  // of the number of the phase
  int32_t bytes : 31;
};

// Changes a barrier and wakes those who wait if that ends a phase.
template <class Change>
void change_phase(uint64_t& state, Change change) {
  auto phase = std::bit_cast<Phase>(state);
  change(phase);
  if (phase.missing < 0) fail("more threads arrive at a barrier than it was made for");
  if (phase.missing == 0 && phase.bytes == 0) {
    phase.odd = ~phase.odd;
    phase.missing = phase.threads;
    std::erase_if(scheduler.phase_waits, [&](const auto& waiting) {
      if (waiting.first == &state) wake(waiting.second);
      return waiting.first == &state;
    });
  }
  state = std::bit_cast<uint64_t>(phase);
}

void finish_bulk_copy() {
  auto& copies = scheduler.bulk_copies;
  std::swap(copies[scheduler.random() % copies.size()], copies.back());
  const BulkCopy done = copies.back();
  copies.pop_back();
  finish_copy(done.copy);
  change_phase(*done.barrier, [&](Phase& phase) { phase.bytes -= done.copy.bytes; });
}

// The life of a fiber: one thread of one block after the other.
void live() {
  Fiber* const self = scheduler.current;
  entered();
  wait();
  for (;;) {
    try {
      (*scheduler.kernel)();
    } catch (...) {
      if (!scheduler.error) scheduler.error = std::current_exception();
    }
    for (auto& group : self->copies) finish_copies(group);
    self->copies.clear();
    if (self->products.dots != nullptr && !scheduler.error) {
      scheduler.error = std::make_exception_ptr(
          std::logic_error("emulated kernel: a thread ends before its products"));
    }
    self->products = Products{};
    --scheduler.live;
    Warp& warp = warp_of(*self);
    warp.live &= ~(1u << (self->number % 32));
    finish_meetings(warp);
    finish_barrier(scheduler.barriers[0]);
    wait();
  }
}

std::unique_ptr<Fiber> create() {
  auto fiber = std::make_unique<Fiber>();
  void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  fiber->context.stack = stack;
  fiber->context.stack_bytes = kStack;
  ucontext_t start;
  getcontext(&start);
  start.uc_stack.ss_sp = stack;
  // Tops at equal distances would share a few sets of the cache.
  start.uc_stack.ss_size = kStack - scheduler.fibers.size() % 64 * 17 * 64;
  start.uc_link = nullptr;
  makecontext(&start, live, 0);
  scheduler.current = fiber.get();
  if (_setjmp(scheduler.context.state) == 0) {
    leave_for(fiber->context);
    setcontext(&start);
  }
  entered();
  return fiber;
}

void run_block(dim3 block) {
  const int threads = static_cast<int>(block.x * block.y * block.z);
  std::memset(scheduler.shared.get(), 0xcd, scheduler.shared_bytes);
  scheduler.warps.assign(static_cast<size_t>((threads + 31) / 32), Warp{});
  for (Barrier& barrier : scheduler.barriers) barrier = Barrier{};
  scheduler.live = threads;
  scheduler.ready.clear();
  scheduler.bulk_copies.clear();
  scheduler.phase_waits.clear();
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = *scheduler.fibers[static_cast<size_t>(t)];
    fiber.number = t;
    const unsigned n = static_cast<unsigned>(t);
    fiber.index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    warp_of(fiber).live |= 1u << (t % 32);
    wake(&fiber);
  }
  while (!scheduler.ready.empty() || !scheduler.bulk_copies.empty()) {
    constexpr unsigned kSwitches = 64;  // of threads in the time of a bulk copy
    if (!scheduler.bulk_copies.empty() &&
        (scheduler.ready.empty() || scheduler.random() % kSwitches == 0)) {
      finish_bulk_copy();
      continue;
    }
    std::swap(scheduler.ready[scheduler.random() % scheduler.ready.size()], scheduler.ready.back());
    scheduler.current = scheduler.ready.back();
    scheduler.ready.pop_back();
    threadIdx = scheduler.current->index;
    switch_to(scheduler.context, scheduler.current->context);
    if (scheduler.error) break;
  }
  if (scheduler.live > 0 && !scheduler.error) {
    scheduler.error = std::make_exception_ptr(
        std::logic_error("emulated kernel: " + std::to_string(scheduler.live) +
                         " threads of block " + std::to_string(blockIdx.x) + ", " +
                         std::to_string(blockIdx.y) + " wait for each other for ever"));
  }
  if (scheduler.error) {
    // Fibers in the middle of a kernel are of no more use; what their stacks own is lost.
    for (auto& fiber : scheduler.fibers) {
      munmap(const_cast<void*>(fiber->context.stack), kStack);
    }
    scheduler.fibers.clear();
    std::rethrow_exception(std::exchange(scheduler.error, nullptr));
  }
}

int setting(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<int>(std::strtol(text, nullptr, 10));
}

}  // namespace

int capability() { return setting("FASTCLIP_EMULATOR_CAPABILITY", 80); }

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard lock(scheduler.mutex);
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024) throw std::logic_error("emulated kernel: bad block size");
  if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu) {
    throw std::logic_error("emulated kernel: bad grid size");
  }
  scheduler.random.seed(static_cast<unsigned>(setting("FASTCLIP_EMULATOR_SEED", 1)));
  while (scheduler.fibers.size() < threads) scheduler.fibers.push_back(create());
  // Exactly as large as asked for, so that a sanitizer sees an access beyond.
  void* shared = nullptr;
  if (posix_memalign(&shared, 1024, std::max<size_t>(shared_bytes, 1)) != 0) throw std::bad_alloc();
  scheduler.shared.reset(shared);
  scheduler.shared_bytes = shared_bytes;
  scheduler.kernel = &kernel;
  gridDim = grid;
  blockDim = block;
  std::vector<size_t> order(size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), scheduler.random);
  for (const size_t b : order) {
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    run_block(block);
  }
}

void* dynamic_shared_memory() { return scheduler.shared.get(); }

int lane() { return scheduler.current->number % 32; }

void yield() {
  wake(scheduler.current);
  wait();
}

int barrier(int id, int expected, int predicate) {
  if (id < 0 || id >= kBarriers) fail("no such barrier");
  if (expected % 32 != 0) fail("a barrier of threads that are not whole warps");
  Barrier& barrier = scheduler.barriers[id];
  if (!barrier.waiting.empty() && barrier.expected != expected) {
    fail("threads expect different numbers at one barrier");
  }
  barrier.expected = expected;
  barrier.count += predicate != 0;
  int count = 0;
  barrier.waiting.emplace_back(scheduler.current, &count);
  finish_barrier(barrier);
  wait();
  return count;
}

void meet(unsigned mask, const void* in, void* out, Finish finish) {
  Fiber* const self = scheduler.current;
  const int l = lane();
  if ((mask >> l & 1u) == 0) fail("the mask leaves out the lane that calls");
  Warp& warp = warp_of(*self);
  auto meeting = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                              [&](const Meeting& m) { return m.mask == mask; });
  if (meeting == warp.meetings.end()) {
    warp.meetings.emplace_back();
    meeting = warp.meetings.end() - 1;
    meeting->mask = mask;
    meeting->finish = finish;
  }
  if (meeting->finish != finish) fail("lanes of a warp meet in different operations");
  meeting->arrived |= 1u << l;
  meeting->in[l] = in;
  meeting->out[l] = out;
  meeting->fibers[l] = self;
  finish_meetings(warp);
  wait();
}

namespace {

struct MmaInput {
  const uint32_t* a;
  const uint32_t* b;
};

}  // namespace

void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MmaInput mine{a, b};
  meet(0xffffffffu, &mine, d, [](const void* const(&in)[32], void* const(&out)[32]) {
    int16_t left[16][32];
    int16_t right[8][32];
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("mma needs all lanes of the warp");
      const MmaInput& lane = *static_cast<const MmaInput*>(in[l]);
      for (int i = 0; i < 4; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          left[l / 4 + 8 * (i % 2)][4 * (l % 4) + 16 * (i / 2) + byte] =
              static_cast<int8_t>(lane.a[i] >> (8 * byte));
        }
      }
      for (int i = 0; i < 2; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          right[l / 4][4 * (l % 4) + 16 * i + byte] = static_cast<int8_t>(lane.b[i] >> (8 * byte));
        }
      }
    }
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < 4; ++i) {
        const int16_t* x = left[l / 4 + 8 * (i / 2)];
        const int16_t* y = right[2 * (l % 4) + i % 2];
        int sum = 0;
        for (int k = 0; k < 32; ++k) sum += x[k] * y[k];
        static_cast<int*>(out[l])[i] += sum;
      }
    }
  });
}

// The sum of nine numbers, each cut to 24 bits below the largest one, cut to float32: the least
// precise that devices have been seen to do.
static float cut_sum(const double (&addends)[9]) {
  double largest = 0;
  for (double x : addends) largest = std::max(largest, std::abs(x));
  if (largest == 0) return 0;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(largest) - 23, -149));
  int64_t units = 0;
  for (double x : addends) units += static_cast<int64_t>(x / unit);
  const double sum = static_cast<double>(units) * unit;
  const auto rounded = static_cast<float>(sum);
  return std::abs(rounded) > std::abs(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MmaInput mine{a, b};
  meet(0xffffffffu, &mine, d, [](const void* const(&in)[32], void* const(&out)[32]) {
    double left[16][16];
    double right[8][16];
    const auto half = [](uint32_t pair, int i) {
      return half_to_float(static_cast<uint16_t>(pair >> (16 * i)));
    };
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("mma needs all lanes of the warp");
      const MmaInput& lane = *static_cast<const MmaInput*>(in[l]);
      for (int i = 0; i < 4; ++i) {
        for (int e = 0; e < 2; ++e) {
          left[l / 4 + 8 * (i % 2)][2 * (l % 4) + 8 * (i / 2) + e] = half(lane.a[i], e);
        }
      }
      for (int i = 0; i < 2; ++i) {
        for (int e = 0; e < 2; ++e) right[l / 4][2 * (l % 4) + 8 * i + e] = half(lane.b[i], e);
      }
    }
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < 4; ++i) {
        const double* x = left[l / 4 + 8 * (i / 2)];
        const double* y = right[2 * (l % 4) + i % 2];
        float sum = static_cast<float*>(out[l])[i];
        for (int k = 0; k < 16; k += 8) {
          double addends[9] = {sum};
          for (int j = 0; j < 8; ++j) addends[j + 1] = x[k + j] * y[k + j];
          sum = cut_sum(addends);
        }
        static_cast<float*>(out[l])[i] = sum;
      }
    }
  });
}

void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("a row for ldmatrix is not aligned");
  meet(0xffffffffu, row, out, [](const void* const(&in)[32], void* const(&to)[32]) {
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("ldmatrix needs all lanes of the warp");
      for (int tile = 0; tile < 4; ++tile) {
        const auto* from = static_cast<const char*>(in[8 * tile + l / 4]);
        std::memcpy(static_cast<uint32_t*>(to[l]) + tile, from + 4 * (l % 4), 4);
      }
    }
  });
}

void cp_async(void* shared, const void* global, int bytes, bool valid) {
  const auto misaligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % bytes != 0;
  };
  if (misaligned(shared) || (valid && misaligned(global))) fail("a background copy is not aligned");
  std::memset(shared, 0xcd, static_cast<size_t>(bytes));
  auto& copies = scheduler.current->copies;
  if (copies.empty()) copies.emplace_back();
  copies.back().push_back({shared, valid ? global : nullptr, bytes});
}

void cp_async_commit() {
  auto& copies = scheduler.current->copies;
  if (copies.empty()) copies.emplace_back();
  copies.emplace_back();
}

void cp_async_wait(int pending) {
  auto& copies = scheduler.current->copies;
  while (static_cast<int>(copies.size()) - 1 > pending) {
    finish_copies(copies.front());
    copies.pop_front();
  }
}

uint32_t shared_offset(const void* shared) {
  const auto at =
      static_cast<const char*>(shared) - static_cast<const char*>(scheduler.shared.get());
  if (at < 0 || static_cast<size_t>(at) >= scheduler.shared_bytes) {
    fail("not an address of shared memory");
  }
  return static_cast<uint32_t>(at);
}

void barrier_init(uint64_t& state, int threads) {
  if (shared_offset(&state) % 8 != 0) fail("a barrier is not aligned");
  const auto count = static_cast<int16_t>(threads);
  state = std::bit_cast<uint64_t>(Phase{count, count, 0, 0});
}

void barrier_arrive(uint64_t& state, int bytes) {
  change_phase(state, [&](Phase& phase) {
    phase.bytes += bytes;
    --phase.missing;
  });
}

void barrier_wait(uint64_t& state, int parity) {
  while ((std::bit_cast<Phase>(state).odd != 0) == (parity != 0)) {
    scheduler.phase_waits.emplace_back(&state, scheduler.current);
    wait();
  }
}

void bulk_copy(void* shared, const void* global, int bytes, uint64_t& state) {
  if (shared_offset(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 ||
      bytes % 16 != 0) {
    fail("a bulk copy is not aligned");
  }
  if (shared_offset(shared) + static_cast<size_t>(bytes) > scheduler.shared_bytes) {
    fail("a bulk copy ends beyond shared memory");
  }
  std::memset(shared, 0xcd, static_cast<size_t>(bytes));
  scheduler.bulk_copies.push_back({{shared, global, bytes}, &state});
}

namespace {

// The 32 bytes of a row of an operand: two pieces of 16.
struct OperandRow {
  OperandRow(uint64_t descriptor, int row) {
    if (descriptor >> 62 != 0) fail("wgmma: only operands without a swizzle are emulated");
    const auto field = [&](int bit) { return (descriptor >> bit & 0x3fff) << 4; };
    const size_t at =
        field(0) + static_cast<size_t>(row / 8) * field(32) + static_cast<size_t>(row % 8) * 16;
    if (at + field(16) + 16 > scheduler.shared_bytes) fail("wgmma reads beyond shared memory");
    pieces[0] = static_cast<const uint8_t*>(scheduler.shared.get()) + at;
    pieces[1] = pieces[0] + field(16);
  }
  const uint8_t* pieces[2];
};

void multiply(const Product& product, int (&sums)[128]) {
  const int l = lane(), warp = scheduler.current->number / 32 % 4;
  for (int h = 0; h < 2; ++h) {
    const OperandRow a(product.a, 16 * warp + 8 * h + l / 4);
    for (int i = 0; i < product.columns / 4; ++i) {
      const OperandRow b(product.b, i / 2 * 8 + 2 * (l % 4) + i % 2);
      int dot = 0;
      for (int piece = 0; piece < 2; ++piece) {
        for (int k = 0; k < 16; ++k) {
          dot += static_cast<int8_t>(a.pieces[piece][k]) * static_cast<int8_t>(b.pieces[piece][k]);
        }
      }
      int& sum = sums[i / 2 * 4 + 2 * h + i % 2];
      sum = product.add ? sum + dot : dot;
    }
  }
}

}  // namespace

void wgmma_s8(int* dots, int columns, uint64_t a, uint64_t b, bool add) {
  const Product mine{columns, a, b, add};
  meet(0xffffffffu, &mine, nullptr, [](const void* const(&in)[32], void* const(&)[32]) {
    for (const void* one : in) {
      if (one == nullptr) fail("wgmma needs all lanes of the warp");
      const auto& product = *static_cast<const Product*>(one);
      const auto& first = *static_cast<const Product*>(in[0]);
      if (product.a != first.a || product.b != first.b || product.add != first.add) {
        fail("lanes of a warp start different products");
      }
    }
  });
  Products& products = scheduler.current->products;
  if (!products.fenced) fail("wgmma without a fence before it");
  if (products.dots == nullptr) {
    products.dots = dots;
    products.bytes = static_cast<size_t>(columns) / 2 * sizeof(int);
    std::memcpy(products.sums, dots, products.bytes);
    std::memset(dots, 0xcd, products.bytes);
  }
  if (products.dots != dots) fail("wgmma: only one accumulator at a time is emulated");
  if (products.groups.empty()) products.groups.emplace_back();
  products.groups.back().push_back(mine);
}

void wgmma_fence() { scheduler.current->products.fenced = true; }

void wgmma_commit() {
  auto& groups = scheduler.current->products.groups;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

// Products read their operands as late as they may. The lanes of a warp leave together.
void wgmma_wait(int pending) {
  Products& products = scheduler.current->products;
  while (static_cast<int>(products.groups.size()) - 1 > pending) {
    for (const Product& product : products.groups.front()) multiply(product, products.sums);
    products.groups.pop_front();
  }
  meet(0xffffffffu, nullptr, nullptr, [](const void* const(&)[32], void* const(&)[32]) {});
  if (products.dots == nullptr || products.groups.size() > 1) return;
  if (!products.groups.back().empty()) return;
  std::memcpy(products.dots, products.sums, products.bytes);
  products.dots = nullptr;
  products.fenced = false;
}

}  // namespace fastclip::cuda::emulator
