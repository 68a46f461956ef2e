// Work without the GIL, and taking it back: also from a thread that the interpreter does not wait
// for when it ends.
#pragma once

#include <pybind11/pybind11.h>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include <atomic>
#include <chrono>
#include <thread>
#include <type_traits>
#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "cpu/engine/threads.h"
#include "fastclip/exact_score.h"

namespace fastclip::bindings {

namespace py = pybind11;

// Whether the interpreter is ending, so that no thread but the main one gets the GIL any more.
inline bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030d0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// Has the GIL released for its lifetime.
class ReleasedGil {
 public:
  ReleasedGil() : thread_(PyEval_SaveThread()) { this_one_.known(); }
  ~ReleasedGil() { take(); }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

  // Whether a signal's handler has raised an exception, such as KeyboardInterrupt; also where the
  // interpreter ends, so that no work goes on.
  bool asked_to_stop() {
    if (interpreter_ends()) return true;
    take();
    const bool raised = PyErr_CheckSignals() != 0;
    thread_ = PyEval_SaveThread();
    return raised;
  }

  // For the main thread, before the interpreter ends: from now on all other threads wait where they
  // would take the GIL back, instead of going on to functions of torch, which the end of the
  // interpreter would catch there. Waits a second at most until all that have ever been here are
  // here again: others are no business of ours.
  static void park_others() {
    main_ = std::this_thread::get_id();
    parking_ = true;
    py::gil_scoped_release released;
    constexpr int kSteps = 100;
    for (int step = 0; step < kSteps && parked_ < threads_ - this_one_.counted(); ++step) {
      std::this_thread::sleep_for(kStep);
    }
  }

 private:
  static bool parked() { return parking_ && std::this_thread::get_id() != main_; }

  // Until the interpreter ends. If it does not, the main thread waits for something at exit,
  // perhaps for this thread: then all go on.
  static void park() {
    constexpr int kSteps = 300;
    ++parked_;
    for (int step = 0; parked() && !interpreter_ends(); ++step) {
      if (step == kSteps) parking_ = false;
      std::this_thread::sleep_for(kStep);
    }
    --parked_;
  }

  [[noreturn]] static void sleep() {
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }

  // Python up to 3.13 ends a thread that asks for the GIL too late by unwinding its stack, which
  // would end the process at the first destructor or handler of other exceptions on the way, and
  // would take the memory of a call away from the threads that help with it. Later versions let
  // the thread sleep, and so do we.
  void take() {
    if (parked()) park();
    if (interpreter_ends()) sleep();
#if defined(__GLIBCXX__)
    try {
      PyEval_RestoreThread(thread_);
    } catch (abi::__forced_unwind&) {  // the end came while it waited
      sleep();
    }
#else
    PyEval_RestoreThread(thread_);
#endif
  }

  // A living thread, counted once it has been here.
  class Thread {
   public:
    Thread() : counted_(false) {}
    ~Thread() { threads_ -= counted(); }
    int counted() const { return counted_ ? 1 : 0; }
    void known() {
      if (counted_) return;
      counted_ = true;
      ++threads_;
    }

   private:
    bool counted_;
  };

  static constexpr std::chrono::milliseconds kStep{10};
  static inline std::atomic<bool> parking_{false};
  static inline std::thread::id main_;  // does not change once `parking_` is set
  static inline std::atomic<int> threads_{0}, parked_{0};
  static inline thread_local Thread this_one_;
#if !defined(_WIN32)
  // A forked child has none of its parent's other threads.
  static inline const int at_fork_ =
      pthread_atfork(nullptr, nullptr, [] { threads_ = this_one_.counted(); });
#endif
  PyThreadState* thread_;
};

// Runs `work` without the GIL and with denormals kept; Ctrl-C ends it early and raises
// KeyboardInterrupt.
template <class Work>
auto without_gil(Work work) {
  const auto run = [&] {
    FloatEnvironment environment;
    ReleasedGil released;
    cpu::Interrupt interrupt([&] { return released.asked_to_stop(); });
    return work(interrupt);
  };
  const auto raise = [] {
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  };
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
    raise();
  } else {
    auto result = run();
    raise();
    return result;
  }
}

}  // namespace fastclip::bindings
