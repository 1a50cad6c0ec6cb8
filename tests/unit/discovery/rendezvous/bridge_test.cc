// Packets between an agent and the daemon: what comes with one more descriptor than was asked for.
#include "discovery/daemon/rendezvous/bridge.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

size_t OpenDescriptors() {
  const auto all = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

TEST(ReadPacket, TakesOneDescriptorAndKeepsNoSecond) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const int gifts[3] = {open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY), ends[0]};
  for (size_t count = 0; count <= 3; ++count) {
    ASSERT_TRUE(WritePacket(ends[0], ControlMessage{}, gifts, count));
    const size_t before = OpenDescriptors();
    ControlMessage message;
    int descriptor = -1;
    EXPECT_EQ(ReadPacket(ends[1], &message, &descriptor), static_cast<ssize_t>(sizeof message));
    EXPECT_EQ(descriptor >= 0, count > 0) << count;
    if (descriptor >= 0) close(descriptor);
    EXPECT_EQ(OpenDescriptors(), before) << count << " came, and one of them is still open";
  }
  for (const int fd : {gifts[0], gifts[1], ends[0], ends[1]}) close(fd);
}

}  // namespace
}  // namespace xenloop
