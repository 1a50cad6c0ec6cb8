// See held_options.h.
#include "preload/side/held_options.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include "preload/side/fd_table.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/side.h"

namespace xenloop {
namespace {

using Value = HeldOptions::Value;

int TellKernel(int fd, int name, Value value) {
  const int on = value == Value::kOn ? 1 : 0;
  return static_cast<int>(
      sys::Call(SYS_setsockopt, fd, IPPROTO_TCP, name, sys::Word(&on), sizeof on));
}

void Tell(int fd, int name, HeldOptions::Option* option) {
  if (option->wanted != option->in_kernel) TellKernel(fd, name, option->wanted);
  *option = {};
}

}  // namespace

bool HoldOption(int fd, Side* side, int name, bool on, int* result) {
  if (name != TCP_CORK && name != TCP_NODELAY) return false;
  if (side->send.route.load(std::memory_order_acquire) != SendRoute::kFifo) return false;
  const LockScope scope(side->send.lock, CurrentTid());
  if (side->send.route.load(std::memory_order_relaxed) != SendRoute::kFifo || FindSide(fd) != side)
    return false;
  HeldOptions::Option& option = name == TCP_CORK ? side->held.cork : side->held.nodelay;
  if (scope.result() != LockResult::kAcquired) {  // half a change may stand there
    option = {};
    return false;
  }
  const Value value = on ? Value::kOn : Value::kOff;
  const Value lets_go = name == TCP_CORK ? Value::kOff : Value::kOn;
  *result = 0;
  if (option.in_kernel == Value::kUnknown || (value == lets_go && option.in_kernel != value)) {
    *result = TellKernel(fd, name, value);
    if (*result != 0) return true;
    option.in_kernel = value;
  }
  option.wanted = value;
  return true;
}

void TellHeldOptions(int fd, Side* side) {
  Tell(fd, TCP_NODELAY, &side->held.nodelay);
  Tell(fd, TCP_CORK, &side->held.cork);
}

void PushHeldBack(int fd) {
  tcp_info info;
  if (TcpInfoOf(fd, &info) != 0 || info.tcpi_notsent_bytes == 0) return;
  int on = 0;
  socklen_t length = sizeof on;
  if (sys::Call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_NODELAY, sys::Word(&on), sys::Word(&length)) !=
      0)
    return;
  // To switch it on pushes what is queued, under a cork too; to switch it off again takes nothing
  // back (net/ipv4/tcp.c, __tcp_sock_set_nodelay).
  TellKernel(fd, TCP_NODELAY, Value::kOn);
  if (on == 0) TellKernel(fd, TCP_NODELAY, Value::kOff);
}

}  // namespace xenloop
