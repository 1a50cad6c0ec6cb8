// What the files of this room do for each other, by file: the agent's tasks (agent_state.h has what
// they share). Nobody else needs them: agent.h has what others may ask.
#pragma once

#include "preload/agent/agent_state.h"

namespace xenloop {

// The work of a timer is a function whose result is the pause until the next time, in nanoseconds,
// or kNotAgain; `pause_ns` is the pause that has just ended.

// agent_start.cc
// Starts the agent if there is none. False: there is none, and agent_shared.start_failure says why.
bool EnsureAgent();
uint64_t NetnsCookieOf(int fd);  // of a socket; 0: the kernel does not know
// Publishes everything anew where the runtime directory's name leads now (a realm is another one
// after a move). kNone, or why not: then nobody reaches this agent.
Reason OpenRealmAnew();

// agent.cc
void* AgentMain(void*);  // the thread
void CloseRegistry();
// Nothing is upgraded in this process any more, and every stream goes back to TCP. Any thread.
void EndSharing(Reason reason);
enum class WatchKind : uint32_t { kPoke, kListener, kTalk, kShadow, kDevices, kParent };
int Watch(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events);
// The same for one that is watched already.
int WatchAnew(int fd, WatchKind kind, uint32_t index, uint32_t generation, uint32_t events);

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
