// See world.h: a connection that is passed to another process by a message (SCM_RIGHTS), as
// preload/socket/passing.cc and side/holders.cc have it. The first process goes back to TCP before
// the message is sent, may go on using the connection until it closes its copy, and its agent
// finishes what it began. Who has received it reads and writes in the kernel, unknown to the
// streams; when it has the connection alone, it takes it up with streams of its own, which know
// nothing but what the kernel counts.
#include "tests/simulation/world.h"

namespace xenloop::simulation {

bool World::IsPassing() const {
  return ends_[0].passing != Passing::kNo || ends_[1].passing != Passing::kNo;
}

void World::PassOn(int e) {
  End& end = At(e);
  if (!end.Alive() || end.send_lock_held || end.receive_lock_held || moving_ != Moving::kNo) return;
  switch (end.passing) {
    case Passing::kNo:
      FallBack(e);
      // The program waits in sendmsg until TCP has what the FIFO owed.
      if (end.send_lock_held || !end.Alive() ||
          (SendStream::IsOwing(end.send.route.load()) && mutant_ != Mutant::kPassOwing))
        return;
      end.receive.ForgetTaken();
      Record("is under way to another process", e);
      end.passing = Passing::kUnderWay;
      return;
    case Passing::kUnderWay:
      Record("has arrived there, and is closed here", e);
      end.passing = Passing::kTaken;
      end.passed_early = end.passed_early || end.receive.residue_due.load() != 0 ||
                         end.receive.route.load() != ReceiveRoute::kTcp;
      return;
    case Passing::kTaken:
      return TakeUp(e);
  }
}

// What the peer's FIFO owes is known to nobody from here on: it comes by TCP, or the peer is killed
// and it is lost. Nobody else has it any more: what is in a call would go on with the socket, and
// what is owed would come too late.
void World::TakeUp(int e) {
  End& end = At(e);
  if ((end.send.kernel_users.Any() || end.receive.kernel_users.Any()) &&
      mutant_ != Mutant::kTakeUpInCall)
    return;
  if (SendStream::IsOwing(end.send.route.load()) && mutant_ != Mutant::kPassOwing) return;
  Record("is taken up", e);
  ++coverage_->taken_up;
  if (end.attached) {
    // The first process's agent lets go in its own time.
    end.mine->fifo.Seal();
    end.theirs->fifo.Seal();
    end.mine = end.theirs = nullptr;
    end.attached = end.leaving = end.kept = false;
  }
  // Its streams are others: nobody is inside a call that they know of.
  end.call_left_behind = end.reader_in_kernel[0] || end.reader_in_kernel[1];
  LeaveKernel(e);
  end.send.fifo = end.send.witness = end.receive.fifo = Fifo{};
  end.send.Renew();
  end.receive.Renew();
  end.passing = Passing::kNo;
}

// In the kernel, by who has received it.
void World::TakerSends(int e) {
  if (!At(e).closing_write) KernelSend(e, RandomSize());
}

void World::TakerReceives(int e, int flags) {
  std::vector<uint8_t> buffer(RandomSize());
  const iovec iov{buffer.data(), buffer.size()};
  const ssize_t received = In(e).Receive(&iov, 1, flags & MSG_PEEK);
  Record("receives elsewhere", e, received);
  if (received > 0) {
    Arrived(e, buffer, static_cast<size_t>(received), (flags & MSG_PEEK) != 0, false);
  } else if (received != -EAGAIN) {
    EndOfStream(e, received);
  }
}

}  // namespace xenloop::simulation
