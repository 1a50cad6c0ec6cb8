// See world.h: the choice of steps, and the shadow socket made of vectors.
#include "tests/simulation/world.h"

#include <cstdio>
#include <cstdlib>
#include <new>

namespace xenloop::simulation {
namespace {

constexpr size_t kPeriod = 65521;  // a prime: no ring size hides a displaced byte

std::vector<uint8_t> MakeBytes(uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(kPeriod + kLongestPiece);
  for (size_t i = 0; i < kPeriod; ++i) bytes[i] = static_cast<uint8_t>(random.Next() >> 56);
  for (size_t i = kPeriod; i < bytes.size(); ++i) bytes[i] = bytes[i - kPeriod];
  return bytes;
}

size_t RoomFor(Random* random) { return size_t{8} << random->Below(8); }

}  // namespace

const uint8_t* StreamBytes(int e, uint64_t position) {
  static const std::array<std::vector<uint8_t>, 2> bytes{MakeBytes(1), MakeBytes(2)};
  return bytes[static_cast<size_t>(e)].data() + position % kPeriod;
}

FifoMemory::FifoMemory(uint64_t capacity_bytes) {
  const size_t bytes = FifoMemoryBytes(capacity_bytes);
  memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (memory == nullptr) throw std::bad_alloc();
  memset(memory, 0, kFifoDataOffset);
  fifo = Fifo::Initialise(memory, capacity_bytes);
  static uint64_t made = 0;
  fifo.header->identity = ++made;
}
FifoMemory::~FifoMemory() { std::free(memory); }

World::World(uint64_t seed, Mutant mutant, bool trace, Coverage* coverage)
    : random_(seed),
      mutant_(mutant),
      trace_(trace),
      coverage_(coverage),
      pipes_{TcpPipe(RoomFor(&random_), RoomFor(&random_)),
             TcpPipe(RoomFor(&random_), RoomFor(&random_))},
      size_bits_(2 + random_.Below(9)),
      violence_(random_.OneIn(4) ? 200 : 2000) {
  HearFutexes();
}

size_t World::RandomSize() {
  const uint32_t bits = random_.OneIn(32) ? 15 : random_.Below(size_bits_ + 1);
  return 1 + random_.Below(1u << bits);
}

void World::Record(const char* what, int e, int64_t value) {
  notes_[noted_++ % notes_.size()] = Note{what, e, value};
  if (trace_) printf("%*s%c %s %ld\n", depth_ * 2, "", 'A' + e, what, static_cast<long>(value));
}

std::string World::LastSteps() const {
  std::string text;
  const uint64_t first = noted_ > notes_.size() ? noted_ - notes_.size() : 0;
  for (uint64_t i = first; i < noted_; ++i) {
    const Note& note = notes_[i % notes_.size()];
    text += std::string("  ") + static_cast<char>('A' + note.end) + " " + note.what + " " +
            std::to_string(note.value) + "\n";
  }
  return text;
}

void World::Fail(const std::string& what) const { throw Failure(what); }

void World::Step() {
  StepOf(static_cast<int>(random_.Below(2)));
  Check();
  if (!At(0).Alive() || !At(1).Alive() || (At(0).closing_write && At(1).closing_write))
    ++steps_since_end_;
}

void World::StepOf(int e) {
  if (mutant_ != Mutant::kNone && random_.OneIn(40)) return Misbehave(e);
  if (e == frozen_) return random_.OneIn(3) ? MoveOn(e) : void();
  if (random_.OneIn(At(e).passing == Passing::kNo ? 600 : 60)) return PassOn(e);
  if (random_.OneIn(moving_ == Moving::kNo ? 700 : 8)) return MoveOn(e);
  const uint32_t choice = random_.Below(100);
  if (choice < 30) {
    AppSend(e, random_.Below(2));
  } else if (choice < 60) {
    AppReceive(e, random_.Below(2));
  } else if (choice < 78) {
    if (!Out(e).Deliver(RandomSize())) ResetConnection();
  } else if (choice < 86) {
    Service(e);
  } else if (choice < 89) {
    ShadowEvent(e);
  } else if (choice < 92) {
    Offer(e);
  } else if (choice < 95) {
    Join(1 - offer_.from);
  } else if (choice < 98) {
    Complete();
  } else if (choice < 99) {
    switch (random_.Below(4)) {
      case 0:
        FallBack(e);
        break;
      case 1:
        LiesUnread(e);
        break;
      default:
        ReaderStandsStill(e);
    }
  } else if (random_.OneIn(4)) {
    SealOneWord(e);
  } else if (depth_ == 0 && random_.OneIn(100)) {
    DieInFlush(e);
  } else if (random_.OneIn(violence_ / 50)) {
    switch (random_.Below(4)) {
      case 0:
      case 1:
        Shutdown(e);
        break;
      case 2:
        Close(e);
        break;
      case 3:
        Crash(e);
        break;
    }
  } else if (At(e).closing_write) {
    Shutdown(e);
  }
}

void World::Interrupt(int e, bool) {
  if (depth_ > 0 || quiet_ || !random_.OneIn(3)) return;
  ++depth_;
  const int killable = std::exchange(killable_, -1);
  do {
    ++coverage_->interruptions;
    const SendRoute route = At(e).send.route.load();
    if (route == SendRoute::kSwitching && random_.OneIn(2)) {
      // Another thread of this end tries to get into the kernel while the switch offset is being
      // determined.
      if (At(e).send.EnterKernel()) {
        Record("sneaks into the kernel", e);
        KernelSend(e, RandomSize());
        At(e).send.LeaveKernel();
      }
    } else if (random_.OneIn(5)) {
      // The other direction of this end has a lock of its own.
      if (At(e).send_lock_held && !At(e).receive_lock_held) AppReceive(e, random_.Below(2));
      if (At(e).receive_lock_held && !At(e).send_lock_held) AppSend(e, random_.Below(2));
    } else {
      StepOf(1 - e);
    }
  } while (!random_.OneIn(3));
  killable_ = killable;
  --depth_;
}

void World::ResetConnection() {
  if (!reset_) {
    Record("reset", 0);
    ++coverage_->resets;
  }
  reset_ = true;
  for (TcpPipe& pipe : pipes_) pipe.Reset();
}

bool VectorShadow::StillOurs() {
  world_.Interrupt(end_, true);
  return world_.At(end_).Alive();
}
ssize_t VectorShadow::TrySend(const iovec* iov, size_t count) {
  world_.Interrupt(end_, true);
  const ssize_t sent = world_.Out(end_).Send(iov, count);
  if (world_.dying_ == end_ && world_.At(end_).send.route.load() == SendRoute::kFlushing) {
    world_.dying_ = -1;
    throw ThreadDied();
  }
  world_.Interrupt(end_, false);
  return sent;
}
ssize_t VectorShadow::TryReceive(const iovec* iov, size_t count, int flags) {
  world_.Interrupt(end_, true);
  const ssize_t received = world_.In(end_).Receive(iov, count, flags);
  world_.Interrupt(end_, false);
  return received;
}
int64_t VectorShadow::Written() {
  world_.Interrupt(end_, true);
  const auto written = static_cast<int64_t>(world_.Out(end_).written());
  world_.Interrupt(end_, false);
  return written;
}
int64_t VectorShadow::Read() {
  world_.Interrupt(end_, true);
  const auto read = static_cast<int64_t>(world_.In(end_).read());
  world_.Interrupt(end_, false);
  return read;
}
bool VectorShadow::IsClosed() {
  const TcpPipe& in = world_.In(end_);
  return in.reset() || (in.FinDelivered() && world_.Out(end_).FinDelivered());
}
int64_t VectorShadow::ReceivedAtLeast() {
  world_.Interrupt(end_, true);
  const TcpPipe& in = world_.In(end_);
  auto received = static_cast<int64_t>(in.delivered());
  if (IsClosed() && !in.FinDelivered()) --received;
  world_.Interrupt(end_, false);
  return received;
}
int64_t VectorShadow::ReceivedAtMost() {
  world_.Interrupt(end_, true);
  const TcpPipe& in = world_.In(end_);
  auto received = static_cast<int64_t>(in.delivered());
  if (IsClosed() && in.FinDelivered()) ++received;
  world_.Interrupt(end_, false);
  return received;
}
bool VectorShadow::Ended() {
  const TcpPipe& pipe = world_.In(end_);
  return pipe.read() == pipe.delivered() && (pipe.FinDelivered() || pipe.reset());
}
bool VectorShadow::Readable() {
  world_.Interrupt(end_, true);
  const bool readable = world_.In(end_).Readable();
  world_.Interrupt(end_, false);
  return readable;
}
void VectorShadow::Ring(bool, uint32_t) { world_.Interrupt(end_, true); }
void VectorShadow::Reset() {
  ++world_.coverage_->moves_that_reset;
  world_.ResetConnection();
}

}  // namespace xenloop::simulation
