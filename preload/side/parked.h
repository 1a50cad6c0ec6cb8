// Parked connections (channel/PARKING.md) of this process: kernel connections that carry one
// connection of a program after the other. A pair is one end of such a connection: a side, a
// private number of its socket, and the end of its lives. While no program has it (it is idle) the
// side stands in the descriptor table under the private number, as a connection that nobody uses;
// so whatever befalls sides befalls it, too.
//
// Whose: of the process that has made it. A forked child has none.
#pragma once

#include <sys/socket.h>

#include "channel/parked_end.h"
#include "channel/parked_queue.h"
#include "channel/transport.h"
#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr uint32_t kMostPairs = 256;
inline constexpr uint32_t kMostDestinations = 64;
inline constexpr uint32_t kMostQueues = 16;
inline constexpr uint32_t kMostBoards = 16;  // client processes of one listener

// kMade: the agents set it up. kIdle and kOpen change under both locks of the side.
enum class PairStage : uint32_t { kFree, kMade, kIdle, kOpen };

// Options of a connection that a life may set, and that are as before in the next one.
inline constexpr int kRestoredOptions = 5;
struct RestoredOption {
  int level;
  int name;
};
extern const RestoredOption kRestored[kRestoredOptions];
// In Side::options_set: a bit for each of these, and one for any other.
inline constexpr uint32_t kOtherOption = 1u << 31;
// And besides: the program has waited for it by a poll or select of ours.
inline constexpr uint32_t kSeenInPoll = 1u << 30;
uint32_t OptionBit(int level, int name);

struct ParkedPair {
  std::atomic<PairStage> stage;
  Role role;
  Side* side;
  int fd;         // the private number
  uint32_t hint;  // its bit on the board
  ParkedBoard* board;
  ParkedEnd end;      // under both locks of the side; empty once its FIFOs are let go,
  LifeWord owed;      // and a life that waited then is accepted all the same
  uint32_t place;     // the destination, or the queue
  uint32_t board_at;  // of the queue's
  bool reset;         // nobody will accept it: both ends are to be told
  bool connecting;    // a connect() that did not wait has not been asked for its result
  Tuple tuple;        // as this end sees it
  sockaddr_storage peer_name;
  socklen_t peer_name_length;
  int initial[kRestoredOptions];
  std::atomic<uint64_t> idle_since_ns;
  std::atomic<int> accepted_fd;  // server, while it is made: what accept() has brought, or -1
};

// kSeveral: of several threads, so that the last one noted need not be the last one queued.
enum Ordinary : uint32_t { kNoneWaits, kOneMayWait, kSeveralMayWait };

// The client's: to where it connects often.
struct Destination {
  RecoverableLock lock;
  std::atomic<uint32_t> in_use;
  sockaddr_storage name;
  socklen_t name_length;
  Endpoint to;
  std::atomic<uint64_t> window_ns;  // since when connections are counted
  std::atomic<uint32_t> count;
  uint64_t life ABSL_GUARDED_BY(lock);  // the last one that was begun
  // Mapped until another one takes its place.
  FifoMapping mapping ABSL_GUARDED_BY(lock);
  ParkedBoard* board ABSL_GUARDED_BY(lock);
  uint64_t board_id;
  std::atomic<uint32_t> wanted;         // pairs
  std::atomic<uint32_t> made;           // also those that are being made
  std::atomic<uint64_t> not_before_ns;  // when one that could not be made is asked for again
  uint64_t pause_ns;                    // the agent's: so long it was this time
  std::atomic<Reason> why;              // why it could not
  std::atomic<uint32_t> hint;           // where the last one was found
  // An ordinary connection of ours there may not have been accepted yet, and then no life begins:
  // the server is to accept them in the order in which they were made.
  std::atomic<uint32_t> ordinary;                // Ordinary
  Endpoint ordinary_name ABSL_GUARDED_BY(lock);  // ours, of the last one
  uint32_t ordinary_tid ABSL_GUARDED_BY(lock);
  std::atomic<ParkedPair*> pairs[kMostParked];
};

// One end of a pair, as the listener's queue sees it.
class QueuedEnd {
 public:
  void Set(ParkedPair* pair) { pair_.store(pair, std::memory_order_release); }
  ParkedPair* pair() const { return pair_.load(std::memory_order_acquire); }
  explicit operator bool() const { return pair() != nullptr; }
  LifeWord Word() const;
  LifeAccept Accept();

 private:
  std::atomic<ParkedPair*> pair_;
};

// Of one client process. Once made the memory stays: what an old client writes there is a hint.
struct QueueBoard {
  std::atomic<ParkedBoard*> board;
  int board_fd;
  uint64_t id;
  uint32_t talk;   // + 1; 0: nobody's
  uint64_t fence;  // its last life that is accepted before the kernel's next connection
  QueuedEnd ends[kMostParked];
};

// kForNow: as after a fork; once nothing is left of the queue, and the listener is ours alone, it
// begins anew. kQueueOverWhileItBlocks: and the listener does not block any more.
enum QueueOver : uint32_t {
  kQueueGoesOn,
  kQueueOverForNow,
  kQueueOverWhileItBlocks,
  kQueueOverForGood
};

// The server's: a listener that accepts often.
struct ListenerQueue {
  RecoverableLock lock;  // one thread accepts
  std::atomic<uint32_t> in_use;
  Side* listener;
  uint32_t generation;
  std::atomic<uint64_t> window_ns;
  std::atomic<uint32_t> count;
  std::atomic<uint32_t> published;  // 1: to be; 2: it is
  std::atomic<uint32_t> over;       // QueueOver: no pair is made any more
  std::atomic<Reason> why;          // the listener has none
  bool blocks;                      // the listener: who accepts may sleep in the kernel
  // Whether somebody looks at all: the agent's, at what has waited for some looks.
  uint64_t seen_news;
  uint32_t seen_looks;
  uint32_t kicks;
  // How the kernel's queue gets its turn, under the lock: see parked_accept.cc.
  uint32_t until_look;
  uint32_t before_fence;
  bool fenced;
  std::atomic<uint32_t> turn;   // of the boards
  std::atomic<uint32_t> taken;  // lives accepted
  Endpoint name;
  bool ipv6_only;
  uint32_t backlog;
  std::atomic<uint32_t> pairs;
  QueueBoard boards[kMostBoards];
};

struct ParkedState {
  ParkedPair pairs[kMostPairs];
  Destination destinations[kMostDestinations];
  ListenerQueue queues[kMostQueues];
  std::atomic<uint32_t> wanted;  // the agent has something to do
  // Pairs of which an accept() of this process is going to bring the connection: those that are
  // being made, and those that nobody wants any more. A forked child expects them as well.
  std::atomic<uint32_t> expected;
  uint64_t boards;  // made so far, by the agent
  // For `xenloop stat`.
  std::atomic<uint64_t> connected, accepted, parked, made, ended;
};
extern ParkedState parked;
// There is something in `parked` that a fork has to end and to forget. A word of its own: whoever
// never parks does not touch the pages of the others.
extern std::atomic<bool> parks_something;

// The pair of this side, if it is one of this process.
ParkedPair* PairOf(const Side* side);
// Once lives may come by it: the agent has published the listener.
ListenerQueue* QueueOf(const Side* listener);
// From its first connection on.
ListenerQueue* CountsFor(const Side* listener);
// False: no pair is made for it.
bool MayGoOn(ListenerQueue* queue);
// A free one, as kMade; or nullptr. The agent's.
ParkedPair* TakePair(Role role);

// The server's, kMade: its connection has not been accepted yet.
inline bool IsExpected(const ParkedPair& pair) {
  return pair.stage.load(std::memory_order_acquire) == PairStage::kMade &&
         pair.role == Role::kServer && pair.accepted_fd.load(std::memory_order_acquire) < 0 &&
         pair.fd < 0;
}
// And nobody wants it: it is to be taken away from the program, which must not see it.
inline bool IsOrphan(const ParkedPair& pair) { return IsExpected(pair) && pair.side == nullptr; }
void NoLongerExpected();
// The orphan has come, or will not. One of those who find out at once.
void EndOrphan(ParkedPair* pair);

// Eight within a second.
bool IsHot(std::atomic<uint64_t>& window_ns, std::atomic<uint32_t>& count);

// One for this listener, or nullptr: there are too many.
ListenerQueue* BeginQueue(Side* listener);
// Something waits in the listener's virtual queue; `news` changes with what it is.
bool QueueHolds(const Side* listener, uint64_t* news);

// Before a thread sleeps in the kernel's accept, and when it has come back. It has counted itself
// among the listener's kernel users before, and looks at the queue afterwards.
void AcceptorEnters(ListenerQueue* queue);
void AcceptorLeft(ListenerQueue* queue);

// By which bell who waits for the listener is woken.
void NameQueueBell(const Side* listener, uint32_t bell);

// No life begins on the listener any more, and no open one has a successor; what waits is accepted
// as ordinary connections. Closed: and nobody will; then both ends of it are reset.
enum class QueueEnd : uint8_t { kGoesOn, kClosed };
void EndQueue(Side* listener, QueueEnd how);

// The kernel's close tells the other end by RST.
void ResetWhenClosed(int fd);

// An idle pair goes: its connection is closed by the agent. An open life is the last one.
void EndPair(ParkedPair* pair);
void EndAllPairs();  // before fork, exec
// The agent has to close them, or a life of theirs waits to be accepted: a poll of ours tells of
// it.
bool HoldsIdlePairs();
void ForgetParked();  // in a forked child
// The program closes the side really, or it is gone: the pair with it.
void LetGoOfPair(Side* side);

// A life begins under `fd`: under both locks of the side.
void BeginLife(ParkedPair* pair, int fd, bool nonblocking)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(pair->side->send.lock, pair->side->receive.lock);

// ,"lives":{"connected":n,...} into `text`, if there ever was a pair, and ,"not_parked":{reason:n},
// of listeners and destinations that have none; the length.
size_t FormatParked(char* text, size_t capacity);

}  // namespace xenloop
