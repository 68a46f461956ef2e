#include "cpu/engine/threads.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#endif

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>

#include "cpu/tuning.h"
#include "fastclip/exact_score.h"

namespace fastclip::cpu {
namespace {

// One parallel_for. Each thread that works on it takes the next task until none is left.
class Job {
 public:
  Job(int64_t tasks, Interrupt& interrupt, const std::function<void(int64_t)>& task)
      : tasks_(tasks), interrupt_(interrupt), task_(task) {}

  void work() {
    FloatEnvironment environment;
    for (int64_t i = next_++; i < tasks_ && !interrupt_.poll(); i = next_++) {
      try {
        task_(i);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        interrupt_.stop();
      }
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

  std::atomic<int> helpers{0};  // pool threads at work on it; changes under the pool's mutex

 private:
  const int64_t tasks_;
  Interrupt& interrupt_;
  const std::function<void(int64_t)>& task_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Spins for a short while before the caller sleeps: waking a thread takes longer than many calls.
template <class Done>
void spin(Done&& done) {
  constexpr std::chrono::microseconds kPatience{tuning::kSpinMicroseconds};
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < kPatience) {
    for (int look = 0; look < tuning::kLooksPerTime; ++look) {
      if (done()) return;
    }
  }
}

// The OpenMP threads that torch uses. They spin for some milliseconds after each operation of
// torch, so that other threads would have to share the processors with them.
class Team {
 public:
  // Where torch has loaded GNU's OpenMP or one that can stand in for it.
  static bool exists() { return parallel() != nullptr; }

  static void run(Job& job, int helpers, Interrupt& interrupt) {
    Team team{job, helpers, interrupt};
    // The whole team: a smaller one than the last would end the other threads.
    parallel()(
        [](void* data) {
          Team& team = *static_cast<Team*>(data);
          if (std::this_thread::get_id() == team.caller_) {
            team.lead();
          } else {
            team.help();
          }
        },
        &team, 0, 0);
  }

 private:
  using Parallel = void(void (*work)(void*), void* data, unsigned threads, unsigned flags);

  static Parallel* parallel() {
#if defined(_WIN32)
    return nullptr;  // no OpenMP there has this function
#else
    static auto* const found = reinterpret_cast<Parallel*>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
#endif
  }

  Team(Job& job, int helpers, Interrupt& interrupt)
      : job_(job), helpers_(helpers), interrupt_(interrupt) {}

  void help() {
    if (started_++ >= helpers_) return;
    ++at_work_;
    job_.work();
    if (--at_work_ > 0) return;
    std::lock_guard lock(mutex_);
    idle_.notify_one();
  }

  // On the calling thread, which alone can notice an interrupt.
  void lead() {
    job_.work();
    spin([&] { return at_work_ == 0; });
    std::unique_lock lock(mutex_);
    while (!idle_.wait_for(lock, Interrupt::kInterval, [&] { return at_work_ == 0; })) {
      interrupt_.poll();
    }
  }

  Job& job_;
  const int helpers_;
  Interrupt& interrupt_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::atomic<int> started_{0}, at_work_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
};

// fastclip's own threads, where torch has no such team.
class Pool {
 public:
  void run(Job& job, int helpers, Interrupt& interrupt) {
    {
      std::lock_guard lock(mutex_);
      for (; started_ < helpers; ++started_) std::thread([this] { serve(); }).detach();
      for (int i = 0; i < helpers; ++i) waiting_.push_back(&job);
      calls_ += helpers;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    // Helpers that have not started on this job are no longer needed.
    waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &job), waiting_.end());
    lock.unlock();
    if (!crowded(helpers)) spin([&] { return job.helpers == 0; });
    lock.lock();
    while (!idle_.wait_for(lock, Interrupt::kInterval, [&] { return job.helpers == 0; })) {
      lock.unlock();
      interrupt.poll();
      lock.lock();
    }
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return !waiting_.empty(); });
      Job* job = waiting_.front();
      waiting_.pop_front();
      ++job->helpers;
      lock.unlock();
      job->work();
      lock.lock();
      if (--job->helpers == 0) idle_.notify_all();
      if (waiting_.empty() && !crowded(started_)) {
        const int64_t seen = calls_;
        lock.unlock();
        spin([&] { return calls_ != seen; });
        lock.lock();
      }
    }
  }

  // Whether a spinning thread would take a processor from one that works.
  static bool crowded(int helpers) {
    static const unsigned processors = std::thread::hardware_concurrency();
    return static_cast<unsigned>(helpers) >= processors;
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job*> waiting_;
  std::atomic<int64_t> calls_{0};  // for helpers so far
  int started_ = 0;
};

// Never destroyed: its threads may still wait when the process ends.
Pool* pool = new Pool;
// A forked child has none of its parent's threads, and OpenMP does not know.
bool forked = false;
#if !defined(_WIN32)
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] {
  pool = new Pool;
  forked = true;
});
#endif

}  // namespace

void parallel_for(int64_t tasks, int threads, Interrupt& interrupt,
                  const std::function<void(int64_t)>& task) {
  Job job(tasks, interrupt, task);
  const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  if (helpers > 0) {
    if (Team::exists() && !forked) {
      Team::run(job, helpers, interrupt);
    } else {
      pool->run(job, helpers, interrupt);
    }
  } else {
    job.work();
  }
  job.rethrow();
}

}  // namespace fastclip::cpu
