// Descriptors that travel with a message over a unix socket (SCM_RIGHTS): putting them into one,
// and finding them in one. For the library as for the daemons; decides nothing about who may send
// them.
#pragma once

#include <string.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace xenloop {

// The room of up to kMost descriptors in a message. It must live as long as the message is used.
template <size_t kMost>
class DescriptorRoom {
 public:
  // `message` carries these descriptors; without any it is left as it is.
  void Put(const int* descriptors, size_t count, msghdr* message) {
    if (count == 0) return;
    ForReceiving(message);
    message->msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* rights = CMSG_FIRSTHDR(message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(rights), descriptors, sizeof(int) * count);
  }
  void ForReceiving(msghdr* message) {
    message->msg_control = bytes_;
    message->msg_controllen = sizeof bytes_;
  }

 private:
  alignas(cmsghdr) uint8_t bytes_[CMSG_SPACE(sizeof(int) * kMost)] = {};
};

// Calls `visit` with each descriptor that came with a message the kernel has filled.
template <typename Visit>
void EachDescriptorIn(const msghdr& message, Visit visit) {
  auto* const all = const_cast<msghdr*>(&message);
  for (cmsghdr* part = CMSG_FIRSTHDR(all); part != nullptr; part = CMSG_NXTHDR(all, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS ||
        part->cmsg_len < CMSG_LEN(0))
      continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof descriptor);
      visit(descriptor);
    }
  }
}

}  // namespace xenloop
