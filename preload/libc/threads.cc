// See threads.h. Each function is found once and never changes, so whoever comes first may write
// it.
#include "preload/libc/threads.h"

#include "preload/libc/symbols.h"

namespace xenloop::threads {
namespace {

template <class Pointer>
class Found {
 public:
  bool Find(const char* name) {
    if (Get() == nullptr)
      pointer_.store(reinterpret_cast<Pointer>(NextDefinition(name)), std::memory_order_relaxed);
    return Get() != nullptr;
  }
  Pointer Get() const { return pointer_.load(std::memory_order_relaxed); }

 private:
  std::atomic<Pointer> pointer_{nullptr};
};

using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
using SetStackSize = int (*)(pthread_attr_t*, size_t);
using OnBuffer = void (*)(__pthread_unwind_buf_t*);

Found<Create> create;
Found<SetStackSize> set_stack_size;
Found<OnBuffer> register_cancel;
Found<OnBuffer> unregister_cancel;
Found<OnBuffer> unwind_next;
Found<const char*> single_threaded;

bool FindTestCancel() {
  if (test_cancel.load(std::memory_order_relaxed) == nullptr)
    test_cancel.store(reinterpret_cast<TestCancelCall>(NextDefinition("pthread_testcancel")),
                      std::memory_order_relaxed);
  return test_cancel.load(std::memory_order_relaxed) != nullptr;
}

}  // namespace

std::atomic<TestCancelCall> test_cancel{nullptr};

bool Find() {
  single_threaded.Find("__libc_single_threaded");
  // In this order: who meets a registration must find the way back, too.
  return unwind_next.Find("__pthread_unwind_next") &&
         unregister_cancel.Find("__pthread_unregister_cancel") &&
         register_cancel.Find("__pthread_register_cancel") && FindTestCancel() &&
         set_stack_size.Find("pthread_attr_setstacksize") && create.Find("pthread_create");
}

int CreateDetached(size_t stack_bytes, void* (*run)(void*)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  set_stack_size.Get()(&attributes, stack_bytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = create.Get()(&thread, &attributes, run, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

void TestCancel() {
  if (const auto call = test_cancel.load(std::memory_order_relaxed)) call();
}

bool Several() {
  const char* const single = single_threaded.Get();
  return single != nullptr && *single == 0;
}

void RegisterCancel(__pthread_unwind_buf_t* buffer) {
  if (const auto call = register_cancel.Get()) call(buffer);
}

void UnregisterCancel(__pthread_unwind_buf_t* buffer) {
  if (const auto call = unregister_cancel.Get()) call(buffer);
}

void UnwindNext(__pthread_unwind_buf_t* buffer) {
  unwind_next.Get()(buffer);
  __builtin_unreachable();
}

}  // namespace xenloop::threads
