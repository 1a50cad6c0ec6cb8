// Descriptors of the library in the program's process: numbers out of the program's way, marked in
// the descriptor table so that the program cannot close them by mistake.
#pragma once

namespace xenloop {

// Moves a descriptor of ours up, above `above`, and marks it; the new number, or -errno.
int MakePrivate(int fd, int above = -1);
void ClosePrivate(int fd);

}  // namespace xenloop
