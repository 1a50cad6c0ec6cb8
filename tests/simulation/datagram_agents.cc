// See datagram_world.h: what agents do, what must never be seen, and the deliberate errors.
#include <cstring>

#include "tests/simulation/datagram_world.h"

namespace xenloop::simulation {

const char* NameOf(DatagramMutant mutant) {
  static constexpr const char* kNames[] = {
      "none",           "forget-residue", "newer-first",         "residue-twice",  "record-first",
      "no-second-look", "close-unsealed", "flush-to-next-owner", "let-go-of-left", "equal-stamps",
      "no-limit",       "half-record",    "leave-in-doubt"};
  static_assert(sizeof kNames / sizeof *kNames == static_cast<size_t>(DatagramMutant::kCount));
  return kNames[static_cast<size_t>(mutant)];
}

// ---- agents ----

// A sender joins again when its last FIFO has come to its end at both ends.
void DatagramWorld::Join(int s) {
  Socket& socket = sockets_[s];
  if (receiver_locked_ || socket.locked || owner_ == 0 || socket.memory != nullptr) return;
  for (const auto& memory : slots_) {
    if (memory != nullptr && memory->life == socket.life) return;
  }
  auto memory = std::make_shared<Memory>(random_.OneIn(3) ? 16384 : 32768);
  memory->life = socket.life;
  const int slot = receiver_->queue.Attach(memory->fifo);
  if (slot < 0) return;
  Record("joins slot", s, slot);
  ++coverage_->joins;
  slots_[slot] = memory;
  socket.memory = memory;
  socket.begun = false;
}
void DatagramWorld::Begin(int s) {
  Socket& socket = sockets_[s];
  if (socket.locked || socket.memory == nullptr || socket.begun) return;
  Record("begins", s);
  socket.begun = true;
  socket.sender.Begin(socket.memory->fifo);
}
// The sender's agent: hears of a dead receiver, answers seals, lets go.
void DatagramWorld::Serve(int s) {
  Socket& socket = sockets_[s];
  if (socket.locked || socket.memory == nullptr) return;
  const DatagramFifo& fifo = socket.memory->fifo;
  if (socket.memory->receiver_dead) {
    Record("hears of the death", s);
    socket.memory->receiver_dead = false;
    fifo.board().residue.store(Residue::kForgotten);
    fifo.SealBoth();
  }
  if (!socket.begun) {
    if (!fifo.ProducerSealed()) return;
    Begin(s);
  }
  socket.locked = true;
  SendingShadow shadow{*this, s};
  if (socket.sender.Settle(shadow)) {
    Record("lets go", s);
    socket.memory.reset();
  }
  socket.locked = false;
}
void DatagramWorld::Leave(int s) {
  Socket& socket = sockets_[s];
  if (socket.locked || socket.memory == nullptr || !socket.begun) return;
  Record("leaves", s);
  socket.locked = true;
  SendingShadow shadow{*this, s};
  const DatagramFifo& fifo = socket.memory->fifo;
  if (mutant_ == DatagramMutant::kLeaveInDoubt) {
    fifo.Decide(Residue::kLeft);
  } else if (!fifo.ProducerSealed() && fifo.InDoubt()) {
    ++coverage_->taken_back;
  }
  socket.sender.Leave(shadow);
  if (socket.sender.route.load() == DatagramRoute::kLeft) ++coverage_->left_with_records;
  socket.locked = false;
}
// The receiver's agent: ends the FIFOs of dead senders, and lets go of what has come to its end.
void DatagramWorld::LetGo() {
  if (receiver_locked_) return;
  for (int i = 0; i < DatagramQueue::kMostSlots; ++i) {
    auto& memory = slots_[i];
    if (memory == nullptr) continue;
    if (memory->sender_dead) {
      receiver_->queue.End(i);
      receiver_->queue.Reclaim(i);
      // A flush that it owed is not to be waited for.
      Residue wanted = Residue::kWanted;
      memory->fifo.board().residue.compare_exchange_strong(wanted, Residue::kForgotten);
    }
    const bool left = mutant_ == DatagramMutant::kLetGoOfLeft && memory->fifo.ProducerSealed();
    if (!receiver_->queue.HasEnded(i) && !left) continue;
    Record("lets go of slot", -1, i);
    receiver_->queue.Detach(i);
    memory.reset();
  }
}
void DatagramWorld::Return() {
  if (receiver_locked_ || owner_ == 0) return;
  Record("returns", -1);
  if (receiver_->queue.Any()) ++coverage_->returned_with_records;
  // Asked of a sender that nobody knows to be dead yet.
  for (const auto& memory : slots_) {
    if (memory == nullptr) continue;
    if (memory->sender_dead) Excuse(memory->life);
    memory->asked_back = true;
  }
  if (mutant_ == DatagramMutant::kForgetResidue) {
    receiver_->queue.Close();
  } else if (!receiver_->queue.Return(false)) {
    ++coverage_->returns_refused;
  }
  promised_.clear();
}

// ---- checks ----

uint64_t DatagramWorld::Outstanding() const {
  uint64_t bytes = 0;
  for (const Life& life : lives_) {
    for (const Sent& sent : life.sent) {
      if (sent.owner == owner_ && sent.by_fifo && !sent.got && !sent.excused && !sent.passed)
        bytes += sent.charge;
    }
  }
  return bytes;
}

void DatagramWorld::Got(const std::vector<uint8_t>& bytes, size_t length, int from) {
  uint32_t head[3];
  memcpy(head, bytes.data(), sizeof head);
  if (head[0] >= lives_.size() || head[1] >= lives_[head[0]].sent.size() || head[2] != length)
    Fail("a datagram that nobody has sent");
  const size_t copied = length < bytes.size() ? length : bytes.size();
  for (size_t i = kHead; i < copied; ++i) {
    if (bytes[i] != static_cast<uint8_t>((i * 7 + head[1] * 31 + head[0] * 131) % 251))
      Fail("a datagram with other bytes");
  }
  Sent& sent = At(head[0], head[1]);
  if (sent.got) Fail("a datagram twice");
  sent.got = true;
  if (sent.owner != owner_) Fail("the port's next owner sees an old datagram");
  Life& life = lives_[head[0]];
  if (static_cast<int64_t>(head[1]) < life.last_got) Fail("datagrams of one sender out of order");
  // What was sent before by the same FIFO has found the queue full.
  for (auto i = static_cast<uint32_t>(life.last_got + 1); i < head[1]; ++i)
    life.sent[i].passed = true;
  life.last_got = head[1];
  // What has been left comes before a drain that others wait for.
  if (from == kFromKernel || slots_[from] == nullptr || slots_[from]->fifo.ProducerSealed()) return;
  const uint64_t started = slots_[from]->started_at;
  if (sent.stamp < last_stamp_ && started < last_stamp_)
    Fail("datagrams of two senders out of order");
  last_stamp_ = sent.stamp;
  // With nothing sent in between, no more can come than one queue holds.
  taken_since_send_ += sent.charge;
  bool all_started = true;
  for (const auto& memory : slots_) {
    all_started = all_started && (memory == nullptr || memory->started_at < sent.stamp);
  }
  if (all_started && !recovered_ && taken_since_send_ > kLimit && taken_since_send_ > sent.charge)
    Fail("more than the queue can hold");
}

void DatagramWorld::Excuse(uint32_t life) {
  for (Sent& sent : lives_[life].sent) sent.excused = true;
}
void DatagramWorld::ExcuseAllOf(uint32_t owner) {
  for (Life& life : lives_) {
    for (Sent& sent : life.sent) {
      if (sent.owner == owner) sent.excused = true;
    }
  }
}

void DatagramWorld::Settle() {
  if (receiver_locked_) Fail("a lock is held between the steps");
  quiet_ = true;
  if (owner_ == 0) owner_ = ++owners_;
  for (int round = 0; round < 5; ++round) {
    for (int s = 0; s < 2; ++s) Serve(s);
    LetGo();
    for (int i = 0; i < 20000 && (receiver_->Readable() || !kernel_.empty()); ++i) Receive();
    LetGo();
  }
  if (receiver_->Readable() || !kernel_.empty()) Fail("there is something that nobody can receive");
  CheckLosses();
}
void DatagramWorld::CheckLosses() {
  uint64_t missing = 0;
  for (const Life& life : lives_) {
    for (const Sent& sent : life.sent) {
      if (sent.got || sent.excused) continue;
      ++missing;
      Record(sent.by_fifo ? "has not got one of a FIFO" : "has not got", -1,
             &sent - life.sent.data());
    }
  }
  if (missing > receiver_->queue.dropped()) Fail("a datagram is lost, and no queue was full");
}

// ---- deliberate errors ----

void DatagramWorld::Misbehave(int s) {
  Socket& socket = sockets_[s];
  if (socket.locked || receiver_locked_ || owner_ == 0) return;
  SendingShadow shadow{*this, s};
  switch (mutant_) {
    case DatagramMutant::kNewerFirst:
    case DatagramMutant::kResidueTwice: {
      if (socket.memory == nullptr || !socket.begun || socket.memory->receiver_dead) return;
      const DatagramFifo& fifo = socket.memory->fifo;
      if (socket.sender.route.load() != DatagramRoute::kFifo ||
          fifo.board().residue.load() != Residue::kWanted)
        return;
      quiet_ = true;
      if (mutant_ == DatagramMutant::kNewerFirst) {
        socket.sender.route.store(DatagramRoute::kKernel);
        Send(s);
        socket.sender.route.store(DatagramRoute::kFifo);
        socket.sender.Settle(shadow);
      } else {
        socket.sender.Settle(shadow);
        const uint64_t p = IndexOf(fifo.fifo.header->producer.load());
        socket.sender.residue_begin = 0;
        socket.sender.residue_end = p < fifo.fifo.capacity_bytes ? p : 0;
        fifo.board().residue.store(Residue::kWanted);
        socket.sender.route.store(DatagramRoute::kFlushing);
        socket.sender.Settle(shadow);
      }
      quiet_ = false;
      return;
    }
    case DatagramMutant::kNoSecondLook: {
      if (receiver_->Readable() || receiver_->queue.Draining() != 0) return;
      Send(s);
      Leave(s);
      Send(s);
      if (kernel_.empty()) return;
      const std::vector<uint8_t> bytes = kernel_.front().bytes;
      ReceivingShadow{*this}.Drop();
      promised_.clear();
      return Got(bytes, bytes.size(), kFromKernel);
    }
    case DatagramMutant::kHalfRecord: {
      if (socket.memory == nullptr || !socket.begun) return;
      const Fifo& fifo = socket.memory->fifo.fifo;
      const uint64_t before = IndexOf(fifo.header->producer.load());
      Send(s);
      const uint64_t after = IndexOf(fifo.header->producer.load());
      if (after - before <= 64) return;
      fifo.data[(after - 20) & (fifo.capacity_bytes - 1)] ^= 0xff;
      return;
    }
    default:
      return;  // they stand where the right step does
  }
}

}  // namespace xenloop::simulation
