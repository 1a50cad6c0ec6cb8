// Both ends of one direction, over memory and a scripted kernel.
#pragma once

#include <string>

#include "channel/stream.h"
#include "gtest/gtest.h"
#include "tests/unit/channel/fifo_fixture.h"
#include "tests/unit/channel/scripted_shadow.h"

namespace xenloop {

inline constexpr Self kSelf{11, 1};
inline constexpr Self kAgent{12, 1};
inline constexpr uint32_t kDeadThread = 0x3fffffff;

inline ssize_t SendText(SendStream& stream, ScriptedShadow& shadow, const std::string& text,
                        Self self = kSelf) {
  const iovec iov{const_cast<char*>(text.data()), text.size()};
  IovCursor source(&iov, 1);
  return stream.TrySend(shadow, source, self);
}
inline std::string ReceiveText(ReceiveStream& stream, ScriptedShadow& shadow, size_t limit,
                               ssize_t* result = nullptr) {
  std::string text(limit, '?');
  const iovec iov{text.data(), limit};
  IovCursor destination(&iov, 1);
  const ssize_t received = stream.TryReceive(shadow, &destination, limit, 0, /*look=*/true, kSelf);
  if (result != nullptr) *result = received;
  text.resize(received > 0 ? static_cast<size_t>(received) : 0);
  return text;
}

class StreamTest : public testing::Test {
 protected:
  // The sender's end goes over to the FIFO; `before` bytes have gone by TCP.
  void UpgradeSender(int64_t before = 0) {
    shadow_.written_before = before;
    send_.Offer(memory_.fifo);
    memory_.header()->consumer_ready.store(1);
    ASSERT_EQ(SendText(send_, shadow_, "x"), 0);  // has switched; nothing was sent
    ASSERT_EQ(send_.route.load(), SendRoute::kFifo);
    ASSERT_EQ(memory_.header()->switch_offset.load(), static_cast<uint64_t>(before));
  }
  PlainFifo memory_{4096};
  SendStream send_;
  ReceiveStream receive_;
  ScriptedShadow shadow_;
};

}  // namespace xenloop
