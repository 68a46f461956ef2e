#include "threads.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>

#include "fastclip/exact_score.h"

namespace fastclip::cpu {
namespace {

// One parallel_for. Whoever works on it takes the next task until none is left.
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

  int helpers = 0;  // pool threads at work on it; guarded by the pool's mutex

 private:
  const int64_t tasks_;
  Interrupt& interrupt_;
  const std::function<void(int64_t)>& task_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

class Pool {
 public:
  void run(Job& job, int helpers, Interrupt& interrupt) {
    {
      std::lock_guard lock(mutex_);
      for (; started_ < helpers; ++started_) std::thread([this] { serve(); }).detach();
      for (int i = 0; i < helpers; ++i) waiting_.push_back(&job);
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    // Helpers that never got to this job need not come any more.
    waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &job), waiting_.end());
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
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job*> waiting_;
  int started_ = 0;
};

// Never destroyed: its threads may still wait when the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& shared_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    pool = new Pool;
    // A forked child has none of its parent's threads.
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
  });
  return *pool;
}

}  // namespace

void parallel_for(int64_t tasks, int threads, Interrupt& interrupt,
                  const std::function<void(int64_t)>& task) {
  Job job(tasks, interrupt, task);
  const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  if (helpers > 0) {
    shared_pool().run(job, helpers, interrupt);
  } else {
    job.work();
  }
  job.rethrow();
}

}  // namespace fastclip::cpu
