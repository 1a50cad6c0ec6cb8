// See leaving.h.
#include "preload/side/leaving.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// The attempt of this process: its number, whose upper half is that of the network namespace in
// which the name is held, and the socket that holds it.
struct Attempt {
  uint64_t number = 0;  // 0: none
  int fd = -1;
};
Attempt attempt;
constexpr uint64_t kNamespaceBits = ~0ull << 32;

// In the place of those bits. 0: it is not known.
uint64_t NetworkNamespace() {
  struct stat here;
  return sys::Call(SYS_newfstatat, AT_FDCWD, sys::Word("/proc/thread-self/ns/net"),
                   sys::Word(&here), 0) == 0
             ? here.st_ino << 32
             : 0;
}

// A socket that holds the name of an attempt, or -errno.
int Hold(uint64_t number) {
  const int fd =
      static_cast<int>(sys::MakeDescriptor(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd < 0) return fd;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  constexpr char kPrefix[] = "\0xenloop exec ";
  constexpr size_t kPrefixBytes = sizeof kPrefix - 1;
  memcpy(name.sun_path, kPrefix, kPrefixBytes);
  memcpy(name.sun_path + kPrefixBytes, &number, sizeof number);
  const auto length = offsetof(sockaddr_un, sun_path) + kPrefixBytes + sizeof number;
  const long result = sys::Call(SYS_bind, fd, sys::Word(&name), static_cast<long>(length));
  if (result == 0) return fd;
  sys::Close(fd);
  return static_cast<int>(result);
}

}  // namespace

bool BeginLeaving(Side* side) {
  if (MayComeBack(side)) return false;
  if (attempt.number == 0) {
    const uint64_t where = NetworkNamespace();
    const uint64_t moment = sys::MonotonicNs() ^ static_cast<uint64_t>(process_state.pid) << 16;
    const uint64_t number = where | (moment & ~kNamespaceBits);
    const int fd = where == 0 ? -ENOENT : Hold(number);
    if (fd < 0) return false;
    attempt = Attempt{number, fd};
  }
  uint64_t nobody = 0;
  // seq_cst: before our look at `handed_pid`; pairs with the order that MayComeBack asks for.
  return side->leaving.compare_exchange_strong(nobody, attempt.number, std::memory_order_seq_cst);
}

void EndLeaving(Side* side) {
  uint64_t ours = attempt.number;
  if (ours != 0) side->leaving.compare_exchange_strong(ours, 0, std::memory_order_seq_cst);
}

void EndLeavingAll() {
  if (attempt.number == 0) return;
  sys::Close(attempt.fd);
  attempt = Attempt{};
}

bool MayComeBack(Side* side) {
  uint64_t number = side->leaving.load(std::memory_order_seq_cst);
  if (number == 0) return false;
  if ((number & kNamespaceBits) != NetworkNamespace()) return true;
  const int fd = Hold(number);
  if (fd < 0) return true;
  sys::Close(fd);
  side->leaving.compare_exchange_strong(number, 0, std::memory_order_seq_cst);
  return side->leaving.load(std::memory_order_seq_cst) != 0;
}

}  // namespace xenloop
