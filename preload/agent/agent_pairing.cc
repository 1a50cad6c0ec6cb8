// Whose end is it? Where the kernel tracks connections, addresses may be translated, and equal
// names do not prove that two sockets are the ends of one connection. The FIFOs of such a pair are
// joined but not used until it is proved (channel/pairing.h); until then, and if it never is, all
// goes by TCP.
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"

namespace xenloop {
namespace {

constexpr uint64_t kLookNs = 250 * kNsPerMs;
constexpr uint64_t kLongestNs = 30 * kNsPerSecond;  // an attempt holds memory of both

// Under the lock no call of the program is looking at the FIFOs.
void EndPairing(Side* side) {
  LockScope scope(side->pairing_lock, CurrentTid());
  if (side->pairing_pid.load(std::memory_order_relaxed) == process_state.pid) side->pairing.End();
}

// The attempt is over: the peer is told, nothing of it is left here.
void GiveUpPairing(uint32_t slot, PairingVerdict verdict) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  const bool same_life = note.generation == side->generation.load(std::memory_order_acquire);
  const Reason reason =
      verdict == PairingVerdict::kOther ? Reason::kOtherConnection : Reason::kNotProvable;
  if (same_life && verdict == PairingVerdict::kOther) {
    side->pinned.store(1, std::memory_order_relaxed);
    CountFallback(reason);
  }
  note.mine.fifo.Seal();
  note.theirs.fifo.Seal();
  TellSealed(note, slot);
  const bool untold = side->reason.load(std::memory_order_relaxed) == Reason::kBeingProved;
  Abandon(slot, same_life && untold ? reason : Reason::kNone);
}

}  // namespace

Tracking TrackingOf(int fd, const Tuple& tuple) {
  constexpr int kOriginalDestination = 80;  // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
  sockaddr_storage name = {};
  const bool v4 = tuple.local.IsV4();
  socklen_t length = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  const long error = sys::Call(SYS_getsockopt, fd, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                               kOriginalDestination, sys::Word(&name), sys::Word(&length));
  // Not tracked; no such kernel.
  if (error == -ENOENT || error == -ENOPROTOOPT || error == -EOPNOTSUPP) return Tracking::kNone;
  Endpoint original;
  // Whatever else it says: it may be tracked.
  if (error != 0 || !ToEndpoint(name, &original)) return Tracking::kTracked;
  // It is the destination that the client named: our peer, or we. Of the source nobody tells.
  return SameEndpoint(original, tuple.local) || SameEndpoint(original, tuple.peer)
             ? Tracking::kTracked
             : Tracking::kTranslated;
}

// Between the namespaces of a realm others may track and translate unseen (SECURITY.md): whoever
// joins them vouches for that. To ask for a proof there would keep one-way streams on TCP.
bool WantsProof(const AgentSide& note) {
  if (GetConfig().test_points) return false;  // tests upgrade idle connections, at marked points
  return note.tracked;
}

bool NeedsProof(const AgentSide& note) {
  const PairingBoard& mine = note.mine.fifo.header->pairing;
  const PairingBoard& theirs = note.theirs.fifo.header->pairing;
  return mine.wanted.load(std::memory_order_relaxed) != 0 ||
         theirs.wanted.load(std::memory_order_acquire) != 0;
}

bool MayProve(const Talk& talk) {
  // The kernel shows a socket's counts to everybody: another user could follow the tosses.
  return IsBridged(talk) || IsTrusted(talk);
}

void BeginPairing(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  note.stage = Stage::kProving;
  note.proving_since_ns = AgentNs();
  side->reason.store(Reason::kBeingProved, std::memory_order_relaxed);
  {
    LockScope scope(side->pairing_lock, CurrentTid());
    side->pairing_pid.store(process_state.pid, std::memory_order_relaxed);
    side->pairing.Begin(&note.mine.fifo.header->pairing, &note.theirs.fifo.header->pairing);
  }
  agent.proving[slot / 64] |= 1ull << (slot % 64);
  agent.timers.StartWithin(Timer::kPairings, note.proving_since_ns, kLookNs);
}

void StopPairing(uint32_t slot) {
  if (agent.sides[slot].stage == Stage::kProving) EndPairing(SideAt(slot));
  agent.proving[slot / 64] &= ~(1ull << (slot % 64));
}

void ServicePairing(uint32_t slot) {
  AgentSide& note = agent.sides[slot];
  Side* side = SideAt(slot);
  if (note.stage != Stage::kProving) return;
  const bool ours = note.generation == side->generation.load(std::memory_order_acquire) &&
                    side->references.load(std::memory_order_relaxed) > 0 &&
                    FindSide(side->fd.load(std::memory_order_acquire)) == side;
  auto verdict = PairingVerdict::kNone;
  if (ours) {
    LockScope scope(side->pairing_lock, CurrentTid());
    if (side->pairing_pid.load(std::memory_order_relaxed) != process_state.pid)
      verdict = PairingVerdict::kNoAnswer;  // a child goes on with it
    else
      verdict = side->pairing.verdict.load(std::memory_order_relaxed);
    if (verdict == PairingVerdict::kNone) {
      side->pairing.Look();  // the program may have fallen silent after the peer has seen enough
      verdict = side->pairing.verdict.load(std::memory_order_relaxed);
    }
  }
  if (verdict == PairingVerdict::kSame && !note.theirs.fifo.Sealed()) {
    StopPairing(slot);
    Log("proved fd %d, slot %u", side->fd.load(), slot);
    if (Attach(slot)) return;
    verdict = PairingVerdict::kNoAnswer;
  } else if (ours && verdict == PairingVerdict::kNone && !note.theirs.fifo.Sealed() &&
             side->pinned.load(std::memory_order_relaxed) == 0 &&
             AgentNs() - note.proving_since_ns < kLongestNs) {
    return;
  }
  GiveUpPairing(slot, verdict);
}

uint64_t LookAtPairings() {
  bool any = false;
  EachSlotIn(agent.proving, [&any](uint32_t slot) {
    ServicePairing(slot);
    any = any || agent.sides[slot].stage == Stage::kProving;
  });
  return any ? kLookNs : kNotAgain;
}

}  // namespace xenloop
