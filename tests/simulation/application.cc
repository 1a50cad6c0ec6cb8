// See world.h: what a program does with its socket, and what the kernel does beneath it. The order
// of attempts is that of preload/: enter the kernel if the route is TCP, else try the stream; what
// the stream sends back goes to the kernel.
#include "tests/simulation/world.h"

namespace xenloop::simulation {
namespace {

constexpr int kAttempts = 10;

Self SelfOf(int e, size_t thread) {
  return Self{static_cast<uint32_t>(100 + e * 10 + static_cast<int>(thread)),
              static_cast<uint32_t>(e + 1)};
}

// A buffer cut into up to three vectors at random places.
struct Pieces {
  iovec iov[3];
  size_t count;

  Pieces(Random* random, const uint8_t* base, size_t length) {
    auto* at = const_cast<uint8_t*>(base);
    count = 1 + random->Below(3);
    for (size_t i = 0; i + 1 < count; ++i) {
      const size_t n = random->Below(static_cast<uint32_t>(length) + 1);
      iov[i] = iovec{at, n};
      at += n;
      length -= n;
    }
    iov[count - 1] = iovec{at, length};
  }
};

}  // namespace

void World::KernelSend(int e, size_t length) {
  End& end = At(e);
  const iovec iov{const_cast<uint8_t*>(StreamBytes(e, end.sent)), length};
  const ssize_t sent = Out(e).Send(&iov, 1);
  Record("kernel send", e, sent);
  if (sent > 0) {
    end.sent += static_cast<uint64_t>(sent);
    coverage_->tcp_bytes += static_cast<uint64_t>(sent);
  }
}

void World::AppSend(int e, size_t thread) {
  End& end = At(e);
  if (end.crashed) return;  // its threads, too, wherever they were
  if (end.writer_in_kernel[thread]) {
    if (!end.closing_write) KernelSend(e, RandomSize());
    if (random_.OneIn(2)) {
      end.writer_in_kernel[thread] = false;
      end.send.LeaveKernel();
    }
    return;
  }
  if (!end.Alive() || end.closing_write || end.send_lock_held) return;
  if (end.passing == Passing::kTaken) return TakerSends(e);
  if (thread == 1 && end.writer.asleep != nullptr) return;
  for (int i = 0; i < kAttempts; ++i) {
    if (end.send.EnterKernel()) {
      end.writer_in_kernel[thread] = true;
      if (random_.OneIn(2)) AppSend(e, thread);
      return;
    }
    const size_t length = RandomSize();
    VectorShadow shadow(*this, e);
    Pieces pieces(&random_, StreamBytes(e, end.sent), length);
    IovCursor source(pieces.iov, pieces.count);
    end.in_flight = length;
    end.send_lock_held = true;
    const bool by_fifo = end.send.route.load() == SendRoute::kFifo;
    const SharedFifo fifo = end.mine;
    const uint64_t before = fifo == nullptr ? 0 : IndexOf(fifo->fifo.header->producer.load());
    ssize_t sent = 0;
    try {
      killable_ = end.receive_lock_held ? -1 : e;
      sent = end.send.TrySend(shadow, source, SelfOf(e, thread));
      killable_ = -1;
    } catch (const EndDied&) {
      const uint64_t now = fifo == nullptr ? 0 : IndexOf(fifo->fifo.header->producer.load());
      return DieInCall(e, now - before);
    }
    if (!by_fifo && end.send.route.load() == SendRoute::kFifo) ++coverage_->upgrades;
    if (sent == -EAGAIN && by_fifo && end.send.route.load() == SendRoute::kFifo)
      ++coverage_->full_fifos;
    end.send_lock_held = false;
    end.in_flight = 0;
    Record("stream send", e, sent);
    if (sent > 0) {
      if (source.remaining() != length - static_cast<size_t>(sent))
        Fail("the source cursor does not say what was sent");
      end.sent += static_cast<uint64_t>(sent);
      coverage_->fifo_bytes += static_cast<uint64_t>(sent);
      return;
    }
    if (source.remaining() != length) Fail("a send of nothing moved the source cursor");
    if (sent == -EAGAIN) {
      if (thread == 1 && end.send.route.load() == SendRoute::kFifo)
        MaySleep(e, &end.writer, end.send.fifo.header->producer_waiting);
      return;
    }
    if (sent != 0 && sent != kStreamUsesTcp) {
      if (!reset_) Fail("send fails with " + std::to_string(sent) + " on a sound connection");
      return;
    }
  }
  Fail("send finds no route");
}

// `n` bytes have come out of the stream at end `e`, in `bytes` unless discarded.
void World::Arrived(int e, const std::vector<uint8_t>& bytes, size_t n, bool peek, bool discard) {
  End& end = At(e);
  const End& peer = At(1 - e);
  if (n > bytes.size()) Fail("more bytes received than asked for");
  if (end.received + n > peer.sent + peer.in_flight) Fail("received bytes that nobody sent");
  if (!discard && memcmp(bytes.data(), StreamBytes(1 - e, end.received), n) != 0) {
    size_t at = 0;
    while (bytes[at] == StreamBytes(1 - e, end.received)[at]) ++at;
    Fail("wrong byte at stream offset " + std::to_string(end.received + at));
  }
  if (!peek) end.received += n;
}

void World::EndOfStream(int e, ssize_t result) {
  End& end = At(e);
  if (result == 0) {
    end.saw_end = true;
    if (!In(e).finished() && !reset_) Fail("end of stream although the peer has not finished");
    if (end.received != At(1 - e).sent && !reset_) {
      if (MayMissBytes(e)) {
        ++coverage_->unnoticed_losses;
        return;
      }
      Fail("end of stream at " + std::to_string(end.received) + " of " +
           std::to_string(At(1 - e).sent) + " bytes");
    }
  } else if (result != -ECONNRESET || !MayMissBytes(e)) {
    Fail("receive fails with " + std::to_string(result) + " on a sound connection");
  }
}

ssize_t World::KernelReceive(int e, size_t thread, size_t length, int flags) {
  End& end = At(e);
  auto leave = [&] {
    if (end.reader_in_kernel[thread]) end.receive.LeaveKernel(SelfOf(e, thread));
    end.reader_in_kernel[thread] = false;
  };
  std::vector<uint8_t> buffer(length);
  const bool discard = (flags & MSG_TRUNC) != 0;
  const iovec iov{discard ? nullptr : buffer.data(), length};
  const ssize_t received = In(e).Receive(&iov, 1, flags);
  Record("kernel receive", e, received);
  if (received > 0) {
    const bool peek = (flags & MSG_PEEK) != 0;
    if (!peek || mutant_ == Mutant::kCountPeeks)
      end.receive.CountTaken(static_cast<uint64_t>(received));
    Arrived(e, buffer, static_cast<size_t>(received), peek, discard);
  } else if (received != -EAGAIN && At(e).receive_lock_held) {
    return -EAGAIN;  // LeaveKernelReceive would wait for the lock
  } else if (received != -EAGAIN) {
    leave();
    const DeadResidue found = FindsDeadResidue(e);
    if (found == DeadResidue::kNone) EndOfStream(e, received);
    if (found == DeadResidue::kLost) BreakInDoubt(e);
  }
  return received;
}

// The program is told of a reset, where the residue is out of reach, or where the kernel's count
// leaves a doubt and ours does as well.
void World::BreakInDoubt(int e) {
  const ReceiveStream& receive = At(e).receive;
  const bool counted = !receive.kernel_users.Any() && receive.tcp_taken.load() < uint64_t{1} << 48;
  if (!receive.fifo.CutOff() && (!VectorShadow(*this, e).IsClosed() || (counted && !reset_)))
    Fail("gives a residue up without a need");
  Record("a residue is given up", e);
  ++coverage_->residues_in_doubt;
  ResetConnection();
}

// As LeaveKernelReceive does it.
DeadResidue World::FindsDeadResidue(int e) {
  End& end = At(e);
  VectorShadow shadow(*this, e);
  const bool was_held = end.receive_lock_held;
  end.receive_lock_held = true;
  DeadResidue found = DeadResidue::kNone;
  if (end.Alive()) {
    LockScope scope(end.receive.lock, SelfOf(e, 2).tid);
    const bool before = end.receive.route.load() == ReceiveRoute::kResidue;
    const bool doubtful = shadow.IsClosed();
    found = end.receive.FindDeadResidue(shadow);
    if (found == DeadResidue::kRead && !before) {
      if (doubtful) ++coverage_->dead_residues_after_close;
      Record("reads a dead end's residue", e);
      ++coverage_->dead_residues;
    }
  }
  end.receive_lock_held = was_held;
  return found;
}

void World::AppReceive(int e, size_t thread) {
  End& end = At(e);
  if (end.crashed) return;
  const bool peek = random_.OneIn(6);
  const bool discard = random_.OneIn(6);
  const int flags = (peek ? MSG_PEEK : 0) | (discard ? MSG_TRUNC : 0);
  if (end.reader_in_kernel[thread]) {
    KernelReceive(e, thread, RandomSize(), flags);
    if (end.reader_in_kernel[thread] && random_.OneIn(2) && !end.receive_lock_held) {
      end.reader_in_kernel[thread] = false;
      end.receive.LeaveKernel(SelfOf(e, thread));
    }
    return;
  }
  if (!end.Alive() || end.receive_lock_held) return;
  if (end.passing == Passing::kTaken) return TakerReceives(e, flags);
  if (end.call_left_behind && random_.OneIn(20)) {
    end.call_left_behind = false;
    return TakerReceives(e, flags);
  }
  if (thread == 1 && end.reader.asleep != nullptr) return;
  for (int i = 0; i < kAttempts; ++i) {
    if (end.receive.EnterKernel(SelfOf(e, thread))) {
      end.reader_in_kernel[thread] = true;
      if (random_.OneIn(2)) AppReceive(e, thread);
      return;
    }
    std::vector<uint8_t> buffer(RandomSize());
    VectorShadow shadow(*this, e);
    Pieces pieces(&random_, buffer.data(), buffer.size());
    IovCursor destination(pieces.iov, pieces.count);
    // As preload/ does: a discard that peeks goes through the buffer.
    IovCursor* to = discard && !peek ? nullptr : &destination;
    const bool look = random_.OneIn(2);
    end.receive_lock_held = true;
    ssize_t received = 0;
    try {
      killable_ = end.send_lock_held ? -1 : e;
      received = end.receive.TryReceive(shadow, to, buffer.size(), flags, look, SelfOf(e, thread));
      killable_ = -1;
    } catch (const EndDied&) {
      return DieInCall(e, 0);
    }
    end.receive_lock_held = false;
    if (end.receive.route.load() == ReceiveRoute::kDraining) ++coverage_->drains;
    Record(look ? "stream receive, looking" : "stream receive", e, received);
    if (received > 0) {
      Arrived(e, buffer, static_cast<size_t>(received), peek, to == nullptr || discard);
      const size_t taken = to == nullptr || peek ? 0 : static_cast<size_t>(received);
      if (to != nullptr && destination.remaining() != buffer.size() - taken) {
        Fail("the destination cursor does not say what was received");
      }
      return;
    }
    if (received == -EAGAIN) {
      const ReceiveRoute route = end.receive.route.load();
      if (thread == 1 && look && route != ReceiveRoute::kTcp && route != ReceiveRoute::kResidue)
        MaySleep(e, &end.reader, end.receive.fifo.header->consumer_waiting);
      return;
    }
    if (received != kStreamUsesTcp) return EndOfStream(e, received);
  }
  Fail("receive finds no route");
}

void World::LeaveKernel(int e) {
  End& end = At(e);
  for (size_t thread = 0; thread < 2; ++thread) {
    if (end.writer_in_kernel[thread]) end.send.LeaveKernel();
    if (end.reader_in_kernel[thread]) end.receive.LeaveKernel(SelfOf(e, thread));
    end.writer_in_kernel[thread] = end.reader_in_kernel[thread] = false;
  }
}

// shutdown(SHUT_WR), as BeforeShutdown does it; called again until the FIN is on its way.
void World::Shutdown(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || Out(e).finished()) return;
  end.closing_write = true;
  VectorShadow shadow(*this, e);
  end.send_lock_held = true;
  int pending = 0;
  {
    LockScope scope(end.send.lock, SelfOf(e, 0).tid);
    end.send.BeginFlush(shadow);
    pending = end.send.PumpResidue(shadow);
  }
  end.send_lock_held = false;
  Record("shutdown, pending", e, pending);
  if (pending != 0) ++coverage_->pending_residues;
  ++coverage_->shutdowns;
  if (pending == 0) Out(e).Finish();
}

// close of the last descriptor, as CloseAttached does it.
void World::Close(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.receive_lock_held) return;
  LeaveKernel(e);
  end.closed = end.closing_write = true;
  ++coverage_->closes;
  if (!end.attached) return KernelClose(e, false);
  VectorShadow shadow(*this, e);
  end.send_lock_held = end.receive_lock_held = true;
  bool unread = false;
  {
    LockScope scope(end.send.lock, SelfOf(e, 0).tid);
    end.send.BeginFlush(shadow);
    end.lingering = end.send.PumpResidue(shadow) != 0;
  }
  {
    LockScope scope(end.receive.lock, SelfOf(e, 0).tid);
    unread =
        end.receive.route.load() != ReceiveRoute::kTcp && end.receive.fifo.AvailableBytes() > 0;
    end.receive.EndFifo(shadow);
  }
  end.send_lock_held = end.receive_lock_held = false;
  Record("close, lingering", e, end.lingering);
  if (!end.lingering) KernelClose(e, unread);
}

void World::KernelClose(int e, bool with_reset) {
  Record("the kernel closes", e, with_reset);
  In(e).LoseReceiver();
  if (with_reset || In(e).delivered() > In(e).read()) {
    ResetConnection();
  } else {
    Out(e).Finish();
  }
}

// kill -9: no seal, no flush; the FIFOs stay in the peer's mapping, the kernel closes the socket.
void World::Crash(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.receive_lock_held) return;
  Record("crash", e);
  end.crashed = true;
  end.at_death = end.mine;
  ++coverage_->crashes;
  if (end.mine != nullptr && end.mine->fifo.AvailableBytes() > 0) ++coverage_->crashes_with_fifo;
  KernelClose(e, false);
}

}  // namespace xenloop::simulation
