// See world.h: two connections side by side, of which each end meets the other end of its own, or a
// stranger who has that one's name. Segments are under way for a while, programs read when they
// like and send several messages at once, the kernel acknowledges by itself now and then. A
// stranger is never taken for the other end (channel/pairing.h), and the other end never for a
// stranger.
#include <array>
#include <deque>

#include "channel/pairing.h"
#include "tests/simulation/world.h"

namespace xenloop::simulation {
namespace {

struct Socket {
  PairingCounts counts;
  std::deque<uint64_t> arriving;  // payload bytes of each segment on its way here
  bool owes_acknowledgement = false;
  uint64_t unread = 0;
  PairingBoard board{};
  Pairing pairing;
  bool proving = false;
};

class Pairs {
 public:
  Pairs(uint64_t seed, Mutant mutant, Coverage* coverage)
      : random_(seed), mutant_(mutant), coverage_(coverage), crossed_(random_.OneIn(2)) {
    for (int e = 0; e < 4; ++e) {
      Socket& peer = At(crossed_ ? 3 - e : e ^ 1);
      At(e).proving = !crossed_ || random_.OneIn(4) || e == 1 || e == 2;
      At(e).pairing.Begin(&At(e).board, &peer.board);
    }
  }

  void Run(uint64_t steps) {
    // In step most of the time: equal histories are the hard case.
    for (uint64_t i = 0; i < steps; ++i) {
      const bool burst = random_.OneIn(10);
      const uint64_t bytes = 1 + random_.Below(200);
      for (const int client : {0, 2}) {
        const uint32_t messages = burst ? 1 + random_.Below(3) : 1;
        for (uint32_t m = 0; m < messages; ++m) Send(client, bytes);
        Arrive(client ^ 1, burst);
        Read(client ^ 1);
        if (random_.OneIn(30)) Acknowledge(client ^ 1);  // the kernel's own
        Send(client ^ 1, bytes);
        Arrive(client, burst);
        Read(client);
      }
      Check();
    }
    for (const Socket& socket : sockets_) {
      if (socket.pairing.verdict.load() == PairingVerdict::kSame) ++coverage_->proved;
      if (socket.pairing.verdict.load() == PairingVerdict::kOther) ++coverage_->strangers;
    }
  }

 private:
  Socket& At(int e) { return sockets_[static_cast<size_t>(e)]; }

  // Sockets 0 and 1, 2 and 3 are connected.
  void Segment(int e, uint64_t bytes) {
    ++At(e).counts.segments_sent;
    At(e).owes_acknowledgement = false;
    At(e ^ 1).arriving.push_back(bytes);
  }
  void Acknowledge(int e) {
    if (At(e).owes_acknowledgement) Segment(e, 0);
  }
  void Send(int e, uint64_t bytes) {
    Socket& from = At(e);
    from.counts.bytes_sent += bytes;
    ++from.counts.data_segments_sent;
    Segment(e, bytes);
    if (Proving(from)) from.pairing.Sent(from.counts);
  }
  void Arrive(int e, bool perhaps_later) {
    Socket& to = At(e);
    while (!to.arriving.empty()) {
      if (perhaps_later && random_.OneIn(4)) return;
      ++to.counts.segments_received;
      to.counts.bytes_received += to.arriving.front();
      to.unread += to.arriving.front();
      to.owes_acknowledgement = to.owes_acknowledgement || to.arriving.front() > 0;
      to.arriving.pop_front();
    }
  }
  void Read(int e) {
    Socket& end = At(e);
    if (end.unread == 0) return;
    end.unread = random_.OneIn(8) ? end.unread / 2 : 0;
    const bool coin = mutant_ != Mutant::kNoCoins && random_.OneIn(2);
    if (Proving(end) && end.pairing.Received(end.counts, coin)) Acknowledge(e);
    if (mutant_ == Mutant::kTrustNames) end.pairing.verdict = PairingVerdict::kSame;
    if (mutant_ == Mutant::kNoCoins && end.counts.bytes_sent > 10000)
      end.pairing.verdict = PairingVerdict::kSame;  // their histories are equal
  }
  bool Proving(const Socket& socket) const {
    return socket.proving && socket.pairing.verdict.load() == PairingVerdict::kNone;
  }
  void Check() const {
    for (const Socket& socket : sockets_) {
      const PairingVerdict verdict = socket.pairing.verdict.load();
      if (crossed_ && verdict == PairingVerdict::kSame)
        throw Failure("a stranger's connection is taken for one's own");
      if (!crossed_ && verdict == PairingVerdict::kOther)
        throw Failure("the other end of one's own connection is taken for a stranger");
    }
  }

  Random random_;
  Mutant mutant_;
  Coverage* coverage_;
  const bool crossed_;
  std::array<Socket, 4> sockets_;
};

}  // namespace

void MeetStrangers(uint64_t seed, Mutant mutant, Coverage* coverage) {
  Pairs(seed, mutant, coverage).Run(100);
}

}  // namespace xenloop::simulation
