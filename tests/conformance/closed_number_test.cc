// A number that the program has closed means nothing, whatever the library makes and closes in the
// same process meanwhile: the calls say so, and touch nothing. (All but a call that loses its
// processor at the very moment when it enters the kernel, D-5.)

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <functional>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class ClosedNumberTest : public PairTest {
 protected:
  // Calls on a closed number, the smallest that is free.
  void ExpectRefused(const std::function<ssize_t(int)>& call) {
    constexpr int kCalls = 30000;
    constexpr int kUnlucky = 3;
    const int number = dup(fd());
    close(number);
    const SwitchStorm storm(fd());
    int met_another = 0;
    for (int i = 0; i < kCalls; ++i) {
      errno = 0;
      if (call(number) != -1 || errno != EBADF) ++met_another;
    }
    EXPECT_LE(met_another, CurrentMode() == Mode::kNative ? 0 : kUnlucky);
  }
};
INSTANTIATE_TEST_SUITE_P(, ClosedNumberTest, OneOfEachPlace(), VariantName);

TEST_P(ClosedNumberTest, Receives) {
  char byte;
  iovec part = {&byte, 1};
  ExpectRefused([&](int fd) { return read(fd, &byte, 1); });
  ExpectRefused([&](int fd) { return readv(fd, &part, 1); });
  ExpectRefused([&](int fd) { return recv(fd, &byte, 1, MSG_DONTWAIT); });
  pair().ExpectBothWaysWork();
}

TEST_P(ClosedNumberTest, Sends) {
  const char byte = 'x';
  iovec part = {const_cast<char*>(&byte), 1};
  ExpectRefused([&](int fd) { return write(fd, &byte, 1); });
  ExpectRefused([&](int fd) { return writev(fd, &part, 1); });
  ExpectRefused([&](int fd) { return send(fd, &byte, 1, MSG_DONTWAIT); });
  pair().ExpectBothWaysWork();
}

}  // namespace
}  // namespace conformance
