// Both ends of a FIFO against a peer that writes what it likes into the header, between operations
// and in the middle of one. Whatever it writes: no byte outside the ring is touched, results stay
// within bounds, and every operation ends. Until it writes for the first time the bytes must come
// out as they went in.
#include <memory>

#include "tests/fuzz/guarded_fifo.h"

namespace xenloop::fuzz {
namespace {

uint8_t ByteAt(uint64_t position) { return static_cast<uint8_t>(position % 251); }

class FifoRun {
 public:
  FifoRun(Input& input, GuardedFifo& memory, uint64_t capacity_bytes)
      : input_(input), memory_(memory), capacity_(capacity_bytes), fifo_(memory.Clear()) {}

  void Step() {
    switch (input_.Below(9)) {
      case 0:
      case 1:
        Produce();
        break;
      case 2:
      case 3:
        Consume();
        break;
      case 4:
      case 5:
        honest_ = false;
        HostileWrite(input_, fifo_.header, capacity_);
        break;
      case 6:
        SealOrWake();
        break;
      case 7:
        Adopt();
        break;
      default:
        ConsumeWhileThePeerWrites();
    }
    XENLOOP_REQUIRE(memory_.PatternsIntact());
    XENLOOP_REQUIRE(fifo_.AvailableBytes() <= capacity_);
    XENLOOP_REQUIRE(fifo_.FreeBytes() <= capacity_);
    if (!honest_) return;
    XENLOOP_REQUIRE(fifo_.AvailableBytes() == produced_ - consumed_);
    XENLOOP_REQUIRE(fifo_.FreeBytes() == capacity_ - (produced_ - consumed_));
    XENLOOP_REQUIRE(fifo_.Sealed() == sealed_);
  }

 private:
  // Memory of exactly that size, so that the address sanitizer guards its ends.
  static std::unique_ptr<uint8_t[]> Buffer(size_t size) {
    return std::unique_ptr<uint8_t[]>(new uint8_t[size]());
  }
  // `size` bytes in up to three vectors, some of them empty.
  void Split(uint8_t* buffer, size_t size, iovec (&vectors)[3]) {
    const size_t first = size > 0 && input_.OneIn(2) ? input_.Below(65536) % size : 0;
    const size_t second = input_.OneIn(2) ? (size - first) / 2 : 0;
    vectors[0] = {buffer, first};
    vectors[1] = {buffer + first, second};
    vectors[2] = {buffer + first + second, size - first - second};
  }
  size_t Length() { return input_.Short() % (capacity_ + 100); }
  uint64_t Free() const { return capacity_ - (produced_ - consumed_); }

  void Produce() {
    const size_t length = Length();
    const auto buffer = Buffer(length);
    for (size_t i = 0; i < length; ++i) buffer[i] = ByteAt(produced_ + i);
    iovec vectors[3];
    Split(buffer.get(), length, vectors);
    IovCursor source(vectors, 3);
    const FifoResult result = fifo_.Produce(source, known_consumer_, input_.Byte());
    // More than the capacity, if a hostile consumer has claimed beforehand to have consumed what is
    // published only now.
    XENLOOP_REQUIRE(result.bytes <= length);
    XENLOOP_REQUIRE(source.remaining() == length - result.bytes);
    if (!honest_) return;
    XENLOOP_REQUIRE(result.bytes == (sealed_ ? 0 : std::min<uint64_t>(length, Free())));
    XENLOOP_REQUIRE((result.state == FifoState::kSealed) == (sealed_ && length > 0));
    produced_ += result.bytes;
  }

  void Consume() {
    const size_t length = Length();
    const bool peek = input_.OneIn(3);
    const bool discard = input_.OneIn(4);
    const auto buffer = Buffer(length);
    iovec vectors[3];
    Split(buffer.get(), length, vectors);
    IovCursor destination(vectors, 3);
    const FifoResult result = fifo_.Consume(discard ? nullptr : &destination, length, peek);
    XENLOOP_REQUIRE(result.bytes <= length && result.bytes <= capacity_);
    XENLOOP_REQUIRE(destination.remaining() == length - (peek || discard ? 0 : result.bytes));
    if (!honest_) return;
    XENLOOP_REQUIRE(result.state != FifoState::kCorrupt);
    XENLOOP_REQUIRE(result.bytes ==
                    (sealed_ ? 0 : std::min<uint64_t>(length, produced_ - consumed_)));
    for (size_t i = 0; i < result.bytes && !discard; ++i) {
      XENLOOP_REQUIRE(buffer[i] == ByteAt(consumed_ + i));
    }
    if (!peek) consumed_ += result.bytes;
  }

  // The race between our copy and our compare-and-swap, made repeatable: one of the vectors is the
  // consumer's word itself, so what is in the ring, which is the peer's choice, becomes the index.
  void ConsumeWhileThePeerWrites() {
    honest_ = false;
    uint64_t bait[4];
    for (uint64_t& word : bait) word = HostileIndexWord(input_, *fifo_.header, capacity_);
    for (size_t at = 0; at + sizeof bait <= capacity_; at += sizeof bait) {
      memcpy(fifo_.data + at, bait, sizeof bait);
    }
    const size_t before = input_.Below(64);
    const size_t after = input_.Below(64);
    const auto buffer = Buffer(before + after);
    const iovec vectors[3] = {
        {buffer.get(), before}, {&fifo_.header->consumer, 8}, {buffer.get() + before, after}};
    IovCursor destination(vectors, 3);
    const FifoResult result =
        fifo_.Consume(&destination, before + 8 + after, /*peek=*/input_.OneIn(2));
    XENLOOP_REQUIRE(result.bytes <= before + 8 + after);
  }

  void SealOrWake() {
    FifoHeader* header = fifo_.header;
    auto& waiting = input_.OneIn(2) ? header->consumer_waiting : header->producer_waiting;
    switch (input_.Below(5)) {
      case 0:
        fifo_.Seal();
        sealed_ = true;
        XENLOOP_REQUIRE(fifo_.Sealed() && fifo_.Ended());
        break;
      case 1:
        XENLOOP_REQUIRE(fifo_.Ended() == sealed_ || !honest_);
        break;
      case 2:
        XENLOOP_REQUIRE((ArmFutex(waiting) & kFutexSleeper) != 0);
        break;
      case 3:
        RequestDoorbell(waiting);
        XENLOOP_REQUIRE((waiting.load() & kDoorbellInterest) != 0);
        break;
      default:
        const bool once = input_.OneIn(2);
        const bool wanted = (waiting.load() & kDoorbellInterest) != 0;
        XENLOOP_REQUIRE((WakeSleepers(waiting, once) != 0) == wanted);
        XENLOOP_REQUIRE((waiting.load() & kFutexSleeper) == 0);
    }
  }

  // What is adopted lies within what is mapped, whatever the header says.
  void Adopt() {
    const size_t real = FifoMemoryBytes(capacity_);
    const size_t mapped = input_.OneIn(2) ? real : input_.Short() % (real + 1);
    const Fifo adopted = Fifo::Adopt(fifo_.header, mapped);
    if (honest_) XENLOOP_REQUIRE(static_cast<bool>(adopted) == (mapped == real));
    if (!adopted) return;
    XENLOOP_REQUIRE(adopted.capacity_bytes >= kMinFifoBytes);
    XENLOOP_REQUIRE(FifoMemoryBytes(adopted.capacity_bytes) <= mapped);
    XENLOOP_REQUIRE((adopted.capacity_bytes & (adopted.capacity_bytes - 1)) == 0);
    XENLOOP_REQUIRE(adopted.data == fifo_.data);
    if (!honest_) capacity_ = (fifo_ = adopted).capacity_bytes;  // perhaps a smaller one
  }

  Input& input_;
  GuardedFifo& memory_;
  uint64_t capacity_;
  Fifo fifo_;
  uint64_t known_consumer_ = 0;
  bool honest_ = true;  // the peer has kept the rules so far; then these are known:
  bool sealed_ = false;
  uint64_t produced_ = 0;
  uint64_t consumed_ = 0;
};

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop::fuzz;
  static constexpr uint64_t kCapacities[] = {4096, 8192, 32768};
  static GuardedFifo memories[] = {GuardedFifo(4096), GuardedFifo(8192), GuardedFifo(32768)};
  Input input(bytes, size);
  const uint32_t which = input.Below(3);
  FifoRun run(input, memories[which], kCapacities[which]);
  for (int step = 0; step < 300 && !input.Empty(); ++step) run.Step();
  return 0;
}
