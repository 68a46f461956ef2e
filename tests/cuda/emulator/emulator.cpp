#undef _FORTIFY_SOURCE  // its longjmp takes a change of stacks for an attack
#include "emulator.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <numeric>
#include <stdexcept>

#include "scheduler.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace fastclip::cuda::emulator {

Scheduler scheduler;

namespace {

constexpr size_t kStack = 512 * 1024;

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

std::exception_ptr fault(const std::string& what) {
  return std::make_exception_ptr(std::logic_error(
      "emulated kernel: " + what + " (block " + std::to_string(blockIdx.x) + ", " +
      std::to_string(blockIdx.y) + ", thread " + std::to_string(threadIdx.x) + ")"));
}

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

void finish_barrier(Block& block, Barrier& barrier) {
  const int expected = barrier.expected > 0 ? barrier.expected : block.live;
  if (barrier.waiting.empty() || static_cast<int>(barrier.waiting.size()) < expected) return;
  std::vector<const Fiber*> all;
  for (const auto& [fiber, count] : barrier.waiting) {
    *count = barrier.count;
    wake(fiber);
    if (!block.made.empty()) all.push_back(fiber);
  }
  if (!all.empty()) share_knowledge(block, all);
  barrier.waiting.clear();
  barrier.count = 0;
}

void keep_error() {
  if (!scheduler.error) scheduler.error = std::current_exception();
}

// The life of a fiber: one thread of one block after the other.
void live() {
  Fiber* const self = scheduler.current;
  entered();
  wait();
  for (;;) {
    try {
      (*scheduler.kernel)();
      check_end(*self);
    } catch (...) {
      keep_error();
    }
    for (auto& group : self->copies) finish_copies(group);
    self->copies.clear();
    self->products = Products{};
    Block& block = *self->block;
    --block.live;
    Warp& warp = warp_of(*self);
    warp.live &= ~(1u << (self->number % 32));
    try {
      finish_meetings(warp);
      finish_barrier(block, block.barriers[0]);
    } catch (...) {
      keep_error();
    }
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

// Registers of each thread of a kernel whose launch bounds are its threads, one block at a time.
int launch_registers(int threads) { return std::min(256, 65536 / threads) / 8 * 8; }

void begin(Block& block, uint3 index, size_t first_fiber) {
  const int threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  block.index = index;
  block.live = threads;
  block.statics.forget();
  // Exactly as large as asked for, so that a sanitizer sees an access beyond.
  void* shared = nullptr;
  const size_t bytes = std::max<size_t>(scheduler.shared_bytes, 1);
  if (posix_memalign(&shared, 1024, bytes) != 0) throw std::bad_alloc();
  block.shared.reset(shared);
  std::memset(shared, kGarbage, bytes);
  block.warps.assign(static_cast<size_t>((threads + 31) / 32), Warp{});
  for (Warp& warp : block.warps) warp.registers = launch_registers(threads);
  block.groups.assign(static_cast<size_t>((threads + kWarpGroup - 1) / kWarpGroup), WarpGroup{});
  for (Barrier& barrier : block.barriers) barrier = Barrier{};
  block.bulk_copies.clear();
  block.phase_waits.clear();
  block.made.clear();
  block.free_registers = 0;
  block.register_waits.clear();
  block.ready.clear();
  block.fibers.clear();
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = *scheduler.fibers[first_fiber + static_cast<size_t>(t)];
    const unsigned n = static_cast<unsigned>(t);
    fiber.block = &block;
    fiber.number = t;
    fiber.steps = 0;
    fiber.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
    warp_of(fiber).live |= 1u << (t % 32);
    block.fibers.push_back(&fiber);
    wake(&fiber);
  }
}

// Puts the static variables of a block in their place, which those of another one leave.
void enter(Block& block) {
  if (scheduler.block != &block) {
    if (scheduler.block != nullptr) scheduler.block->statics.save();
    block.statics.restore();
    scheduler.block = &block;
  }
  blockIdx = block.index;
}

// Lets the threads of a block run for so many turns, or as long as they can; whether they ended.
bool run_for(Block& block, unsigned turns) {
  while (turns-- > 0 && !(block.ready.empty() && block.bulk_copies.empty())) {
    constexpr unsigned kSwitches = 64;  // of threads in the time of a bulk copy
    if (!block.bulk_copies.empty() &&
        (block.ready.empty() || scheduler.random() % kSwitches == 0)) {
      finish_bulk_copy(block, block.ready.empty());
      continue;
    }
    std::swap(block.ready[scheduler.random() % block.ready.size()], block.ready.back());
    scheduler.current = block.ready.back();
    block.ready.pop_back();
    threadIdx = scheduler.current->index;
    switch_to(scheduler.context, scheduler.current->context);
    if (scheduler.error) std::rethrow_exception(std::exchange(scheduler.error, nullptr));
  }
  if (!block.ready.empty() || !block.bulk_copies.empty()) return false;
  if (block.live > 0) fail(std::to_string(block.live) + " threads wait for each other for ever");
  return true;
}

void finish(Block& block) {
  check_steps(block);
  const size_t used = StaticContents::used_bytes();
  if (used + scheduler.shared_bytes > shared_limit()) {
    fail("static variables take " + std::to_string(used) + " bytes of shared memory beside " +
         std::to_string(scheduler.shared_bytes) + ", a block of this device has " +
         std::to_string(shared_limit()));
  }
  StaticContents::clear();
  scheduler.block = nullptr;
}

int setting(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<int>(std::strtol(text, nullptr, 10));
}

// A few blocks at a time, each for a while.
void run_blocks(std::vector<size_t> order) {
  const size_t threads = size_t{blockDim.x} * blockDim.y * blockDim.z;
  const auto at_once =
      std::min<size_t>(order.size(), std::max(1, setting("FASTCLIP_EMULATOR_BLOCKS", 2)));
  while (scheduler.fibers.size() < at_once * threads) scheduler.fibers.push_back(create());
  while (scheduler.blocks.size() < at_once) scheduler.blocks.push_back(std::make_unique<Block>());
  const auto start = [&](size_t place) {
    const size_t b = order.back();
    order.pop_back();
    begin(*scheduler.blocks[place],
          {static_cast<unsigned>(b % gridDim.x), static_cast<unsigned>(b / gridDim.x % gridDim.y),
           static_cast<unsigned>(b / gridDim.x / gridDim.y)},
          place * threads);
  };
  std::vector<size_t> running;
  for (size_t place = 0; place < at_once; ++place) {
    start(place);
    running.push_back(place);
  }
  StaticContents::clear();
  scheduler.block = nullptr;
  while (!running.empty()) {
    std::swap(running[scheduler.random() % running.size()], running.back());
    const size_t place = running.back();
    Block& block = *scheduler.blocks[place];
    enter(block);
    constexpr unsigned kLongest = 10;  // turns at a time: a power of two up to 2^kLongest
    const bool alone = running.size() == 1;
    if (!run_for(block, alone ? ~0u : 1u << scheduler.random() % (kLongest + 1))) continue;
    finish(block);
    if (order.empty()) {
      running.pop_back();
    } else {
      start(place);
    }
  }
}

// Whether the compiler turns a product and a sum into one instruction, as nvcc does.
bool contracts() {
  volatile float a = 1 + 0x1p-12f;  // its square is 1 + 2^-11 + 2^-24
  volatile float c = -(1 + 0x1p-11f);
  const float x = a;
  return x * x + c != 0;
}

}  // namespace

void wait() { switch_to(scheduler.current->context, scheduler.context); }

void wake(Fiber* fiber) { fiber->block->ready.push_back(fiber); }

void fail(const std::string& what) { std::rethrow_exception(fault(what)); }

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

int capability() { return setting("FASTCLIP_EMULATOR_CAPABILITY", 80); }

size_t shared_limit() {
  const int device = capability();
  if (device == 80 || device == 87) return 163 * 1024;
  return size_t{device < 90 || device >= 120 ? 99u : 227u} * 1024;
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard lock(scheduler.mutex);
  const auto refuse = [](const std::string& what) {
    throw std::logic_error("emulated kernel: " + what);
  };
  if (!contracts()) {
    refuse(
        "the compiler must fuse products with sums, as nvcc does: -march=native "
        "-ffp-contract=fast, on a processor that can");
  }
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.z > 64 ||
      size_t{block.x} * block.y * block.z > kMostThreads) {
    refuse("bad block size");
  }
  if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu) refuse("bad grid size");
  if (shared_bytes > shared_limit()) {
    refuse("needs " + std::to_string(shared_bytes) + " bytes of shared memory, a block of this " +
           "device has " + std::to_string(shared_limit()));
  }
  scheduler.random.seed(static_cast<unsigned>(setting("FASTCLIP_EMULATOR_SEED", 1)));
  scheduler.shared_bytes = shared_bytes;
  scheduler.kernel = &kernel;
  gridDim = grid;
  blockDim = block;
  std::vector<size_t> order(size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), scheduler.random);
  try {
    run_blocks(std::move(order));
  } catch (...) {
    // Fibers in the middle of a kernel are of no more use; what their stacks own is lost.
    for (auto& fiber : scheduler.fibers) {
      munmap(const_cast<void*>(fiber->context.stack), kStack);
    }
    scheduler.fibers.clear();
    throw;
  }
}

void* dynamic_shared_memory() { return scheduler.current->block->shared.get(); }

int lane() { return scheduler.current->number % 32; }

void yield() {
  wake(scheduler.current);
  wait();
}

void before_atomic() {
  constexpr unsigned kEvery = 8;
  if (scheduler.random() % kEvery == 0) yield();
}

int barrier(int id, int expected, int predicate) {
  if (id < 0 || id >= kBarriers) fail("no such barrier");
  if (expected % 32 != 0) fail("a barrier of threads that are not whole warps");
  Block& block = *scheduler.current->block;
  Barrier& barrier = block.barriers[id];
  if (!barrier.waiting.empty() && barrier.expected != expected) {
    fail("threads expect different numbers at one barrier");
  }
  barrier.expected = expected;
  barrier.count += predicate != 0;
  int count = 0;
  barrier.waiting.emplace_back(scheduler.current, &count);
  finish_barrier(block, barrier);
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

void sync_warp(unsigned mask) {
  meet(mask, scheduler.current, nullptr, [](const void* const(&in)[32], void* const(&)[32]) {
    std::vector<const Fiber*> threads;
    for (const void* one : in) {
      const auto* thread = static_cast<const Fiber*>(one);
      if (thread != nullptr && !thread->block->made.empty()) threads.push_back(thread);
    }
    if (!threads.empty()) share_knowledge(*threads.front()->block, threads);
  });
}

}  // namespace fastclip::cuda::emulator
