// Both streams of one direction over a FIFO whose header a hostile peer writes, also in the middle
// of an operation, at each call to the shadow socket. Whatever happens: no byte outside the ring is
// touched, results are within bounds, every operation ends. Until the peer breaks a rule or the
// connection, what has been received is a prefix of what has been sent.
#include <algorithm>
#include <memory>

#include "channel/stream.h"
#include "tests/fuzz/guarded_fifo.h"
#include "tests/simulation/tcp_pipe.h"

namespace xenloop::fuzz {
namespace {

constexpr uint64_t kCapacity = 4096;
constexpr size_t kTcpRoom = 3000;
constexpr Self kSender{1001, 1};
constexpr Self kReceiver{1002, 2};

uint8_t ByteAt(uint64_t position) { return static_cast<uint8_t>(position % 251); }

class World {
 public:
  World(Input& input, GuardedFifo& memory)
      : input_(input), memory_(memory), fifo_(memory.Clear()), tcp_(kTcpRoom, kTcpRoom) {}

  void Step();
  // A call to the shadow socket: the peer and other threads may act now.
  void Interrupt();
  int64_t Count(uint64_t count);  // what TCP_INFO says

  Input& input() { return input_; }
  simulation::TcpPipe& tcp() { return tcp_; }
  bool ours() const { return ours_; }
  bool has_finished() const { return (sent_ & 1) != 0; }  // the receiver's own direction

 private:
  void OtherThreads();
  void Send();
  void Receive();
  void LookForResidue(ssize_t result);
  void Attach();
  void HoldSendLock();
  void HoldReceiveLock();

  Input& input_;
  GuardedFifo& memory_;
  Fifo fifo_;
  simulation::TcpPipe tcp_;
  SendStream send_;
  ReceiveStream receive_;
  bool ours_ = true;
  bool honest_ = true;
  bool interrupting_ = false;
  bool sender_died_ = false;
  uint64_t sent_ = 0;
  uint64_t received_ = 0;
};

struct Shadow {
  World& world;

  bool StillOurs() const {
    world.Interrupt();
    return world.ours();
  }
  void BeforeTcp() const {}
  void PushTcp() const {}
  void Reset() const {}
  ssize_t TrySend(const iovec* iov, size_t count) const {
    world.Interrupt();
    return world.tcp().Send(iov, count);
  }
  ssize_t TryReceive(const iovec* iov, size_t count, int flags) const {
    world.Interrupt();
    return world.tcp().Receive(iov, count, flags);
  }
  int64_t Written() const {
    world.Interrupt();
    return world.Count(world.tcp().written());
  }
  int64_t Read() const {
    world.Interrupt();
    return world.Count(world.tcp().read());
  }
  // A closed connection does not tell whether a FIN is in its count.
  int64_t ReceivedAtLeast() const {
    world.Interrupt();
    const simulation::TcpPipe& tcp = world.tcp();
    const bool doubtful = IsClosed() && !tcp.FinDelivered() && tcp.delivered() > 0;
    return world.Count(tcp.delivered() - (doubtful ? 1 : 0));
  }
  int64_t ReceivedAtMost() const {
    world.Interrupt();
    const simulation::TcpPipe& tcp = world.tcp();
    return world.Count(tcp.delivered() + (IsClosed() && tcp.FinDelivered() ? 1 : 0));
  }
  bool IsClosed() const {
    const simulation::TcpPipe& tcp = world.tcp();
    return tcp.reset() || (tcp.FinDelivered() && world.has_finished());
  }
  bool Ended() const {
    world.Interrupt();
    const simulation::TcpPipe& tcp = world.tcp();
    return tcp.read() == tcp.delivered() && (tcp.FinDelivered() || tcp.reset());
  }
  bool Readable() const {
    world.Interrupt();
    return world.tcp().Readable();
  }
  void Ring(bool, uint32_t) const { world.Interrupt(); }
  void RingAll(bool, uint32_t) const { world.Interrupt(); }
};

void World::Interrupt() {
  if (interrupting_) return;
  interrupting_ = true;
  switch (input_.Below(16)) {
    case 1:
      honest_ = false;
      HostileWrite(input_, fifo_.header, kCapacity);
      break;
    case 2:
      tcp_.Deliver(input_.Short());
      break;
    case 3:
      fifo_.Seal();
      break;
    case 4:
      OtherThreads();
      break;
    default:
      break;
  }
  interrupting_ = false;
}

// At both ends, in the kernel, each as its route allows; and then perhaps the sender's end.
void World::OtherThreads() {
  honest_ = false;  // nobody checks their bytes
  uint8_t bytes[1000] = {};
  const iovec iov{bytes, 1 + input_.Short() % sizeof bytes};
  if (input_.OneIn(2) && send_.route.load() == SendRoute::kTcp) tcp_.Send(&iov, 1);
  if (input_.OneIn(2)) tcp_.Finish();
  tcp_.Deliver(input_.Short());
  if (receive_.route.load() != ReceiveRoute::kTcp) return;
  while (tcp_.Receive(&iov, 1, 0) > 0 && input_.OneIn(2)) {
  }
}

int64_t World::Count(uint64_t count) {
  if (!input_.OneIn(16)) return static_cast<int64_t>(count);
  honest_ = false;  // the kernel gives no count: the program has closed the number
  return -EBADF;
}

void World::Send() {
  const size_t length = 1 + input_.Short() % (kCapacity + 100);
  const std::unique_ptr<uint8_t[]> buffer(new uint8_t[length]);
  for (size_t i = 0; i < length; ++i) buffer[i] = ByteAt(sent_ + i);
  const iovec iov{buffer.get(), length};
  IovCursor source(&iov, 1);
  Shadow shadow{*this};
  const ssize_t sent = send_.TrySend(shadow, source, kSender);
  XENLOOP_REQUIRE(sent <= static_cast<ssize_t>(length));
  XENLOOP_REQUIRE(sent >= 0 || sent == -EAGAIN || sent == -ECONNRESET || sent == kStreamUsesTcp);
  if (sent > 0) sent_ += static_cast<uint64_t>(sent);
  XENLOOP_REQUIRE(source.remaining() == length - static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  if (sent != kStreamUsesTcp || !send_.EnterKernel()) return;
  const ssize_t written = tcp_.Send(&iov, 1);
  if (written > 0) sent_ += static_cast<uint64_t>(written);
  send_.LeaveKernel();
}

void World::Receive() {
  const size_t length = 1 + input_.Short() % (kCapacity + 100);
  const int flags = input_.OneIn(4) ? MSG_PEEK : 0;
  const bool look = input_.OneIn(2);
  const bool discard = input_.OneIn(8);
  const std::unique_ptr<uint8_t[]> buffer(new uint8_t[length]());
  const iovec iov[2] = {{buffer.get(), length / 3},
                        {buffer.get() + length / 3, length - length / 3}};
  IovCursor destination(iov, 2);
  Shadow shadow{*this};
  ssize_t received = receive_.TryReceive(shadow, discard ? nullptr : &destination, length,
                                         flags | (discard ? MSG_TRUNC : 0), look, kReceiver);
  XENLOOP_REQUIRE(received <= static_cast<ssize_t>(length));
  XENLOOP_REQUIRE(received >= 0 || received == -EAGAIN || received == -ECONNRESET ||
                  received == kStreamUsesTcp);
  if (received == kStreamUsesTcp) {
    if (!receive_.EnterKernel(kReceiver)) return;
    received = tcp_.Receive(iov, 2, flags);
    if (received > 0 && flags == 0) receive_.CountTaken(static_cast<uint64_t>(received));
    receive_.LeaveKernel(kReceiver);
    if (received <= 0) return LookForResidue(received);
  }
  if (received <= 0) return;
  for (ssize_t i = 0; i < received && honest_ && !discard; ++i) {
    XENLOOP_REQUIRE(buffer[static_cast<size_t>(i)] == ByteAt(received_ + static_cast<uint64_t>(i)));
  }
  if ((flags & MSG_PEEK) == 0) received_ += static_cast<uint64_t>(received);
  XENLOOP_REQUIRE(!honest_ || received_ <= sent_);
}

// After a receive from TCP without bytes, as LeaveKernelReceive does it. A receive of length 0 gets
// here too, in the middle of a stream.
void World::LookForResidue(ssize_t result) {
  if (result == -EAGAIN && !input_.OneIn(4)) return;
  LockScope scope(receive_.lock, kReceiver.tid);
  Shadow shadow{*this};
  if (receive_.FindDeadResidue(shadow) != DeadResidue::kLost) return;
  XENLOOP_REQUIRE(!honest_ || receive_.tcp_taken.load() >= uint64_t{1} << 48);
  honest_ = false;
}

// As the agents do: only when both ends are on TCP, it is established, and nothing is owed.
void World::Attach() {
  if (honest_ && tcp_.finished()) return;
  Shadow shadow{*this};
  if (send_.route.load() != SendRoute::kTcp || receive_.route.load() != ReceiveRoute::kTcp) return;
  {
    LockScope scope(receive_.lock, kReceiver.tid);
    if (!receive_.ResidueHasCome(shadow)) return;
  }
  fifo_ = memory_.Clear();
  if (!honest_ && input_.OneIn(2)) {
    for (uint32_t i = input_.Below(8); i > 0; --i) HostileWrite(input_, fifo_.header, kCapacity);
  }
  LockScope send(send_.lock, kSender.tid);
  LockScope receive(receive_.lock, kReceiver.tid);
  receive_.BecomeAware(fifo_);
  send_.Offer(fifo_);
}

// What the agent, a fallback and a thread that finds the lock of a dead one do, under the lock.
void World::HoldSendLock() {
  LockScope scope(send_.lock, kSender.tid);
  Shadow shadow{*this};
  switch (input_.Below(4)) {
    case 0:
      send_.BeginFlush(shadow);
      [[fallthrough]];
    case 1:
      send_.PumpResidue(shadow);
      break;
    case 2:
      // A thread has died between the kernel's answer and its own note of it.
      if (send_.route.load() == SendRoute::kFlushing && send_.residue_in_doubt == 0) {
        const uint64_t left = send_.residue_end - send_.residue_begin;
        XENLOOP_REQUIRE(left <= kCapacity);
        const uint64_t offset = send_.residue_begin & (kCapacity - 1);
        const iovec piece{fifo_.data + offset, std::min(left, kCapacity - offset)};
        if (piece.iov_len == 0) break;
        send_.residue_in_doubt = 1;
        tcp_.Send(&piece, 1);
      }
      break;
    default:
      send_.Recover(shadow);
  }
}

void World::HoldReceiveLock() {
  LockScope scope(receive_.lock, kReceiver.tid);
  Shadow shadow{*this};
  switch (input_.Below(8)) {
    case 0:
      receive_.EndFifo(shadow);
      break;
    case 1:
      receive_.ResidueHasCome(shadow);
      break;
    case 2:
      honest_ = false;  // the program has closed: nobody reads what is owed
      receive_.DropResidue();
      break;
    default:
      receive_.Advance(shadow);
  }
}

void World::Step() {
  switch (input_.Below(14)) {
    case 0:
    case 1:
    case 2:
      if (!sender_died_) Send();
      break;
    case 3:
    case 4:
    case 5:
      Receive();
      break;
    case 6:
      if (!sender_died_) Attach();
      break;
    case 7:
      if (!sender_died_) HoldSendLock();
      break;
    case 8:
      HoldReceiveLock();
      break;
    case 9:
      tcp_.Deliver(input_.Short());
      break;
    case 10:
      honest_ = false;
      HostileWrite(input_, fifo_.header, kCapacity);
      break;
    case 11:
      if (input_.OneIn(4)) {
        honest_ = false;
        tcp_.Reset();
      } else if (input_.OneIn(4)) {
        if (send_.route.load() != SendRoute::kTcp)
          honest_ = false;  // a shutdown waits for the flush
        tcp_.Finish();
      } else if (input_.OneIn(4)) {
        ours_ = !ours_;
      }
      break;
    case 12:
      fifo_.Seal();
      break;
    default:
      XENLOOP_REQUIRE(receive_.ReadableBytes(0) <= (uint64_t{1} << 48) + kCapacity);
      send_.FifoBytes();
      receive_.FifoBytes();
  }
  XENLOOP_REQUIRE(receive_.route.load() != ReceiveRoute::kResidue ||
                  receive_.residue_end - receive_.residue_begin <= kCapacity);
  XENLOOP_REQUIRE(memory_.PatternsIntact());
  XENLOOP_REQUIRE(!send_.lock.HeldBy(kSender.tid) && !receive_.lock.HeldBy(kReceiver.tid));
  XENLOOP_REQUIRE(!send_.kernel_users.Any() && !receive_.kernel_users.Any());
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop::fuzz;
  static GuardedFifo memory(kCapacity);
  Input input(bytes, size);
  World world(input, memory);
  for (int step = 0; step < 400 && !input.Empty(); ++step) world.Step();
  return 0;
}
