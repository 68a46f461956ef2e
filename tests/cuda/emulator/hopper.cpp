// What Hopper alone has: barriers in shared memory, bulk copies, wgmma, registers that move.
#include <bit>
#include <cstring>

#include "scheduler.h"

namespace fastclip::cuda::emulator {
namespace {

// What the 64 bits of a barrier in shared memory hold.
struct Phase {
  int16_t threads;  // that must arrive in each phase
  int16_t missing;  // of them
  int32_t odd : 1;  // of the number of the phase
  int32_t bytes : 31;
};

// Changes a barrier and wakes those who wait if that ends a phase.
template <class Change>
void change_phase(Block& block, uint64_t& state, Change change) {
  auto phase = std::bit_cast<Phase>(state);
  change(phase);
  if (phase.missing < 0) fail("more threads arrive at a barrier than it was made for");
  if (phase.missing == 0 && phase.bytes == 0) {
    phase.odd = ~phase.odd;
    phase.missing = phase.threads;
    std::erase_if(block.phase_waits, [&](const auto& waiting) {
      if (waiting.first == &state) wake(waiting.second);
      return waiting.first == &state;
    });
  }
  state = std::bit_cast<uint64_t>(phase);
}

const MadeBarrier& check_initialised(const uint64_t& state) {
  const Fiber& self = *scheduler.current;
  const auto made = self.block->made.find(&state);
  if (made == self.block->made.end()) fail("a barrier that was not initialised");
  if (!made->second.know[static_cast<size_t>(self.number)]) {
    fail("no barrier of threads is between the initialisation of a barrier and its use");
  }
  return made->second;
}

// All threads of a warp-group take the same steps, which the device would not check.
void take_step(const Step& step) {
  Fiber& self = *scheduler.current;
  const int number = self.number / kWarpGroup;
  if (self.block->fibers.size() < static_cast<size_t>((number + 1) * kWarpGroup)) {
    fail(std::string(step.what) + " in a warp-group of fewer than four warps");
  }
  WarpGroup& group = self.block->groups[static_cast<size_t>(number)];
  const size_t at = self.steps++ - group.finished;
  if (at == group.steps.size()) group.steps.push_back({step, 0});
  if (!(group.steps[at].step == step)) {
    fail(std::string("threads of a warp-group disagree: ") + group.steps[at].step.what + " and " +
         step.what);
  }
  ++group.steps[at].threads;
  while (!group.steps.empty() && group.steps.front().threads == kWarpGroup) {
    group.steps.pop_front();
    ++group.finished;
  }
}

// The lanes of a warp go on together.
void meet_all() {
  meet(0xffffffffu, &scheduler, nullptr, [](const void* const(&in)[32], void* const(&)[32]) {
    for (const void* one : in) {
      if (one == nullptr) fail("an instruction of warp-groups needs all lanes of a warp");
    }
  });
}

}  // namespace

void finish_bulk_copy(Block& block, bool late) {
  auto& copies = block.bulk_copies;
  std::swap(copies[scheduler.random() % copies.size()], copies.back());
  if (copies.back().late && !late) return;
  const BulkCopy done = copies.back();
  copies.pop_back();
  finish_copy(done.copy);
  change_phase(block, *done.barrier, [&](Phase& phase) { phase.bytes -= done.copy.bytes; });
}

void check_steps(const Block& block) {
  for (const WarpGroup& group : block.groups) {
    if (group.steps.empty()) continue;
    fail(std::string("only some threads of a warp-group execute ") + group.steps.front().step.what);
  }
}

void check_end(const Fiber& fiber) {
  if (fiber.products.dots != nullptr) fail("a thread ends before its products");
}

void set_registers(int count, bool more) {
  take_step({more ? "setmaxnreg.inc" : "setmaxnreg.dec", 0, 0, count});
  meet_all();
  Fiber* const self = scheduler.current;
  if (lane() == 0) {
    Block& block = *self->block;
    Warp& warp = warp_of(*self);
    const int needed = 32 * (count - warp.registers);
    if (more ? needed < 0 : needed > 0) {
      fail("setmaxnreg from " + std::to_string(warp.registers) + " to " + std::to_string(count) +
           " registers");
    }
    while (block.free_registers < needed) {
      block.register_waits.push_back(self);
      wait();
    }
    block.free_registers -= needed;
    warp.registers = count;
    for (Fiber* waiting : std::exchange(block.register_waits, {})) wake(waiting);
  }
  meet_all();
}

uint32_t shared_offset(const void* shared) {
  const auto at =
      static_cast<const char*>(shared) - static_cast<const char*>(dynamic_shared_memory());
  if (at < 0 || static_cast<size_t>(at) >= scheduler.shared_bytes) {
    fail("not an address of shared memory");
  }
  return static_cast<uint32_t>(at);
}

void barrier_init(uint64_t& state, int threads) {
  if (shared_offset(&state) % 8 != 0) fail("a barrier is not aligned");
  const auto count = static_cast<int16_t>(threads);
  state = std::bit_cast<uint64_t>(Phase{count, count, 0, 0});
  const Fiber* self = scheduler.current;
  MadeBarrier made{self, {}, {}};
  made.know.set(static_cast<size_t>(self->number));
  self->block->made.insert_or_assign(&state, made);
}

void barrier_init_fence() {
  const Fiber* self = scheduler.current;
  for (auto& [state, made] : self->block->made) {
    if (made.maker == self) made.know_fence.set(static_cast<size_t>(self->number));
  }
}

void share_knowledge(Block& block, const std::vector<const Fiber*>& threads) {
  std::bitset<kMostThreads> all;
  for (const Fiber* thread : threads) all.set(static_cast<size_t>(thread->number));
  for (auto& [state, made] : block.made) {
    if ((made.know & all).any()) made.know |= all;
    if ((made.know_fence & all).any()) made.know_fence |= all;
  }
}

void barrier_arrive(uint64_t& state, int bytes) {
  check_initialised(state);
  change_phase(*scheduler.current->block, state, [&](Phase& phase) {
    phase.bytes += bytes;
    --phase.missing;
  });
}

void barrier_wait(uint64_t& state, int parity) {
  check_initialised(state);
  while ((std::bit_cast<Phase>(state).odd != 0) == (parity != 0)) {
    scheduler.current->block->phase_waits.emplace_back(&state, scheduler.current);
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
  if (!check_initialised(state).know_fence[static_cast<size_t>(scheduler.current->number)]) {
    fail("a bulk copy on a barrier whose initialisation no fence shows it");
  }
  std::memset(shared, kGarbage, static_cast<size_t>(bytes));
  scheduler.current->block->bulk_copies.push_back(
      {{shared, global, bytes}, &state, scheduler.random() % 4 != 0});
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
    pieces[0] = static_cast<const uint8_t*>(dynamic_shared_memory()) + at;
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
  take_step({"wgmma", a, b, add});
  meet_all();
  Products& products = scheduler.current->products;
  if (!products.fenced) fail("wgmma without a fence before it");
  if (products.dots == nullptr) {
    products.dots = dots;
    products.bytes = static_cast<size_t>(columns) / 2 * sizeof(int);
    std::memcpy(products.sums, dots, products.bytes);
    std::memset(dots, kGarbage, products.bytes);
  }
  if (products.dots != dots) fail("wgmma: only one accumulator at a time is emulated");
  if (products.groups.empty()) products.groups.emplace_back();
  products.groups.back().push_back({columns, a, b, add});
}

void wgmma_fence() {
  take_step({"wgmma.fence"});
  scheduler.current->products.fenced = true;
}

void wgmma_commit() {
  take_step({"wgmma.commit_group"});
  auto& groups = scheduler.current->products.groups;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

// Products read their operands as late as they may. The lanes of a warp leave together.
void wgmma_wait(int pending) {
  take_step({"wgmma.wait_group", 0, 0, pending});
  Products& products = scheduler.current->products;
  while (static_cast<int>(products.groups.size()) - 1 > pending) {
    for (const Product& product : products.groups.front()) multiply(product, products.sums);
    products.groups.pop_front();
  }
  meet_all();
  if (products.dots == nullptr || products.groups.size() > 1) return;
  if (!products.groups.back().empty()) return;
  std::memcpy(products.dots, products.sums, products.bytes);
  products.dots = nullptr;
  products.fenced = false;
}

}  // namespace fastclip::cuda::emulator
