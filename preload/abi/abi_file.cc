// sendfile, splice, stdio and asynchronous I/O on a socket. libc moves those bytes by calls that
// nobody can see, so all but sendfile and dprintf take the connection back to TCP first.
#include <stdarg.h>

#include "preload/abi/abi.h"
#include "preload/abi/abi_life.h"
#include "preload/libc/errno.h"
#include "preload/side/datagram_side.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/socket/print.h"
#include "preload/socket/socket.h"
#include "preload/socket/transfer.h"

using namespace xenloop;

namespace {

// fclose and freopen write what they hold and close the descriptor by calls of libc's own.
void BeforeStreamClose(FILE* stream) {
  const KeepErrno keep_errno;
  const int fd = fileno(stream);
  if (fd < 0 || !ChangesOurTables(fd)) return;
  fflush(stream);
  BeforeClose(fd);
}

template <class ControlBlock>
void LeaveToAio(const ControlBlock* control) {
  if (control != nullptr)
    FallBackToTcp(control->aio_fildes, Reason::kAsynchronousIo, TcpFor::kGood);
}

// Datagrams that libc or the kernel cuts come behind those that stand in a FIFO.
void SendsUnseen(int fd) {
  if (DatagramSide* const side = FindDatagram(fd)) StopSending(side, Reason::kSendFlags);
}

}  // namespace

XENLOOP_EXPORT ssize_t sendfile(int out_fd, int in_fd, off_t* offset, size_t count) {
  BeforeCallOn(in_fd);
  BeforeCallOn(out_fd);
  FallBackToTcp(in_fd, Reason::kSendfileFrom, TcpFor::kGood, NextWriter::kOurs);
  SendsUnseen(out_fd);
  return SendByOr(
      out_fd, FindSide(out_fd), /*flags=*/0,
      [=](Side* side, const Interruption& interruption) {
        return SendFile(out_fd, side, in_fd, offset, count, interruption);
      },
      [=] { return real::sendfile(out_fd, in_fd, offset, count); });
}
XENLOOP_ALIAS(sendfile64, sendfile);

XENLOOP_EXPORT ssize_t splice(int in_fd, off64_t* in_offset, int out_fd, off64_t* out_offset,
                              size_t length, unsigned flags) {
  BeforeCallOn(in_fd);
  BeforeCallOn(out_fd);
  FallBackToTcp(in_fd, Reason::kSplice, TcpFor::kGood, NextWriter::kOurs);
  FallBackToTcp(out_fd, Reason::kSplice, TcpFor::kGood);
  return real::splice(in_fd, in_offset, out_fd, out_offset, length, flags);
}

XENLOOP_EXPORT int vdprintf(int fd, const char* format, va_list arguments) {
  BeforeCallOn(fd);
  SendsUnseen(fd);
  if (FindSide(fd) == nullptr) return real::vdprintf(fd, format, arguments);
  return Print(fd, 0, format, arguments);
}

XENLOOP_EXPORT int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments) {
  BeforeCallOn(fd);
  SendsUnseen(fd);
  if (FindSide(fd) == nullptr) return real::__vdprintf_chk(fd, flag, format, arguments);
  return Print(fd, flag, format, arguments);
}

XENLOOP_EXPORT int dprintf(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int written = vdprintf(fd, format, arguments);
  va_end(arguments);
  return written;
}

XENLOOP_EXPORT int __dprintf_chk(int fd, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int written = __vdprintf_chk(fd, flag, format, arguments);
  va_end(arguments);
  return written;
}

XENLOOP_EXPORT FILE* fdopen(int fd, const char* mode) {
  FallBackToTcp(fd, Reason::kStdio, TcpFor::kGood);
  return real::fdopen(fd, mode);
}
XENLOOP_ALIAS(_IO_fdopen, fdopen);

XENLOOP_EXPORT FILE* freopen(const char* path, const char* mode, FILE* stream) {
  BeforeStreamClose(stream);
  return StreamMadeBy([=] { return real::freopen(path, mode, stream); });
}
XENLOOP_ALIAS(freopen64, freopen);

XENLOOP_EXPORT int fclose(FILE* stream) {
  BeforeStreamClose(stream);
  return real::fclose(stream);
}
XENLOOP_ALIAS(_IO_fclose, fclose);

XENLOOP_EXPORT int aio_read(aiocb* control) {
  LeaveToAio(control);
  return real::aio_read(control);
}
XENLOOP_ALIAS(aio_read64, aio_read);

XENLOOP_EXPORT int aio_write(aiocb* control) {
  LeaveToAio(control);
  return real::aio_write(control);
}
XENLOOP_ALIAS(aio_write64, aio_write);

XENLOOP_EXPORT int lio_listio(int mode, aiocb* const list[], int count, sigevent* event) {
  for (int i = 0; i < count; ++i) LeaveToAio(list[i]);
  return real::lio_listio(mode, list, count, event);
}
XENLOOP_ALIAS(lio_listio64, lio_listio);
