// Signal handlers for tests: installed for a scope, counting, with the thread they ran in.

#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

namespace conformance {

// Counts deliveries of one signal while it lives. One at a time for a signal.
class CountingHandler {
 public:
  explicit CountingHandler(int signal, int flags = 0);
  ~CountingHandler();
  CountingHandler(const CountingHandler&) = delete;
  CountingHandler& operator=(const CountingHandler&) = delete;

  int count() const;
  pid_t thread() const;  // that ran the handler last

 private:
  int signal_;
  struct sigaction before_ {};
};

// Sends `signal` to a thread every few milliseconds while it lives: a single signal might come just
// before the call that it is to interrupt.
class Pestering {
 public:
  Pestering(pthread_t target, int signal);
  ~Pestering();

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace conformance
