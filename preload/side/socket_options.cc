// See socket_options.h.
#include "preload/side/socket_options.h"

#include <asm/socket.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

// Instead of an option's name: asked in a way of their own.
constexpr int kAskFilter = -1;
constexpr int kAskUpperLayer = -2;

struct KernelOption {
  int level;
  int name;
  int ask;
  int unset;
  Reason reason;
};

constexpr KernelOption kKernelOptions[] = {
#define OPTION(level, name, treatment)
#define KERNEL(level, name, ask, unset, reason) {level, name, ask, unset, Reason::reason},
#include "preload/side/socket_options.def"
#undef OPTION
#undef KERNEL
};

long Ask(int fd, int level, int name, void* value, uint32_t* length) {
  return sys::Call(SYS_getsockopt, fd, level, name, sys::Word(value), sys::Word(length));
}

// How many instructions its filter has; one from bpf(2) is not told, but refused.
bool HasFilter(int fd) {
  uint32_t instructions = 0;
  const long result = Ask(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &instructions);
  return result == -EACCES || (result == 0 && instructions != 0);
}

bool HasUpperLayer(int fd) {
  char name[16];
  uint32_t length = sizeof name;
  return Ask(fd, IPPROTO_TCP, TCP_ULP, name, &length) == 0 && length != 0;
}

bool IsSet(int fd, const KernelOption& option) {
  if (option.ask == kAskFilter) return HasFilter(fd);
  if (option.ask == kAskUpperLayer) return HasUpperLayer(fd);
  int value = option.unset;
  uint32_t length = sizeof value;
  return Ask(fd, option.level, option.ask, &value, &length) == 0 && value != option.unset;
}

}  // namespace

Reason ReasonAgainstOption(int level, int name) {
  for (const KernelOption& option : kKernelOptions) {
    if (option.level == level && option.name == name) return option.reason;
  }
  return Reason::kNone;
}

Reason AskOptions(int fd) {
  const KernelOption* before = nullptr;
  for (const KernelOption& option : kKernelOptions) {
    // Names for one and the same option stand side by side.
    const bool again =
        before != nullptr && before->ask == option.ask && before->level == option.level;
    before = &option;
    if (!again && IsSet(fd, option)) return option.reason;
  }
  return Reason::kNone;
}

}  // namespace xenloop
