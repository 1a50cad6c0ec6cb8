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
    while (innermost != nullptr && reinterpret_cast<uintptr_t>(innermost) < limit) {
      Abandonable* const scope = innermost;
      visit(scope);
      innermost = scope->outer_;
      scope->give_back_(scope);
    }
  }
  static void AbandonAll() {
    AbandonBelow(UINTPTR_MAX, [](Abandonable*) {});
  }
  static bool Any() { return innermost != nullptr; }

 protected:
  using GiveBack = void (*)(Abandonable*);

  void Enter(GiveBack give_back) {
    give_back_ = give_back;
    outer_ = innermost;
    // Whoever is deeper than a newcomer is no more: it was left by ways that nobody saw.
    if (reinterpret_cast<uintptr_t>(outer_) <= reinterpret_cast<uintptr_t>(this)) outer_ = nullptr;
    Order();
    innermost = this;
    Order();
  }
  // The last that has come is the first to leave.
  void Leave() {
    Order();
    innermost = outer_;
    Order();
  }
  bool Gives(GiveBack give_back) const { return give_back_ == give_back; }
  Abandonable() = default;
  ~Abandonable() = default;

 private:
  // A handler of this very thread reads the list.
  static void Order() { __asm__ __volatile__("" ::: "memory"); }

  static inline thread_local Abandonable* innermost = nullptr;

  Abandonable* outer_ = nullptr;
  GiveBack give_back_ = nullptr;
};

}  // namespace xenloop
