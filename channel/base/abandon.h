// What a call of ours would have undone at its end, for those calls that never come to it: a signal
// handler jumps out of them, or their thread is cancelled while it sleeps. (Destructors do not run
// then.) Every scope that holds something stands in a list of its thread.
#pragma once

#include <cstdint>

namespace xenloop {

class Abandonable {
 public:
  Abandonable(const Abandonable&) = delete;
  Abandonable& operator=(const Abandonable&) = delete;

  // Gives back what every scope of this thread holds whose frame lies below `limit`, that is: in
  // frames that will not be returned to. Innermost first; `visit` sees each before.
  template <class Visit>
  static void AbandonBelow(uintptr_t limit, Visit visit) {
    while (innermost_ != nullptr && reinterpret_cast<uintptr_t>(innermost_) < limit) {
      Abandonable* const scope = innermost_;
      innermost_ = nullptr;
      if (scope->self_ != scope) return;  // its memory is used for something else now
      visit(scope);
      innermost_ = scope->outer_;
      scope->self_ = nullptr;
      scope->give_back_(scope);
    }
  }
  static void AbandonAll() {
    AbandonBelow(UINTPTR_MAX, [](Abandonable*) {});
  }
  static bool Any() { return innermost_ != nullptr; }
  static uintptr_t Innermost() { return reinterpret_cast<uintptr_t>(innermost_); }

 protected:
  using GiveBack = void (*)(Abandonable*);

  void Enter(GiveBack give_back) {
    give_back_ = give_back;
    outer_ = innermost_;
    // What is outside the stack is no more: it was left by ways that nobody saw.
    if (outer_ == this || reinterpret_cast<uintptr_t>(outer_) + kRedZone < StackPointer())
      outer_ = nullptr;
    self_ = this;
    Order();
    innermost_ = this;
    Order();
  }
  // The last that has come is the first to leave.
  void Leave() {
    Order();
    innermost_ = outer_;
    self_ = nullptr;
    Order();
  }
  bool Gives(GiveBack give_back) const { return give_back_ == give_back; }
  Abandonable() = default;
  ~Abandonable() = default;

 private:
  static constexpr uintptr_t kRedZone = 128;

  static uintptr_t StackPointer() {
    uintptr_t here = 0;
#if defined(__x86_64__)
    __asm__ __volatile__("mov %%rsp, %0" : "=r"(here));
#elif defined(__aarch64__)
    __asm__ __volatile__("mov %0, sp" : "=r"(here));
#endif
    return here;
  }
  // A handler of this very thread reads the list.
  static void Order() { __asm__ __volatile__("" ::: "memory"); }

  static inline thread_local Abandonable* innermost_ = nullptr;

  const Abandonable* self_ = nullptr;
  Abandonable* outer_ = nullptr;
  GiveBack give_back_ = nullptr;
};

}  // namespace xenloop
