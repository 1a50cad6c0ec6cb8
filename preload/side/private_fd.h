// Descriptors of the library in the program's process: numbers out of the program's way, marked in
// the descriptor table so that the program cannot close them by mistake.
#pragma once

#include "channel/base/descriptor.h"

namespace xenloop {

// Moves a descriptor of ours up, above `above`, and marks it; the new number, or -errno.
int MakePrivate(int fd, int above = -1);
// A system call that makes a descriptor of ours, likewise. In a child that is forked meanwhile it
// is not, or is known as its parent's.
template <typename... Arguments>
int MakePrivateBy(long number, Arguments... arguments) {
  const sys::LowNumber low;
  return MakePrivate(static_cast<int>(sys::Call(number, arguments...)));
}
// Another number of a socket, out of the program's way and not marked yet, or -errno.
int DuplicateForUs(int fd);
void ClosePrivate(int fd);

}  // namespace xenloop
