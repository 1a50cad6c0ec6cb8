// What the library needs of libc's threads. Before glibc 2.34 these functions stand in a library of
// their own (libpthread), which a program need not have: then it has one thread, nobody can cancel
// it, and an agent cannot be started.
#pragma once

#include <pthread.h>
#include <setjmp.h>

#include <atomic>

#include "channel/base/abandon.h"

namespace xenloop::threads {

// Looks the functions up: at the start, and again before a thread is made, since libpthread may
// have come with a plug-in. False: this process can make no threads.
bool Find();

// As pthread_create, detached. 0, or the error number. Only after Find() was true.
int CreateDetached(size_t stack_bytes, void* (*run)(void*));

// pthread_testcancel, or null: nobody can cancel this thread.
using TestCancelCall = void (*)();
extern std::atomic<TestCancelCall> test_cancel;
// The same as a call.
void TestCancel();

// Libc says that there are several threads, or have been. Before glibc 2.32 it does not say so.
bool Several();
extern std::atomic<const char*> single_threaded;
// Libc says that this thread is the only one. Nobody else can come but by its own doing: in a
// handler, too.
inline bool Alone() {
  const char* const single = single_threaded.load();
  return single != nullptr && *static_cast<const volatile char*>(single) != 0;
}

// The three halves of pthread_cleanup_push and _pop, which in a file without exceptions are calls
// into libpthread.
void RegisterCancel(__pthread_unwind_buf_t* buffer);
void UnregisterCancel(__pthread_unwind_buf_t* buffer);
[[noreturn]] void UnwindNext(__pthread_unwind_buf_t* buffer);

// That is registered. Who jumps out of the call leaves no registration behind: a later cancellation
// of the thread would be led to a frame that is no more.
class CancelRegistration : public Abandonable {
 public:
  explicit CancelRegistration(__pthread_unwind_buf_t* buffer) : buffer_(buffer) {
    buffer->__pad[kOuter] = buffer;
    Enter(&GiveBack);
    RegisterCancel(buffer);
  }
  ~CancelRegistration() {
    UnregisterCancel(buffer_);
    Leave();
  }

 private:
  // Where libc keeps the registration outside this one, which it writes first. Until then it is
  // what no registration has, and there is nothing to take back.
  static constexpr int kOuter = 0;
  static void GiveBack(Abandonable* scope) {
    __pthread_unwind_buf_t* const buffer = static_cast<CancelRegistration*>(scope)->buffer_;
    if (buffer->__pad[kOuter] != buffer) UnregisterCancel(buffer);
  }
  __pthread_unwind_buf_t* const buffer_;
};

// Calls `call`; `clean_up` if the thread ends in it, by cancellation or pthread_exit.
template <class Call>
auto CleaningUp(Call call, void (*clean_up)()) -> decltype(call()) {
  __pthread_unwind_buf_t buffer;
  // The buffer begins as a jmp_buf does, without a mask of signals.
  if (__sigsetjmp(reinterpret_cast<__jmp_buf_tag*>(&buffer), 0) != 0) {
    clean_up();
    UnwindNext(&buffer);
  }
  const CancelRegistration registration(&buffer);
  return call();
}

}  // namespace xenloop::threads
