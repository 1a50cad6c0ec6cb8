// The handlers' counters are per signal number, in static memory that a handler may touch.

#include "tests/conformance/signals.h"

#include <poll.h>
#include <unistd.h>

namespace conformance {
namespace {

std::atomic<int> delivered[NSIG];
std::atomic<pid_t> delivered_to[NSIG];

extern "C" void CountSignal(int signal) {
  delivered_to[signal].store(gettid());
  delivered[signal].fetch_add(1);
}

}  // namespace

CountingHandler::CountingHandler(int signal, int flags) : signal_(signal) {
  delivered[signal].store(0);
  struct sigaction action {};
  action.sa_handler = CountSignal;
  action.sa_flags = flags;
  sigaction(signal, &action, &before_);
}

CountingHandler::~CountingHandler() { sigaction(signal_, &before_, nullptr); }

int CountingHandler::count() const { return delivered[signal_].load(); }
pid_t CountingHandler::thread() const { return delivered_to[signal_].load(); }

Pestering::Pestering(pthread_t target, int signal) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this, target, signal] {
    while (!stop_.load()) {
      pthread_kill(target, signal);
      poll(nullptr, 0, 3);
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Pestering::~Pestering() {
  stop_.store(true);
  thread_.join();
}

}  // namespace conformance
