// The program's signal handlers are entered through us, so that a wait of ours learns of them
// (side/interruption.h). What the program sees is its own: handler, flags and mask.
#pragma once

#include <signal.h>

#include <cstdint>

namespace xenloop {

// What differs between an action as the program wants it and as the kernel has it.
struct HandlerAction {
  uintptr_t handler;
  uint64_t flags;
};

// One call that changes the action of a signal. Lives in its frame.
class HandlerChange {
 public:
  // `wanted`: as the program gave it, becomes what the kernel is to have; null: it only asks.
  HandlerChange(int signal, HandlerAction* wanted);
  // Behind AsProgramsOwn() of what was there before.
  void Succeeded() const;

 private:
  static constexpr int kKeep = -2;
  const int signal_;
  int entry_;  // kKeep: we note nothing; -1: none of ours
};

// `found`: as the kernel has it, becomes what the program has given.
void AsProgramsOwn(int signal, HandlerAction* found);

// Behind libc's siginterrupt(), which changes SA_RESTART of what is installed.
void RestartsChanged(int signal, const HandlerAction& installed);
// What siginterrupt() has decided for signal().
void SetInterrupts(int signal, bool interrupts);
bool Interrupts(int signal);

}  // namespace xenloop
