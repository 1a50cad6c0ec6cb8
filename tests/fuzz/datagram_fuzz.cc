// A FIFO of datagrams against another end that writes what it likes: into the header and its board,
// into records that have been published, between operations and in the middle of a receive.
// Whatever it writes: nothing outside the ring is touched, results stay within bounds, every call
// ends, and another sender's datagrams come in their order. Until it writes for the first time, all
// datagrams come out as they went in.
#include <deque>
#include <memory>

#include "channel/datagram_receiver.h"
#include "channel/datagram_sender.h"
#include "tests/fuzz/guarded_fifo.h"

namespace xenloop::fuzz {
namespace {

constexpr uint64_t kCapacity = 8192;
constexpr uint32_t kLimit = 832 * 4;

DatagramFifo Cleared(GuardedFifo& memory) {
  DatagramFifo fifo;
  fifo.fifo = memory.Clear();
  return fifo;
}

class DatagramRun {
 public:
  DatagramRun(Input& input, GuardedFifo& bad, GuardedFifo& good)
      : input_(input), bad_memory_(bad), good_memory_(good) {
    bad_ = Cleared(bad);
    good_ = Cleared(good);
    receiver_.queue.SetLimit(kLimit);
    bad_slot_ = receiver_.queue.Attach(bad_);
    good_slot_ = receiver_.queue.Attach(good_);
    sender_.Begin(bad_);
    good_sender_.Begin(good_);
  }

  void Step() {
    flushed_ = 0;
    switch (input_.Below(10)) {
      case 0:
      case 1:
        SendBad();
        break;
      case 2:
        SendGood();
        break;
      case 3:
      case 4:
        Receive();
        break;
      case 5:
      case 6:
        Hostile();
        break;
      case 7:
        kernel_.push_back(0xff);
        break;
      case 8:
        if (input_.OneIn(4)) sender_.Leave(*this);
        if (input_.OneIn(8)) sender_.Settle(*this);
        break;
      default:
        Rare();
    }
    (void)receiver_.Readable();
    (void)receiver_.queue.HasEnded(bad_slot_);
  }

  void Check() const {
    XENLOOP_REQUIRE(bad_memory_.PatternsIntact() && good_memory_.PatternsIntact());
  }

  // The kernel beneath both ends: one byte a datagram, and the other end acts meanwhile.
  ssize_t SendRecord(const iovec* pieces, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; ++i) {
      length += pieces[i].iov_len;
      for (size_t n = 0; n < pieces[i].iov_len; ++n)
        sum_ += static_cast<const uint8_t*>(pieces[i].iov_base)[n];
    }
    XENLOOP_REQUIRE(length <= kCapacity);
    XENLOOP_REQUIRE(++flushed_ <= kCapacity / kRecordAlignment);
    if (input_.OneIn(4)) Hostile();
    return input_.OneIn(8) ? -EAGAIN : static_cast<ssize_t>(length);
  }
  void Wake() {}
  static bool HasItsName() { return true; }
  static bool IsReceiverThere() { return true; }
  ssize_t Peek(IovCursor* destination) {
    if (input_.OneIn(3)) Hostile();
    if (kernel_.empty()) return -EAGAIN;
    if (destination != nullptr && destination->remaining() > 0)
      destination->CopyIn(&kernel_.front(), 1);
    return 1;
  }
  ssize_t Take(IovCursor* destination) {
    if (destination != nullptr && destination->remaining() > 0)
      destination->CopyIn(&kernel_.front(), 1);
    kernel_.pop_front();
    return 1;
  }

 private:
  void SendBad() {
    const size_t length = input_.Short() % 9000;
    const std::unique_ptr<uint8_t[]> buffer(new uint8_t[length]);
    memset(buffer.get(), static_cast<int>(sent_ % 251), length);
    const iovec iov{buffer.get(), length};
    const uint64_t before = sender_.sent;
    sender_.Send(*this, IovCursor(&iov, 1), ++clock_);
    if (sender_.sent == before) return;
    if (honest_) in_bad_.push_back({length, static_cast<uint8_t>(sent_ % 251)});
    ++sent_;
  }
  void SendGood() {
    const iovec iov{&good_sent_, sizeof good_sent_};
    const uint64_t before = good_sender_.sent;
    good_sender_.Send(*this, IovCursor(&iov, 1), ++clock_);
    if (good_sender_.sent != before) ++good_sent_;
  }
  void Receive() {
    const size_t room = input_.OneIn(2) ? 9000 : input_.Byte();
    const std::unique_ptr<uint8_t[]> buffer(new uint8_t[room]());
    const iovec iov{buffer.get(), room};
    IovCursor destination(&iov, 1);
    const bool peek = input_.OneIn(4);
    const bool discard = input_.OneIn(6);
    int from = kFromKernel;
    const ssize_t length = receiver_.Receive(*this, discard ? nullptr : &destination, peek, &from);
    if (length < 0) {
      XENLOOP_REQUIRE(length == -EAGAIN);
      return;
    }
    XENLOOP_REQUIRE(length <= static_cast<ssize_t>(kCapacity));
    XENLOOP_REQUIRE(from == kFromKernel || from == bad_slot_ || from == good_slot_);
    const size_t copied = discard ? 0 : std::min(static_cast<size_t>(length), room);
    if (!discard) XENLOOP_REQUIRE(destination.remaining() == room - copied);
    if (from == good_slot_) {
      // In order, none twice; one that found the queue full is missing.
      uint64_t number = 0;
      XENLOOP_REQUIRE(length == sizeof number);
      if (copied < sizeof number) return;
      memcpy(&number, buffer.get(), sizeof number);
      XENLOOP_REQUIRE(number >= good_next_ && number < good_sent_);
      if (!peek) good_next_ = number + 1;
    } else if (from == bad_slot_ && honest_) {
      while (!in_bad_.empty() && (in_bad_.front().length != static_cast<size_t>(length) ||
                                  (copied > 0 && in_bad_.front().fill != buffer[0])))
        in_bad_.pop_front();  // it has found the queue full
      XENLOOP_REQUIRE(!in_bad_.empty());
      for (size_t i = 0; i < copied; ++i) XENLOOP_REQUIRE(buffer[i] == in_bad_.front().fill);
      if (!peek) in_bad_.pop_front();
    }
  }
  // One write of an end that keeps no rule.
  void Hostile() {
    honest_ = false;
    DatagramBoard& board = bad_.board();
    switch (input_.Below(8)) {
      case 0:
        return board.released.store(input_.OneIn(2) ? input_.Word() : input_.Short());
      case 1:
        return board.limit_bytes.store(static_cast<uint32_t>(input_.Word()));
      case 2:
        return board.residue.store(static_cast<Residue>(input_.Below(7)));
      case 3:
      case 4: {  // a record's head, where one may begin
        DatagramRecord record{
            input_.OneIn(2) ? input_.Short() : static_cast<uint32_t>(input_.Word()),
            input_.OneIn(8) ? input_.Byte() : 0u,
            input_.OneIn(2) ? clock_ + input_.Byte() : input_.Word()};
        uint64_t at = input_.OneIn(2) ? IndexOf(bad_.fifo.header->consumer.load())
                                      : uint64_t{input_.Short()} * kRecordAlignment;
        at = at / kRecordAlignment * kRecordAlignment % kCapacity;
        memcpy(bad_.fifo.data + at, &record, sizeof record);
        return;
      }
      default:
        HostileWrite(input_, bad_.fifo.header, kCapacity);
    }
  }
  void Rare() {
    switch (input_.Below(8)) {
      case 0:
        receiver_.Recover();
        in_bad_.clear();
        honest_ = false;
        break;
      case 1:
        receiver_.queue.End(bad_slot_);
        break;
      case 2:
        if (bad_.Decide(Residue::kWanted)) {
          bad_.SealBoth();
          sender_.Settle(*this);
        }
        honest_ = false;
        break;
      case 3:
        receiver_.queue.Admit();
        break;
      default:
        sender_.Settle(*this);
    }
  }

  struct Waiting {
    size_t length;
    uint8_t fill;
  };
  Input& input_;
  GuardedFifo& bad_memory_;
  GuardedFifo& good_memory_;
  DatagramFifo bad_;
  DatagramFifo good_;
  DatagramReceiver receiver_;
  DatagramSender sender_;
  DatagramSender good_sender_;
  int bad_slot_ = -1;
  int good_slot_ = -1;
  std::deque<uint8_t> kernel_;
  std::deque<Waiting> in_bad_;
  bool honest_ = true;
  uint64_t clock_ = 0;
  uint64_t sent_ = 0;
  uint64_t good_sent_ = 0;
  uint64_t good_next_ = 0;
  uint64_t flushed_ = 0;
  uint64_t sum_ = 0;
};

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop::fuzz;
  static GuardedFifo bad(kCapacity);
  static GuardedFifo good(kCapacity);
  Input input(bytes, size);
  DatagramRun run(input, bad, good);
  for (int step = 0; step < 300 && !input.Empty(); ++step) run.Step();
  run.Check();
  return 0;
}
