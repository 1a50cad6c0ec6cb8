// A FIFO of datagrams in plain memory, short ways to send and take by it, and a kernel's queue for
// the code that chooses between the two.
#pragma once

#include <algorithm>
#include <deque>
#include <string>

#include "channel/datagram_receiver.h"
#include "channel/datagram_sender.h"
#include "tests/unit/channel/fifo_fixture.h"

namespace xenloop {

inline constexpr uint32_t kDefaultBuffer = 212992;  // SO_RCVBUF of a fresh socket

class PlainDatagrams {
 public:
  explicit PlainDatagrams(uint64_t capacity_bytes = 256 << 10) : memory(capacity_bytes) {
    fifo.fifo = memory.fifo;
    fifo.board().limit_bytes.store(kDefaultBuffer);
  }
  PutResult Put(const std::string& text, uint64_t stamp = 0) {
    const iovec iov{const_cast<char*>(text.data()), text.size()};
    return fifo.Put(IovCursor(&iov, 1), stamp, account);
  }
  // The next datagram, or what there is instead of one.
  std::string Take(bool peek = false) {
    DatagramView view;
    const LookResult look = Look(&view);
    if (look != LookResult::kHere) return look == LookResult::kCorrupt ? "corrupt" : "none";
    std::string text(view.length, '?');
    const iovec iov{text.data(), text.size()};
    IovCursor destination(&iov, 1);
    const LookResult result = fifo.Take(view, &destination, peek, released);
    return result == LookResult::kHere ? text : "sealed";
  }
  LookResult Look(DatagramView* view) {
    uint64_t at;
    return fifo.Position(&at) ? fifo.LookAt(at, view) : LookResult::kSealed;
  }
  FifoHeader* header() const { return memory.header(); }

  PlainFifo memory;
  DatagramFifo fifo;
  PutAccount account;
  uint64_t released = 0;
};

// The kernel beneath both ends: a queue that never drops, and errors that wait.
struct PlainKernel {
  std::deque<std::string> queue;
  std::deque<int> errors;  // of the sending socket
  int woken = 0;
  bool has_its_name = true;
  bool receiver_is_there = true;

  ssize_t SendRecord(const iovec* pieces, size_t count) {
    if (!errors.empty()) {
      const int error = errors.front();
      errors.pop_front();
      return -error;
    }
    std::string text;
    for (size_t i = 0; i < count; ++i)
      text.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
    queue.push_back(text);
    return static_cast<ssize_t>(text.size());
  }
  void Wake() { ++woken; }
  bool HasItsName() const { return has_its_name; }
  bool IsReceiverThere() const { return receiver_is_there; }
  ssize_t Peek(IovCursor* destination) {
    if (queue.empty()) return -EAGAIN;
    const std::string& first = queue.front();
    if (destination != nullptr) {
      destination->CopyIn(reinterpret_cast<const uint8_t*>(first.data()),
                          std::min(first.size(), destination->remaining()));
    }
    return static_cast<ssize_t>(first.size());
  }
  ssize_t Take(IovCursor* destination) {
    const ssize_t length = Peek(destination);
    if (length >= 0) queue.pop_front();
    return length;
  }
};

// The next datagram of a receiver, as much of it as fits; "none" if there is none.
inline std::string ReceiveFrom(DatagramReceiver& receiver, PlainKernel& kernel, bool peek = false,
                               size_t room = 65535, ssize_t* length = nullptr,
                               int* from = nullptr) {
  std::string text(room, '?');
  const iovec iov{text.data(), room};
  IovCursor destination(&iov, 1);
  int origin = kFromKernel;
  const ssize_t result = receiver.Receive(kernel, &destination, peek, &origin);
  if (length != nullptr) *length = result;
  if (from != nullptr) *from = origin;
  if (result == -EAGAIN) return "none";
  if (result < 0) return "error " + std::to_string(-result);
  text.resize(std::min(room, static_cast<size_t>(result)));
  return text;
}

}  // namespace xenloop
