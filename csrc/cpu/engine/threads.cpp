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
#include <vector>

#include "cpu/tuning.h"
#include "fastclip/exact_score.h"

namespace fastclip::cpu {
namespace {

// One parallel_for. Each thread that works on it takes the tasks of its own share one after the
// other, then what is left of the shares of others.
class Job {
 public:
  Job(int64_t tasks, int workers, Interrupt& interrupt, const std::function<void(int64_t)>& task)
      : shares_(workers), interrupt_(interrupt), task_(task) {
    for (int w = 0; w < workers; ++w) {
      shares_[w].next = tasks / workers * w + std::min<int64_t>(tasks % workers, w);
      if (w > 0) shares_[w - 1].end = shares_[w].next;
    }
    shares_.back().end = tasks;
  }

  // Threads of the same number begin with the same share of jobs with as many workers.
  void work(int thread) {
    FloatEnvironment environment;
    for (size_t after = 0; after < shares_.size(); ++after) {
      Share& share = shares_[(thread + after) % shares_.size()];
      while (share.next < share.end && !interrupt_.poll()) {
        const int64_t index = share.next++;
        if (index >= share.end) break;
        try {
          task_(index);
        } catch (...) {
          std::lock_guard lock(mutex_);
          if (!error_) error_ = std::current_exception();
          interrupt_.stop();
        }
      }
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

  std::atomic<int> helpers{0};  // pool threads at work on it; changes under the pool's mutex

 private:
  struct alignas(64) Share {  // on a cache line of its own
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::vector<Share> shares_;
  Interrupt& interrupt_;
  const std::function<void(int64_t)>& task_;
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
  static bool exists() { return parallel() != nullptr && thread_number() != nullptr; }

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
  using ThreadNumber = int();

#if defined(_WIN32)
  static Parallel* parallel() { return nullptr; }  // no OpenMP there has this function
  static ThreadNumber* thread_number() { return nullptr; }
#else
  static Parallel* parallel() {
    static auto* const found = reinterpret_cast<Parallel*>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
  }
  static ThreadNumber* thread_number() {
    static auto* const found =
        reinterpret_cast<ThreadNumber*>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
    return found;
  }
#endif

  Team(Job& job, int helpers, Interrupt& interrupt)
      : job_(job), helpers_(helpers), interrupt_(interrupt) {}

  void help() {
    if (started_++ >= helpers_) return;
    ++at_work_;
    job_.work(thread_number()());
    if (--at_work_ > 0) return;
    std::lock_guard lock(mutex_);
    idle_.notify_one();
  }

  // On the calling thread, which alone can notice an interrupt.
  void lead() {
    job_.work(0);
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
      for (; started_ < helpers; ++started_) {
        std::thread([this, number = started_ + 1] { serve(number); }).detach();
      }
      for (int i = 0; i < helpers; ++i) waiting_.push_back(&job);
      calls_ += helpers;
    }
    wake_.notify_all();
    job.work(0);
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
  void serve(int number) {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return !waiting_.empty(); });
      Job* job = waiting_.front();
      waiting_.pop_front();
      ++job->helpers;
      lock.unlock();
      job->work(number);
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
  const int workers = static_cast<int>(std::clamp<int64_t>(tasks, 1, std::max(threads, 1)));
  const int helpers = workers - 1;
  Job job(tasks, workers, interrupt, task);
  if (helpers > 0) {
    if (Team::exists() && !forked) {
      Team::run(job, helpers, interrupt);
    } else {
      pool->run(job, helpers, interrupt);
    }
  } else {
    job.work(0);
  }
  job.rethrow();
}

}  // namespace fastclip::cpu
