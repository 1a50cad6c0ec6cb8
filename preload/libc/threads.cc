// See threads.h. Each function is found once and never changes, so whoever comes first may write
// it.
#include "preload/libc/threads.h"

#include "preload/libc/symbols.h"

namespace xenloop::threads {
namespace {

template <class Pointer>
bool FindInto(std::atomic<Pointer>& function, const char* name) {
  if (function.load(std::memory_order_relaxed) == nullptr)
    function.store(reinterpret_cast<Pointer>(NextDefinition(name)), std::memory_order_relaxed);
  return function.load(std::memory_order_relaxed) != nullptr;
}

using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
using SetStackSize = int (*)(pthread_attr_t*, size_t);
using OnBuffer = void (*)(__pthread_unwind_buf_t*);

std::atomic<Create> create{nullptr};
std::atomic<SetStackSize> set_stack_size{nullptr};
std::atomic<OnBuffer> register_cancel{nullptr};
std::atomic<OnBuffer> unregister_cancel{nullptr};
std::atomic<OnBuffer> unwind_next{nullptr};
}  // namespace

std::atomic<const char*> single_threaded{nullptr};
std::atomic<TestCancelCall> test_cancel{nullptr};

bool Find() {
  FindInto(single_threaded, "__libc_single_threaded");
  // In this order: who meets a registration must find the way back, too.
  return FindInto(unwind_next, "__pthread_unwind_next") &&
         FindInto(unregister_cancel, "__pthread_unregister_cancel") &&
         FindInto(register_cancel, "__pthread_register_cancel") &&
         FindInto(test_cancel, "pthread_testcancel") &&
         FindInto(set_stack_size, "pthread_attr_setstacksize") &&
         FindInto(create, "pthread_create");
}

int CreateDetached(size_t stack_bytes, void* (*run)(void*)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  set_stack_size.load(std::memory_order_relaxed)(&attributes, stack_bytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = create.load(std::memory_order_relaxed)(&thread, &attributes, run, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

void TestCancel() {
  if (const auto call = test_cancel.load(std::memory_order_relaxed)) call();
}

bool Several() {
  const char* const single = single_threaded.load(std::memory_order_relaxed);
  return single != nullptr && *single == 0;
}

void RegisterCancel(__pthread_unwind_buf_t* buffer) {
  if (const auto call = register_cancel.load(std::memory_order_relaxed)) call(buffer);
}

void UnregisterCancel(__pthread_unwind_buf_t* buffer) {
  if (const auto call = unregister_cancel.load(std::memory_order_relaxed)) call(buffer);
}

void UnwindNext(__pthread_unwind_buf_t* buffer) {
  unwind_next.load(std::memory_order_relaxed)(buffer);
  __builtin_unreachable();
}

}  // namespace xenloop::threads
