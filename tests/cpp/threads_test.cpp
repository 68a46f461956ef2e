// Tasks on threads: each once, stopped by errors and interrupts, from anywhere, also after a fork.
#include "cpu/engine/threads.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests.h"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fastclip::tests {
namespace {

using cpu::Interrupt, cpu::parallel_for;

bool each_once(int64_t tasks, int threads) {
  Interrupt interrupt([] { return false; });
  std::vector<std::atomic<int>> times(tasks);
  parallel_for(tasks, threads, interrupt, [&](int64_t task) { ++times[task]; });
  for (const auto& count : times) {
    if (count != 1) return false;
  }
  return true;
}

// Each thread begins with its own share, in every call.
void check_shares(const Run& run) {
  Interrupt interrupt([] { return false; });
  std::vector<std::thread::id> first(run.threads), again(run.threads);
  for (auto* ids : {&first, &again}) {
    std::atomic<int> begun{0};
    parallel_for(run.threads, run.threads, interrupt, [&](int64_t task) {
      (*ids)[task] = std::this_thread::get_id();
      ++begun;
      while (begun < run.threads) std::this_thread::yield();  // none takes two
    });
  }
  run.expect(first[0] == std::this_thread::get_id(), "the share of the calling thread");
  run.expect(first == again, "the shares of the others");
}

// A child has none of its parent's threads, but starts its own.
void check_fork([[maybe_unused]] const Run& run) {
// QEMU, which stands in for ARM, cannot start threads in a forked child; Windows does not fork.
#if defined(__x86_64__) && !defined(_WIN32)
  const pid_t child = fork();
  if (child == 0) _exit(each_once(100, run.threads) ? 0 : 1);
  int status = 1;
  waitpid(child, &status, 0);
  run.expect(child > 0 && status == 0, "parallel_for after a fork");
#endif
}

// The first exception comes back, and little is begun after it.
void check_errors(const Run& run) {
  Interrupt interrupt([] { return false; });
  std::atomic<int> begun{0};
  bool thrown = false;
  try {
    parallel_for(1000, run.threads, interrupt, [&](int64_t) {
      ++begun;
      throw std::runtime_error("a task fails");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  run.expect(thrown && begun <= run.threads, "tasks that fail");
}

// Tasks that are not begun when the calling thread is asked to stop are left out.
void check_interrupt(const Run& run) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  std::atomic<int64_t> done{0};
  Interrupt interrupt([&] { return Clock::now() - begin > 2 * Interrupt::kInterval; });
  parallel_for(100'000, run.threads, interrupt, [&](int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++done;
  });
  run.expect(interrupt.stopped() && 0 < done && done < 100'000, "tasks that are interrupted");
}

// Denormals are kept in tasks, whatever the calling thread has set.
void check_denormals([[maybe_unused]] const Run& run) {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);  // denormals count as zero
  std::atomic<int> lost{0};
  Interrupt interrupt([] { return false; });
  parallel_for(100, run.threads, interrupt, [&](int64_t) {
    volatile float small = 1e-40f;
    if (small * 0.5f == 0) ++lost;
  });
  const bool restored = _mm_getcsr() == (before | 0x8040);
  _mm_setcsr(before);
  run.expect(lost == 0 && restored, "denormals");
#endif
}

}  // namespace

void check_threads(Run& run) {
  for (const int64_t tasks : {0, 1, 7, 1000}) {
    run.expect(each_once(tasks, run.threads), "parallel_for");
  }
  check_shares(run);
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) callers.emplace_back([&] { right += each_once(500, run.threads); });
  for (std::thread& caller : callers) caller.join();
  run.expect(right == 3, "parallel_for from several threads");
  check_fork(run);
  check_errors(run);
  check_interrupt(run);
  check_denormals(run);
}

}  // namespace fastclip::tests
