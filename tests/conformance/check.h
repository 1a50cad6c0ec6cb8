// What the conformance tests compare: the result of a system call together with its errno, the
// readiness of a descriptor, and "this call is still blocked". Two time limits are fixed here: how
// soon an expected event must come, and how long "still blocked" is watched. Nothing here knows
// of sockets' peers or of the library.

#pragma once

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <ostream>
#include <string>
#include <utility>

#include "tests/conformance/older_libc.h"

namespace conformance {

constexpr int kSoonMs = 8000;  // an event that must come has come by then
constexpr int kBlockedMs = 7;  // a call that returns nothing for so long counts as blocked
constexpr int kNothingMs = 7;  // an event that must not come is watched for so long

// A system call's result: a count, or -1 with its errno.
struct Outcome {
  ssize_t value;
  int error;
};

// Call(recv(...)): errno is read straight after the call.
inline Outcome Call(ssize_t value) { return {value, value < 0 ? errno : 0}; }
inline Outcome Done(ssize_t value) { return {value, 0}; }
inline Outcome Failed(int error) { return {-1, error}; }

inline bool operator==(const Outcome& a, const Outcome& b) {
  return a.value == b.value && a.error == b.error;
}

inline std::string Text(const Outcome& outcome) {
  return std::to_string(outcome.value) + "/" + std::to_string(outcome.error);
}

inline void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << outcome.value;
  if (outcome.error != 0) *out << " " << strerrorname_np(outcome.error);
}

// Readiness of one descriptor: poll's revents, 0 at the time-out, -1 at an error.
inline int Revents(int fd, int events, int timeout_ms) {
  pollfd entry{fd, static_cast<short>(events), 0};
  const int ready = poll(&entry, 1, timeout_ms);
  if (ready < 0) return -1;
  return ready == 0 ? 0 : entry.revents;
}

inline bool BecomesReadable(int fd) { return (Revents(fd, POLLIN, kSoonMs) & POLLIN) != 0; }
inline bool BecomesWritable(int fd) { return (Revents(fd, POLLOUT, kSoonMs) & POLLOUT) != 0; }
inline bool StaysUnreadable(int fd) { return Revents(fd, POLLIN, kNothingMs) == 0; }

// Waits until FIONREAD reports at least `count` bytes.
bool WaitForBytes(int fd, int count);

// Waits until the thread `tid` (of any process of ours) sleeps in the kernel, for up to kSoonMs.
void WaitUntilAsleep(pid_t tid);

// A call that runs in a thread of its own, to see whether it blocks.
template <typename T>
class BackgroundCall {
 public:
  template <typename Work>
  explicit BackgroundCall(Work work)
      : future_(std::async(std::launch::async, [work = std::move(work), tid = tid_]() mutable {
          tid->store(gettid());
          return work();
        })) {}

  T get() { return future_.get(); }
  bool Returned(int within_ms) const {
    return future_.wait_for(std::chrono::milliseconds(within_ms)) == std::future_status::ready;
  }
  // The thread has gone to sleep, and stays there for a while.
  bool StillBlocked() const {
    while (tid_->load() == 0) poll(nullptr, 0, 1);
    if (!Returned(0)) WaitUntilAsleep(tid_->load());
    return !Returned(kBlockedMs);
  }

 private:
  std::shared_ptr<std::atomic<pid_t>> tid_ = std::make_shared<std::atomic<pid_t>>(0);
  std::future<T> future_;
};

template <typename Work>
auto InThread(Work work) -> BackgroundCall<decltype(work())> {
  return BackgroundCall<decltype(work())>(std::move(work));
}

template <typename T>
bool StillBlocked(const BackgroundCall<T>& call) {
  return call.StillBlocked();
}

class Stopwatch {
 public:
  double ElapsedMs() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// Owns a descriptor; -1 owns nothing.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~FileDescriptor() { Close(); }

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  int Close() { return fd_ < 0 ? 0 : close(std::exchange(fd_, -1)); }

 private:
  int fd_ = -1;
};

// A child process that runs `work` and exits with 0 if it returned true. Inside, no gtest
// assertions: they would be made in the child's copy of the test.
class ChildProcess {
 public:
  explicit ChildProcess(const std::function<bool()>& work);
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  void Kill();
  bool Succeeded();  // waits for its end

 private:
  pid_t pid_;
};

// For use inside a child: says where it failed.
bool ReportIfFalse(bool condition, const char* what, const char* file, int line);
#define CHILD_CHECK(condition) \
  if (!::conformance::ReportIfFalse((condition), #condition, __FILE__, __LINE__)) return false

}  // namespace conformance
