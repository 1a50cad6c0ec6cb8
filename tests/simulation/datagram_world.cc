// See datagram_world.h: what programs, agents and the kernel do.
#include "tests/simulation/datagram_world.h"

#include <cstring>
#include <new>

namespace xenloop::simulation {
namespace {

struct ReaderDied {};  // thrown out of the middle of a receive

// Every payload says whose it is; the rest of it follows from that.
std::vector<uint8_t> Payload(uint32_t life, uint32_t number, size_t length) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<uint8_t>((i * 7 + number * 31 + life * 131) % 251);
  const uint32_t head[3] = {life, number, static_cast<uint32_t>(length)};
  memcpy(bytes.data(), head, sizeof head);
  return bytes;
}

}  // namespace

DatagramWorld::DatagramWorld(uint64_t seed, DatagramMutant mutant, DatagramCoverage* coverage)
    : random_(seed), mutant_(mutant), coverage_(coverage), lives_(2) {
  sockets_[1].life = 1;
  receiver_ = std::make_unique<DatagramReceiver>();
  receiver_->queue.SetLimit(mutant == DatagramMutant::kNoLimit ? 1u << 30 : kLimit);
}

std::string DatagramWorld::LastSteps() const {
  std::string text;
  for (const std::string& note : notes_) text += note;
  return text;
}
void DatagramWorld::Record(const char* what, int s, int64_t value) {
  notes_.push_back(std::string(static_cast<size_t>(2 + 2 * depth_), ' ') +
                   (s < 0    ? "R"
                    : s == 0 ? "A"
                             : "B") +
                   " " + what + " " + std::to_string(value) + "\n");
  if (notes_.size() > 150) notes_.pop_front();
}

DatagramWorld::Memory::Memory(uint64_t capacity_bytes) {
  memory = std::aligned_alloc(64, FifoMemoryBytes(capacity_bytes));
  if (memory == nullptr) throw std::bad_alloc();
  memset(memory, 0, FifoMemoryBytes(capacity_bytes));
  fifo.fifo = Fifo::Initialise(memory, capacity_bytes);
}

void DatagramWorld::Interrupt() {
  if (quiet_ || depth_ >= 2 || !random_.OneIn(6)) return;
  ++depth_;
  ++coverage_->interruptions;
  const auto s = static_cast<int>(random_.Below(2));
  if (random_.OneIn(4)) {
    // The worst that a sender can do while a receiver is between its looks.
    Send(s);
    Leave(s);
    Send(s);
  } else {
    for (uint32_t n = 1 + random_.Below(4); n > 0; --n) Act(s);
  }
  --depth_;
}
void DatagramWorld::Step() {
  const auto s = static_cast<int>(random_.Below(2));
  Act(s);
  if (mutant_ != DatagramMutant::kNone && random_.OneIn(8)) Misbehave(s);
}

void DatagramWorld::Act(int s) {
  switch (random_.Below(32)) {
    case 0:
    case 1:
      return Join(s);
    case 2:
    case 3:
    case 4:
      return Begin(s);
    case 5:
    case 6:
      return Serve(s);
    case 7:
      return LetGo();
    case 8:
      return random_.OneIn(4) ? Leave(s) : Serve(s);
    case 9:
      return random_.OneIn(4) ? Return() : LetGo();
    case 12:
      return Sleep();
    case 10:
      if (random_.OneIn(8)) return EndBySender(s, random_.OneIn(2));
      if (random_.OneIn(8)) return Close(random_.OneIn(2));
      return;
    case 11:
      if (!random_.OneIn(3)) return;
      for (uint32_t n = random_.Below(30); n > 0; --n) Send(s);
      return;
    default:
      return random_.OneIn(3) ? Send(s) : Receive();
  }
}

// ---- the kernel ----

void DatagramWorld::KernelTakes(Message message) {
  Sent& sent = At(message.life, message.number);
  const bool dropped = owner_ == 0 || !FitsQueue(kernel_charge_, sent.charge, kLimit);
  // One that comes too late for its owner goes to the next: Got() looks for that error.
  if (dropped) {
    sent.excused = true;
    ++coverage_->dropped_by_kernel;
    return;
  }
  kernel_charge_ += sent.charge;
  kernel_.push_back(std::move(message));
}
ssize_t DatagramWorld::SendingShadow::SendRecord(const iovec* pieces, size_t count) {
  if (!world.quiet_ && world.random_.OneIn(5)) {
    ++world.coverage_->flushes_in_pieces;
    return -EAGAIN;
  }
  Message message;
  for (size_t i = 0; i < count; ++i) {
    const auto* from = static_cast<const uint8_t*>(pieces[i].iov_base);
    message.bytes.insert(message.bytes.end(), from, from + pieces[i].iov_len);
  }
  uint32_t head[2];
  memcpy(head, message.bytes.data(), sizeof head);
  message.life = head[0];
  message.number = head[1];
  const auto length = static_cast<ssize_t>(message.bytes.size());
  world.KernelTakes(std::move(message));
  world.Interrupt();
  return length;
}
bool DatagramWorld::SendingShadow::IsReceiverThere() const {
  return !world.sockets_[s].memory->receiver_dead;
}
ssize_t DatagramWorld::ReceivingShadow::Peek(IovCursor* destination) {
  world.Interrupt();
  if (world.may_die_ && world.random_.OneIn(20)) throw ReaderDied{};
  if (world.kernel_.empty()) return -EAGAIN;
  const Message& first = world.kernel_.front();
  if (destination != nullptr) {
    const size_t room = destination->remaining();
    destination->CopyIn(first.bytes.data(), first.bytes.size() < room ? first.bytes.size() : room);
  }
  const auto length = static_cast<ssize_t>(first.bytes.size());
  world.Interrupt();
  return length;
}
void DatagramWorld::ReceivingShadow::Drop() {
  const Message& first = world.kernel_.front();
  world.kernel_charge_ -= world.At(first.life, first.number).charge;
  world.kernel_.pop_front();
}

ssize_t DatagramWorld::ReceivingShadow::Take(IovCursor* destination) {
  const ssize_t length = Peek(destination);
  if (length >= 0) Drop();
  return length;
}

// ---- programs ----

void DatagramWorld::Send(int s) {
  Socket& socket = sockets_[s];
  if (socket.locked) return;
  socket.locked = true;
  Life& life = lives_[socket.life];
  const auto number = static_cast<uint32_t>(life.sent.size());
  const size_t length = kHead + random_.Below(random_.OneIn(8) ? 3000 : 200);
  const uint32_t charge = DatagramCharge(static_cast<uint32_t>(length), false);
  life.sent.push_back(Sent{owner_, ++clock_, charge});
  std::vector<uint8_t> bytes = Payload(socket.life, number, length);
  const iovec iov{bytes.data(), length};
  SendingShadow shadow{*this, s};
  taken_since_send_ = 0;
  const uint64_t dropped = socket.sender.dropped;
  const uint64_t sent = socket.sender.sent;
  const uint64_t stamp = mutant_ == DatagramMutant::kEqualStamps ? number : clock_;
  recovered_ = false;
  // Others may act as soon as it is published.
  life.sent.back().by_fifo = socket.sender.route.load() == DatagramRoute::kFifo;
  const Sending result = socket.sender.Send(shadow, IovCursor(&iov, 1), stamp);
  Sent& mine = At(socket.life, number);
  mine.by_fifo = socket.sender.sent != sent;
  if (socket.sender.dropped != dropped) {
    mine.excused = true;
    ++coverage_->dropped_by_sender;
    if (!socket.memory->receiver_dead && FitsQueue(Outstanding(), charge, kLimit))
      Fail("a datagram is dropped although the queue has room");
  }
  Record(mine.by_fifo                   ? "sends by FIFO"
         : result == Sending::kByKernel ? "sends by kernel"
         : result == Sending::kRing     ? "rings"
         : result == Sending::kWait     ? "may not send"
                                        : "drops",
         s, number);
  if (mine.by_fifo) ++coverage_->by_fifo;
  if (result == Sending::kByKernel || result == Sending::kRing) {
    mine.owner = owner_;
    ++coverage_->by_kernel;
    KernelTakes(Message{socket.life, number, std::move(bytes)});
    if (result == Sending::kRing) {
      ++coverage_->rings;
      socket.sender.Rang(true);
    }
  } else if (result == Sending::kWait ||  // the program has been told EAGAIN
                                          // or nobody has told the sender yet
             (socket.memory != nullptr && socket.memory->receiver_dead)) {
    mine.excused = true;
  }
  socket.locked = false;
}

void DatagramWorld::Receive() {
  if (receiver_locked_ || owner_ == 0) return;
  WakeUp();
  receiver_locked_ = true;
  const bool peek = random_.OneIn(5);
  std::vector<uint8_t> buffer(random_.OneIn(6) ? kHead : 4000);
  const iovec iov{buffer.data(), buffer.size()};
  IovCursor destination(&iov, 1);
  ReceivingShadow shadow{*this};
  const bool was_quiet = quiet_;
  if (random_.OneIn(3)) quiet_ = true;  // then readiness has told the truth
  const bool readable = receiver_->Readable() || !kernel_.empty();
  may_die_ = !quiet_ && random_.OneIn(50);
  ssize_t length;
  int from = kFromKernel;
  receiver_->queue.Admit();
  if (mutant_ == DatagramMutant::kRecordFirst)
    receiver_->queue.KernelIsDry(receiver_->queue.Draining());
  const uint32_t draining = receiver_->queue.Draining();
  try {
    length = receiver_->Receive(shadow, &destination, peek, &from);
  } catch (const ReaderDied&) {
    ++coverage_->dead_threads;
    receiver_->Recover();
    promised_.clear();
    recovered_ = true;
    length = -EINTR;
  }
  may_die_ = false;
  const bool check_readiness = quiet_ && length != -EINTR;
  quiet_ = was_quiet;
  if (check_readiness && readable != (length >= 0)) Fail("readiness has not told the truth");
  if (receiver_->queue.dropped() != known_drops_) {
    coverage_->dropped_by_receiver += receiver_->queue.dropped() - known_drops_;
    known_drops_ = receiver_->queue.dropped();
    if (check_readiness && Outstanding() <= kLimit)
      Fail("the receiver drops although all would fit its queue");
  }
  for (const auto& memory : slots_) {
    if (memory != nullptr && memory->fifo.board().started.load() != 0 &&
        memory->started_at > clock_)
      memory->started_at = clock_;
  }
  if (length >= 0) {
    const std::string shown(buffer.begin(), buffer.begin() + kHead);
    if (!promised_.empty() && shown != promised_) Fail("a peek has shown another datagram");
    promised_ = peek ? shown : "";
    if (peek) ++coverage_->peeks;
    if (from == kFromKernel && draining != 0 && !peek) ++coverage_->drains;
    Record(peek ? "peek" : from == kFromKernel ? "receive by kernel" : "receive", -1, length);
    if (!peek) Got(buffer, static_cast<size_t>(length), from);
  }
  receiver_locked_ = false;
}

// A thread waits in the kernel, perhaps for edges: then it has been told of what is there.
void DatagramWorld::Sleep() {
  if (receiver_locked_ || owner_ == 0 || asleep_ || IsAnyPutting()) return;
  const bool for_edges = random_.OneIn(4);
  receiver_->queue.Sleepers(1 + static_cast<int>(random_.Below(2)), for_edges);
  asleep_ = true;
  Record(for_edges ? "sleeps until an edge" : "sleeps", -1);
  if (!for_edges && (receiver_->Readable() || !kernel_.empty())) WakeUp();
}
// Who is waited for, for a while: here nobody would go on meanwhile.
bool DatagramWorld::IsAnyPutting() const {
  for (const auto& memory : slots_) {
    if (memory != nullptr && memory->fifo.board().putting.load() != 0) return true;
  }
  return false;
}
void DatagramWorld::WakeUp() {
  if (asleep_) receiver_->queue.Sleepers(0);
  asleep_ = false;
}

void DatagramWorld::EndBySender(int s, bool killed) {
  Socket& socket = sockets_[s];
  if (socket.locked) return;
  Record(killed ? "killed" : "closes", s);
  if (killed) {
    ++coverage_->senders_killed;
    // In the middle of a record, perhaps.
    if (socket.memory != nullptr && socket.begun) {
      const Fifo& fifo = socket.memory->fifo.fifo;
      const uint64_t p = IndexOf(fifo.header->producer.load());
      const uint64_t c = IndexOf(fifo.header->consumer.load());
      if (p - c + 64 <= fifo.capacity_bytes)
        memset(fifo.data + (p & (fifo.capacity_bytes - 1)), 0xee, 16);
    }
    if (socket.memory != nullptr) socket.memory->sender_dead = true;
  } else {
    if (socket.memory != nullptr && !socket.begun) Begin(s);
    SendingShadow shadow{*this, s};
    socket.locked = true;
    quiet_ = true;
    socket.sender.Leave(shadow);
    socket.sender.Settle(shadow);  // what it owes, its agent still sends
    quiet_ = false;
    socket.locked = false;
  }
  // A flush that the receiver has asked for is lost with a killed sender.
  if (socket.memory != nullptr && socket.memory->asked_back &&
      (socket.sender.route.load() == DatagramRoute::kFlushing ||
       socket.memory->fifo.board().residue.load() == Residue::kWanted)) {
    Excuse(socket.life);
  }
  socket.~Socket();
  new (&socket) Socket;
  socket.life = static_cast<uint32_t>(lives_.size());
  lives_.emplace_back();
}

void DatagramWorld::Close(bool killed) {
  if (receiver_locked_ || owner_ == 0 || (!killed && IsAnyPutting())) return;
  for (const auto& memory : slots_) {
    // The port is kept until a residue that was asked for has been sent.
    if (memory != nullptr && memory->asked_back &&
        memory->fifo.board().residue.load() == Residue::kWanted)
      return;
  }
  Record(killed ? "killed" : "closes", -1);
  if (receiver_->Readable()) ++coverage_->closed_with_records;
  if (killed) {
    ++coverage_->receivers_killed;
  } else if (mutant_ != DatagramMutant::kCloseUnsealed) {
    receiver_->queue.Close();
  }
  for (auto& memory : slots_) {
    if (memory == nullptr) continue;
    if (mutant_ == DatagramMutant::kFlushToNextOwner)
      memory->fifo.board().residue.store(Residue::kWanted);
    memory->receiver_dead = killed;
    memory.reset();
  }
  kernel_.clear();
  kernel_charge_ = 0;
  ExcuseAllOf(owner_);
  owner_ = 0;
  promised_.clear();
  asleep_ = false;
  receiver_ = std::make_unique<DatagramReceiver>();
  receiver_->queue.SetLimit(mutant_ == DatagramMutant::kNoLimit ? 1u << 30 : kLimit);
  known_drops_ = 0;
  last_stamp_ = 0;
  if (!random_.OneIn(4)) owner_ = ++owners_;  // else later
}

}  // namespace xenloop::simulation
