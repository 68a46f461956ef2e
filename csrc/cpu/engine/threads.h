// Work on several threads that can be interrupted.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace fastclip::cpu {

// Tells all threads of a call to stop once the calling thread has been asked to (Ctrl-C).
class Interrupt {
 public:
  static constexpr std::chrono::milliseconds kInterval{50};  // between two checks

  explicit Interrupt(std::function<bool()> asked_to_stop)
      : asked_to_stop_(std::move(asked_to_stop)), owner_(std::this_thread::get_id()) {}

  void stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  // Cheap enough for every block of work.
  bool poll() {
    if (std::this_thread::get_id() == owner_) {
      const auto now = std::chrono::steady_clock::now();
      if (now - last_ > kInterval) {
        last_ = now;
        if (asked_to_stop_()) stop();
      }
    }
    return stopped();
  }

 private:
  std::function<bool()> asked_to_stop_;
  std::thread::id owner_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::atomic<bool> stopped_{false};
};

// Runs task(0) ... task(tasks - 1) on the calling thread and up to threads - 1 others, each with
// FloatEnvironment set. Returns when all have ended; the first exception of a task is thrown again
// here. Tasks not yet begun when `interrupt` stops are left out. Safe to call from several threads
// at once and after fork().
//
// Each of torch's threads begins with its own, contiguous share of the tasks, the same in all calls
// with as many threads. Packing cuts the keys in the order in which few queries search them, so a
// thread reads what it wrote: memory of its own processor on machines with several.
void parallel_for(int64_t tasks, int threads, Interrupt& interrupt,
                  const std::function<void(int64_t)>& task);

}  // namespace fastclip::cpu
