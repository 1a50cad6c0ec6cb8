// The jumps of libc: a signal handler may leave a call of ours by one of them.
#include "preload/abi/abi.h"
#include "preload/process/jump.h"

using namespace xenloop;

XENLOOP_EXPORT void longjmp(jmp_buf target, int value) noexcept {
  BeforeJump(target);
  real::longjmp(target, value);
  __builtin_unreachable();
}

XENLOOP_EXPORT void _longjmp(jmp_buf target, int value) noexcept {
  BeforeJump(target);
  real::_longjmp(target, value);
  __builtin_unreachable();
}

XENLOOP_EXPORT void siglongjmp(sigjmp_buf target, int value) noexcept {
  BeforeJump(target);
  real::siglongjmp(target, value);
  __builtin_unreachable();
}

XENLOOP_EXPORT void __longjmp_chk(jmp_buf target, int value) noexcept {
  BeforeJump(target);
  real::__longjmp_chk(target, value);
  __builtin_unreachable();
}

XENLOOP_EXPORT int setcontext(const ucontext_t* target) noexcept {
  BeforeSetContext(target);
  return real::setcontext(target);
}
