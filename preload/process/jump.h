// longjmp or setcontext out of a signal handler, and with it out of the call that the handler
// interrupted: what that call holds is given back before the jump. A jump that stays within the
// handler, or one in a thread that is in no call of ours, changes nothing.
//
// A context may lie on another stack; the interrupted call then stays as it is, since the program
// may come back to it (swapcontext always can). An exception thrown by a handler is not seen.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

namespace xenloop {

void BeforeJump(const __jmp_buf_tag* target);
void BeforeSetContext(const ucontext_t* target);

}  // namespace xenloop
