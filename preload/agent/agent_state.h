// What the parts of the agent share. Everything here belongs to the agent thread, except where a
// comment says otherwise: no lock guards it. What other threads may touch is in
// side/agent_shared.h. A transport's devices have a state of their own (devices.h).
#pragma once

#include <string.h>

#include <atomic>
#include <cstdint>

#include "channel/transport.h"
#include "discovery/peer_table.h"
#include "discovery/protocol/control.h"
#include "discovery/registry.h"
#include "preload/agent/timers.h"
#include "preload/side/agent_shared.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr uint32_t kNoTalk = ~0u;

struct Devices;

// The talk with one other agent. Its doorbell stands in agent_shared.h.
struct Talk {
  int fd = -1;
  bool in_use = false;
  bool ready = false;    // HELLO received
  bool leaving = false;  // told to; closed as soon as nothing of it is left
  bool kept = false;     // the parent's, before the fork: only its doorbell is used, by sides that
                         // the parent has attached
  bool asks = false;     // to our xenloopd, for questions of agent_position.cc
  uint64_t agent_id = 0;
  uint64_t netns_cookie = 0;
  int32_t pid = 0;
  int32_t kernel_pid = 0;  // as the kernel says
  uint32_t uid = 0;
  uint32_t sides = 0;
  const Transport* transport = nullptr;  // what carries its streams
  uint64_t fifo_bytes = 0;               // of a FIFO of ours for it
  // A peer in another guest, behind our xenloopd (agent_bridge.cc):
  const Devices* devices = nullptr;  // null: it is a process of this kernel
  uint32_t guest = 0;                // the peer's, as xenloopd says
  uint32_t events = 0;               // rings of this period
  uint32_t life = 0;                 // of our guest, when the talk began
  // What the socket did not take yet (agent_post.cc).
  uint32_t first_unsent = 0;  // entry + 1; 0: nothing waits
  uint32_t last_unsent = 0;
  uint32_t answers_unsent = 0;  // JOIN and REFUSE among them
  uint32_t offers_out = 0;      // without an answer
  uint32_t watched = 0;         // the events that the socket is watched for
  bool full = false;            // until EPOLLOUT
  bool short_of = false;        // of memory: until the clock says so
  bool deaf = false;            // has not read for so long that it is given up
};

// kProving: joined, and nobody knows yet whether to the right one (agent_pairing.cc).
// kParking: made by agents, for lives to come (agent_park.cc).
enum class Stage : uint8_t { kNone, kPublished, kWaiting, kOffered, kProving, kParking, kAttached };

// What the kernel says of the addresses of a connection.
enum class Tracking : uint8_t { kNone, kTracked, kTranslated };

// The agent's own notes on a side, by slot.
struct AgentSide {
  Stage stage = Stage::kNone;
  bool told_send = false;     // the peer knows that our FIFO is sealed
  bool told_receive = false;  // the peer knows that its FIFO is sealed
  bool heard = false;         // the peer has told us the like
  bool offer_out = false;     // counted in the talk
  bool in_map = false;
  bool tracked = false;  // by the kernel: its addresses may be translated
  bool seeks = false;    // it is we who know that it may be offered again, so we make the offer
  uint32_t generation = 0;
  uint32_t next_in_bucket = 0;  // slot + 1
  uint32_t talk = kNoTalk;
  uint32_t peer_slot = 0;
  uint32_t peer_generation = 0;
  uint64_t proving_since_ns = 0;
  uint64_t ask_identity = 0;    // of the FIFO of ours that the peer is asked about; 0: none
  uint64_t asked_identity = 0;  // the last one; each is asked about once, until there is an answer
  uint64_t ask_until_ns = 0;
  uint64_t seen_index = 0;  // of our FIFO's producer, at the last look for idle memory
  bool discarded = true;    // no page of our FIFO's data has been used since it was given back
  // A reader that is watched (agent_watch.cc): how far it was when it was last seen to move, and
  // when; the next look. `bypassed`: it stood still, and our direction goes by TCP meanwhile.
  bool bypassed = false;
  uint32_t bypasses = 0;  // of late; see CountBypass
  uint64_t attached_at_ns = 0;
  uint64_t watched_position = 0;
  uint64_t watched_since_ns = 0;
  uint64_t watch_at_ns = 0;
  // Bytes in our FIFO that nobody takes (agent_unread.cc): since when, and how far the reader was.
  // `reads_unseen`: the last one to leave any took none of that FIFO; offers of his have to wait.
  bool reads_unseen = false;
  uint64_t unread_since_ns = 0;
  uint64_t unread_taken = 0;
  bool lay_unread = false;  // so it ended: the peer's agent is told with SEALED
  Tuple tuple;
  FifoMapping mine;
  FifoMapping theirs;
};

// kMaxTalks of them once the agent has been started, none before: a program that has no agent
// pays no page for them.
struct TalkTable {
  Talk* first = nullptr;
  Talk& operator[](uint32_t index) const { return first[index]; }
  Talk* begin() const { return first; }
  Talk* end() const { return first == nullptr ? nullptr : first + kMaxTalks; }
};

// What is looked at by the clock (timers.h), in this order.
enum class Timer : uint32_t {
  kReaders,     // of full FIFOs
  kUnread,      // bytes in FIFOs
  kIdleMemory,  // to be given back
  kPostponed,   // upgrades
  kListener,    // could not accept all
  kDevices,
  kPositions,  // asked for, of readers
  kPairings,   // being proved
  kPost,       // that the kernel had no memory for
  kThreads,    // of this program: what they wait in
  kParked,     // connections that nobody uses
  kOwner,      // of the FIFOs that we use: is it another program by now?
  kInherited,  // epoll sets: do other programs have them?
  kCount
};

// A packet that waits for room, with the descriptor that it brings (-1: none), which is private.
struct Unsent {
  ControlMessage message;
  int fd;
  uint32_t next;  // entry + 1
};
// Beyond it a peer is given up that has not read meanwhile.
inline constexpr uint32_t kMostUnsent = 65536;

struct Post {
  Unsent* entries = nullptr;  // kMostUnsent of them, of which `used` have been in use
  uint32_t used = 0;
  uint32_t free = 0;  // entry + 1
  bool due = false;   // some offer that waits may be made, or a deaf peer is to be given up
  uint64_t waiting[kSideWords] = {};  // a bit a side whose offer waits for room
};

inline constexpr uint32_t kBuckets = 16384;

struct AgentState {
  int epoll_fd = -1;
  int listen_fd = -1;
  int page_fd = -1;    // the doorbell's page, for tickets
  int parent_fd = -1;  // a pidfd of the process whose FIFOs we use (agent_borrowed.cc)
  uint64_t id = 0;
  uint64_t netns_cookie = 0;
  uint32_t uid = 0;
  Registry registry;
  AgentSide* sides = nullptr;  // kMaxSides of them
  TalkTable talks;
  // kBuckets of them: first slot + 1 of the published sides whose tuple hashes there.
  uint32_t* buckets = nullptr;

  TimerList<Timer> timers;
  uint64_t clock_ahead_ns = 0;        // of the program's clock, which may stand still: AgentNs
  uint64_t proving[kSideWords] = {};  // a bit a side whose pairing is being proved
  Post post;
  uint32_t looks_in_vain = 0;     // at threads (agent_threads.cc)
  bool awaits_inherited = false;  // Timer::kInherited is set
  PeerTable table;                // whose address is it? By our xenloopd
  uint64_t table_look_at_ns = 0;
  int ending_turns = 0;  // agent_end.cc: of letting go of all, so far

  // In a forked child: as before an agent was started, but for memory, which is used again.
  void Renew();
};
extern AgentState agent;
// The memory behind `sides`, `talks`, `buckets` and the peers' doorbells. False: there is none.
bool MapAgentMemory();

// The agent's clock, for timers and what they look at. Under libfaketime the program's own may
// stand still; then the agent's goes by the times that it has slept.
inline uint64_t AgentNs() { return sys::MonotonicNs() + agent.clock_ahead_ns; }

inline Doorbell& DoorbellOf(const Talk& talk) {
  return agent_shared.peers[&talk - agent.talks.first];
}
// Is the process at the other end of the socket a daemon, and the peer a process of another guest?
inline bool IsBridged(const Talk& talk) { return talk.devices != nullptr; }
// A place in the table as if nobody had used it.
void ForgetToldBells(uint32_t talk);  // agent_bells.cc
inline void Renew(Talk& talk) {
  talk = Talk{};
  DoorbellOf(talk) = Doorbell{};
  ForgetToldBells(static_cast<uint32_t>(&talk - agent.talks.first));
}

// The work of a timer is a function whose result is the pause until the next time, in nanoseconds,
// or kNotAgain; `pause_ns` is the pause that has just ended.

// agent.cc
// Starts the agent if there is none. False: there is none, and agent_shared.start_failure says why.
bool EnsureAgent();
void CloseRegistry();
// Nothing is upgraded in this process any more, and every stream goes back to TCP. Any thread.
void EndSharing(Reason reason);
enum class WatchKind : uint32_t { kPoke, kListener, kTalk, kShadow, kDevices, kParent };
uint64_t NetnsCookieOf(int fd);  // of a socket; 0: the kernel does not know
int Watch(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events);
// The same for one that is watched already.
int WatchAnew(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events);

// Publishes everything anew where the runtime directory's name leads now (a realm is another one
// after a move). kNone, or why not: then nobody reaches this agent.
Reason OpenRealmAnew();

// agent_fork.cc
// All that an agent whose thread is gone has left, but its doorbell.
void DropAgent();

// agent_end.cc
// In the agent's thread, which is to end: leaves all peers. True once nothing is left.
bool LetGoOfAll(Reason reason);
// Likewise, if that costs no connection anything. True: the thread is to end.
bool MayRest();

// trial.cc
// Whether a system call filter keeps us from having an agent: kNone, or why.
Reason FilterInTheWay();

// agent_talk.cc
void AcceptTalks();
// May this peer harm us? Everybody else of our user, and root, can do to us what it likes anyway.
bool IsTrusted(const Talk& talk);
// By configuration; whose the other end of a connection is must be asked besides.
bool SharesMemoryWith(uint32_t uid);
// Takes the connected socket `fd`; kNoTalk (and closed) if it is not to be had.
uint32_t AdoptTalk(int fd);
int SendHello(Talk& talk);
void TalkEvent(uint32_t index, uint32_t events);
// The talk to that agent, connecting if there is none; kNoTalk if it cannot be reached.
uint32_t TalkTo(uint64_t agent_id, uint32_t uid);
void ReleaseTalkIfUnused(uint32_t index);

// agent_post.cc
// 0: sent, or kept until there is room. -EAGAIN: an OFFER, or what is asked again anyway, found no
// room.
int SendControl(Talk& talk, const ControlMessage& message, const int* fds, size_t fd_count);
// Watches the talk's socket for what concerns it now.
void WatchTalk(Talk& talk);
bool ReadsFrom(const Talk& talk);
void GoOnSending(uint32_t index);  // there is room again
void DropUnsent(Talk& talk);
// The side's offer has to wait: it is made by DeliverPost when there is room for it.
bool AwaitsRoomForOffer(uint32_t slot);
void OfferIsOut(AgentSide& note);
void OfferIsAnswered(AgentSide& note);  // or nobody waits for the answer any more
// Makes the offers that there is room for now, and gives up who has not read for too long.
void DeliverPost();
// What no event tells the end of: tries again, and says when next (timers.h).
uint64_t SendAfterShortage(uint64_t pause_ns);

// agent_fork.cc
// A doorbell of the parent's time that no side of ours rings any more.
void ReleaseKeptTalks();

// agent_publish.cc
void Unlist(uint32_t slot);
// Under which something other than a connection is announced, a socket by its name: the second half
// is no address of anybody, but says of which kind it is.
inline Tuple NameHint(const char (&kind)[17], const Endpoint& name) {
  Tuple tuple;
  tuple.local = name;
  memcpy(tuple.peer.address, kind, sizeof tuple.peer.address);
  return tuple;
}
uint32_t FindPublished(const Tuple& tuple);  // the side's slot, or kMaxSides
// Reads from the kernel what the data path must know. kNone: the side can be upgraded; else why
// not.
Reason Probe(int fd, Side* side, Tuple* tuple);
// `seek`: also if it is the other end that is meant to make the offer.
void ConsiderSide(uint32_t slot, bool seek = false);
// There may be new peers: looks for those of all published sides.
void LookAround();

// agent_stream.cc: from offering to attaching
bool PeerMayHold(const Talk& talk, const Tuple& tuple);
// Or lets it wait for room.
void SendOffer(uint32_t slot);
// Joins both FIFOs to the side. False: the side has changed under us; nothing is attached.
bool Attach(uint32_t slot);
void DropFifos(AgentSide& note);
void LeaveTalk(AgentSide& note);
// An attempt that is not attached: back to "published". The reason so far stays with kNone.
void Abandon(uint32_t slot, Reason reason);
void TalkReady(uint32_t index);
// Why this offer will be refused, whatever it brings; kCount: it may be accepted.
RefusalReason ObjectionTo(uint32_t talk, const ControlMessage& offer);
void OnOffer(uint32_t talk, const ControlMessage& message, Ticket* ticket);
void OnJoin(uint32_t talk, const ControlMessage& message, Ticket* ticket);
void OnRefuse(uint32_t talk, const ControlMessage& message);
void OnSealed(uint32_t talk, const ControlMessage& message);
void FallBackEverything(Reason reason);

// agent_datagram.cc: UDP sockets
void ServiceDatagrams();
void DatagramTalkReady(uint32_t index);
void DatagramTalkGone(uint32_t index);
// As ObjectionTo.
RefusalReason ObjectionToDatagrams(uint32_t talk, const ControlMessage& offer);
// False: it breaks the protocol.
bool OnDatagramMessage(uint32_t talk, const ControlMessage& message, Ticket* ticket);

// agent_pairing.cc: whose end it is, where names do not prove it
Tracking TrackingOf(int fd, const Tuple& tuple);
// This end wants a proof, as far as it can know; once joined: either does.
bool WantsProof(const AgentSide& note);
bool NeedsProof(const AgentSide& note);
// Would a proof with this peer be one?
bool MayProve(const Talk& talk);
void BeginPairing(uint32_t slot);
void StopPairing(uint32_t slot);  // before the FIFOs are let go
// Something has changed: attaches, gives up, or goes on.
void ServicePairing(uint32_t slot);
uint64_t LookAtPairings();

// agent_position.cc: after a suspension without notice
// Our FIFO was cut off from its reader: asks where that stands, and thereby tells it to let go.
void AskPosition(uint32_t slot);
uint64_t AskAgain(uint64_t now);
// Both from our xenloopd. False: it breaks the protocol.
bool OnWhere(uint32_t talk, const ControlMessage& message);
bool OnStands(uint32_t talk, const ControlMessage& message);

// agent_bridge.cc: peers behind our xenloopd, and what their transports need
long ConnectToDaemon();  // -errno
// The peer of a published side may be in another guest: asks our xenloopd. False: it is not. Both
// ends ask: the one that publishes first is told that nobody holds the other end, and to ask again
// and again costs the daemons of both guests; the second finds it.
bool SeekBehindDaemon(uint32_t slot);
// Both from xenloopd. False: it breaks the protocol, the talk is to be closed.
bool OnBridge(uint32_t talk, const ControlMessage& message, Ticket* ticket);
bool OnLeave(uint32_t talk, const ControlMessage& message);
// May a process of that guest hold the other end of the connection? The daemons have checked the
// processes.
bool GuestMayHold(const Talk& talk, const Tuple& tuple);
void DeviceEvents(uint32_t which);  // of the devices with this number
uint64_t LookAtDevices(uint64_t now);
void AddOwnPage(DoorbellPage* page);                // other guests look at it before they ring
void ForgetBridges();                               // in a forked child
void DescribeDevices(char* text, size_t capacity);  // for `xenloop stat`; often nothing

// agent_reclaim.cc
void ReclaimLater();  // a FIFO has been made
uint64_t ReclaimIdleMemory(uint64_t pause_ns);

// agent_retry.cc
// An upgrade that has to wait for another process; any thread.
void Postpone(uint32_t slot);
void RetryLater();  // if something has been postponed
uint64_t RetryPostponed(uint64_t pause_ns);

// agent_borrowed.cc
void WatchParent();  // if something of its has been borrowed since
void ParentHasEnded();
// Its process may go on as another program, of which no pidfd tells: while something is owed we
// look whether its agent's thread is there.
bool OwnersAgentHasEnded();
uint64_t LookAtOwner();
void ReturnBorrowed(Reason reason);  // to TCP, in both directions

// agent_watch.cc
uint64_t WatchReaders(uint64_t now);
// Our direction has just gone back to TCP: the other one does when TCP has taken all.
void WatchBypassed(uint32_t slot, uint64_t now);
// The reader, who has taken so much of the FIFO in question, stands still or does not read: so many
// doublings more of what there is to be between two attempts. Time on FIFOs without that makes them
// fewer.
void CountBypass(AgentSide& note, uint64_t taken, uint32_t doublings, uint64_t now);
// The next attempt, by how often the reader has stood still.
void PutOffAttempt(AgentSide& note, Side* side);

// agent_unread.cc
void StartUnreadLooks();  // if somebody has asked for one
uint64_t LookForUnread(uint64_t now);
// False: whoever is at the other end may not know of FIFOs; it is too early to try again.
bool MayBeOfferedAgain(const AgentSide& note, const Side* side);

// agent_threads.cc
// A peer has left a FIFO of ours, because nobody took what lay in it.
void SuspectUnseenWaits();
uint64_t LookAtThreads(uint64_t pause_ns);

// agent_inherited.cc
// A side is not upgraded because of one; looks for the end of that from now on.
void AwaitInheritedSets();
uint64_t LookAtInheritedSets(uint64_t now);

// agent_bells.cc
// The peer is to know the bells by which the side's FIFOs may wake us.
void TellBells(uint32_t slot);
void TellBellsAnew(uint32_t talk);  // those that have found no room
// Whether a BELL's descriptor is to be taken.
bool WantsBell(uint32_t talk, const ControlMessage& message);
// False: it breaks the protocol.
bool OnBell(uint32_t talk, const ControlMessage& message, Ticket* ticket);

// agent_service.cc: attached sides, and letting go
void TellSealed(AgentSide& note, uint32_t slot);
void ServiceSide(uint32_t slot);
// Nobody is left to wait for what the side owes or is owed: a reset, if there is anything.
void EndSide(uint32_t slot);
void ShadowEvent(uint32_t slot, uint32_t generation, uint32_t events);
void TalkGone(uint32_t index);
// In order: its sides go back to TCP, nothing stays mapped, shared or bound, and only then is the
// socket closed, which the other end of it takes for an answer.
void LeavePeer(uint32_t index, Reason reason);
void LeaveAllPeers(Reason reason);

// agent_report.cc: answers a tool's question on a talk. False: the talk is to end (it may not
// ask, or does not read).
bool AnswerTool(Talk& talk, const char* question);

}  // namespace xenloop
