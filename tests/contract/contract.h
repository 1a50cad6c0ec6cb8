// What every transport must do, whatever carries it: the parameters of the suite, and a peer that
// is a thread or a forked process.
#pragma once

#include <functional>
#include <ostream>
#include <string>

#include "channel/transport.h"
#include "gtest/gtest.h"
#include "tests/contract/fake_xen.h"

namespace xenloop {

struct Arrangement {
  const char* name;
  const Transport& (*transport)();
  bool across_processes;
  // What becomes readable at the owner of a doorbell when it is rung.
  int (*heard)(const Doorbell&) = [](const Doorbell& bell) { return bell.fd; };
};
inline void PrintTo(const Arrangement& arrangement, std::ostream* out) { *out << arrangement.name; }

// Runs `peer` beside the test: its result says whether it was content. Join() before the test ends.
class Peer {
 public:
  Peer(bool as_process, const std::function<bool()>& peer);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  bool Join();
  void Kill();  // a process only: at once, as kill -9 does

 private:
  struct Thread;
  Thread* thread_ = nullptr;
  int pid_ = -1;
};

class TransportTest : public testing::TestWithParam<Arrangement> {
 protected:
  static constexpr uint64_t kCapacity = 4096;

  const Transport& transport() const { return GetParam().transport(); }
  bool AcrossProcesses() const { return GetParam().across_processes; }

  // A FIFO mapped by both ends; the second mapping is the peer's, made from the ticket.
  void MakeFifo(uint64_t capacity_bytes, FifoMapping* mine, FifoMapping* theirs) {
    Ticket ticket;
    ASSERT_EQ(transport().create_fifo(capacity_bytes, mine, &ticket), 0);
    ASSERT_EQ(transport().map_fifo(&ticket, theirs), 0);
    ASSERT_NE(mine->memory, nullptr);
  }
  void MakeDoorbell(Doorbell* mine, Doorbell* theirs);
  // The owner's view of a doorbell: where it counts its sleepers, and what becomes readable.
  DoorbellPage& PageOf(const Doorbell& bell) const { return *bell.own_page; }
  static int HeardAt(const Doorbell& bell) { return GetParam().heard(bell); }
};

inline ssize_t Put(const Fifo& fifo, uint64_t& known, const void* bytes, size_t length) {
  const iovec iov{const_cast<void*>(bytes), length};
  IovCursor source(&iov, 1);
  const FifoResult result = fifo.Produce(source, known, 0);
  return result.state == FifoState::kOpen || result.bytes > 0 ? static_cast<ssize_t>(result.bytes)
                                                              : -1;
}
inline ssize_t Take(const Fifo& fifo, void* bytes, size_t length) {
  const iovec iov{bytes, length};
  IovCursor destination(&iov, 1);
  const FifoResult result = fifo.Consume(&destination, length, false);
  return result.state == FifoState::kOpen || result.bytes > 0 ? static_cast<ssize_t>(result.bytes)
                                                              : -1;
}

}  // namespace xenloop
