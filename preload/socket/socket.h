// What the ABI layer (abi_*.cc) may ask of the semantics layer about a socket, but for its bytes
// (transfer.h, message.h, print.h): every libc call that can touch an accelerated socket has one
// function here. Results are bytes or 0, or -errno; kUseKernel means "make the real call, as if we
// were not here". This file decides nothing.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace xenloop {

// "Make the real call": no errno has this value (the kernel's stop at 4095).
inline constexpr ssize_t kUseKernel = -100000;

struct Handover;  // see discovery/handover.h
struct Side;      // one end of one TCP connection; see side.h

// ---- life of descriptors (fd_life.cc) ----
void SocketCreated(int fd, int domain, int type, int protocol);  // after a successful socket()
void SocketConnected(int fd);                     // after connect() returned 0 or EINPROGRESS
void SocketAccepted(int fd, sa_family_t family);  // after accept*() returned fd
// Connected, and inherited over exec or received in a message: as the note says, which stands under
// `key` in the table of `uid`. False: it is not followed.
bool SocketAdopted(int fd, const Handover& note, int32_t key, uid_t uid);
// A TCP socket that has come without a note.
void SocketReceived(int fd);
// True if closing `fd` needs BeforeClose (is a side, an epoll set or one of our own descriptors).
bool CloseConcernsUs(int fd);
// The kernel has given a number away of which that is true: what it meant was closed unseen.
void NumberIsNew(int fd);
// An epoll set, while a filter may stand: it is forgotten by whoever may have closed it, be it a
// vfork child, and a duplicate of it is not followed.
bool IsSetInDoubt(int fd);
// Before a close (or before dup2/dup3 silently closes `fd`): lets go of the side; does everything
// but the close itself. Returns 0: go on with the real close; -EBADF: `fd` is a private descriptor
// of ours, say EBADF to the program.
int BeforeClose(int fd);
// close_range(2)/closefrom(3): does BeforeClose on every followed descriptor, spares our private
// ones by making the real close_range calls around them. flags as close_range. -errno.
int CloseRange(unsigned first, unsigned last, int flags);
// Before dup2/dup3 onto a private descriptor of ours (BeforeClose said -EBADF): moves ours
// elsewhere. 0 or -errno.
int MakeRoomAt(int fd);
void Duplicated(int from, int to);  // after dup/dup2/dup3/F_DUPFD* returned `to`
// In a vfork child: it gives `fd` another number, or takes its close-on-exec away, and the program
// that it becomes will use it without us.
void KeptForAnotherProgram(int fd);

// ---- options and state (options.cc) ----
// Before shutdown(2): orders what the FIFO holds; always followed by the real call, then
// AfterShutdown. True: all is done or will be done by the agent, the call succeeds without the real
// one.
bool BeforeShutdown(int fd, Side* side, int how);
void AfterShutdown(int fd, Side* side, int how, bool done);
// After a successful setsockopt (remembers what changes the data path, falls back for what we
// cannot follow). BeforeSetOption is called first: returns kUseKernel to go on, anything else is
// the result (-errno) of the call.
ssize_t BeforeSetOption(int fd, Side* side, int level, int name, const void* value,
                        socklen_t length);
void AfterSetOption(int fd, Side* side, int level, int name, const void* value, socklen_t length);
// kUseKernel: make the real call (then AfterGetOption); else the result.
ssize_t BeforeGetOption(int fd, Side* side, int level, int name, void* value, socklen_t* length);
void AfterGetOption(int fd, Side* side, int level, int name, void* value, socklen_t* length);
// bpf(2): falls back for a socket that is put into a map of sockets.
void BeforeBpf(int command, const void* attributes, size_t size);
// ioctl: FIONREAD/SIOCINQ on an accelerated socket gives 0 and *argument; kUseKernel otherwise.
ssize_t BeforeIoctl(int fd, Side* side, unsigned long request, void* argument);
// TCP_INQ: what a recvmsg that did not end in the kernel has to tell; or kNothingToTell.
inline constexpr int kNothingToTell = -1;
int BytesLeftToTell(int fd, Side* side);
void AfterIoctl(int fd, Side* side, unsigned long request, void* argument);  // FIONBIO
void AfterSetFlags(int fd, Side* side, int flags);                           // fcntl F_SETFL

}  // namespace xenloop
