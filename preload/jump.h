// longjmp out of a signal handler, and with it out of the call that the handler interrupted: what
// that call holds is given back before the jump. A jump that stays within the handler, or one in a
// thread that is in no call of ours, changes nothing.
//
// Other ways out of an interrupted call (setcontext, an exception thrown by a handler) are not
// seen.
#pragma once

#include <setjmp.h>

namespace xenloop {

void BeforeJump(const __jmp_buf_tag* target);

}  // namespace xenloop
