// Messages: recvmsg, sendmsg and their plural forms, which are loops over the singular ones with
// the kernel's rules for when to stop. Results are those of libc: -1 and errno.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

namespace xenloop {

struct Side;

// preadv2 and pwritev2 at offset -1 are readv and writev: their flags as those of a message. Flags
// nobody knows yet take the bytes back to TCP first.
int MessageFlags(int fd, int flags);

ssize_t ReceiveMessage(int fd, Side* side, msghdr* message, int flags);
int ReceiveMessages(int fd, Side* side, mmsghdr* messages, unsigned count, int flags,
                    timespec* timeout);
// `side` may be null: for the sockets of ours that the message carries (passing.h).
ssize_t SendMessage(int fd, Side* side, const msghdr* message, int flags);
int SendMessages(int fd, Side* side, mmsghdr* messages, unsigned count, int flags);

}  // namespace xenloop
