// Descriptors of the library in the program's process: numbers out of the program's way, marked in
// the descriptor table so that the program cannot close them by mistake.
#pragma once

namespace xenloop {

// Moves a descriptor of ours up, above `above`, and marks it; the new number, or -errno.
int MakePrivate(int fd, int above = -1);
// Another number of a socket, out of the program's way and not marked yet, or -errno.
int DuplicateForUs(int fd);
void ClosePrivate(int fd);

}  // namespace xenloop
