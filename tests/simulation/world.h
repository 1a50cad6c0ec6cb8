// The simulated world: two ends of one TCP connection, each with the streams of channel/stream.h,
// two writing and two reading threads and an agent; every choice comes from one seed. Steps of
// other parties are also taken in the middle of a stream's operation, at each of its calls to the
// shadow socket. A guest moves, announced or not, at any such point. Decides what may happen and
// what must never be seen.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/futex.h"
#include "tests/simulation/random.h"
#include "tests/simulation/tcp_pipe.h"

namespace xenloop::simulation {

// Deliberate errors in the protocol, made by hand on top of the real streams: each must be noticed.
enum class Mutant {
  kNone,
  kSealProducerOnly,         // flush without sealing the consumer's word
  kDropResidue,              // flush that forgets [C, P)
  kResendResidue,            // flush that starts one byte early
  kNewerBeforeResidue,       // a new byte enters TCP before the residue
  kSwitchUnderKernelUsers,   // switch without looking at the consumer or at the threads in the
                             // kernel
  kOffsetTooSmall,           // the switch offset is one byte short
  kReaderSkipsTcp,           // the reader takes the FIFO before N bytes of TCP
  kEndWithoutSeal,           // the reader leaves the FIFO without sealing it
  kForgetFlush,              // a FIFO is let go while its residue is still owed
  kReadinessWithoutAdvance,  // readiness that does not notice the peer's switch
  kCountPeeks,               // what a receive from TCP has only looked at counts as taken
  kForgetResidue,            // a sealed FIFO is let go before TCP has what it held
  kRecoverNothing,   // a lock taken over from a dead thread is used as if nothing had happened
  kReadyTooEarly,    // a guest freezes although not everybody has let go
  kKeepUnsealed,     // a FIFO is copied while it can still be used
  kAnswerUnsealed,   // who is asked where it stands reads on
  kTrustOldIndex,    // a guest that has moved unannounced believes the consumer's index that it
                     // brought along
  kWakeOnlyWhoAsks,  // a death wakes only those whose request still stands
  kTrustNames,       // who has the name of the other end is the other end
  kNoCoins,          // and who has an equal history as well
  kPassOwing,        // a connection is passed on while its FIFO owes TCP something
  kTakeUpInCall,     // and taken up while a thread of who had it is inside a call
  kCount
};
const char* NameOf(Mutant mutant);

// How often the rarer things have happened: a simulation that does not meet them proves nothing.
struct Coverage {
  uint64_t upgrades = 0;  // ends that went over to sending by a FIFO
  uint64_t fifo_bytes = 0;
  uint64_t tcp_bytes = 0;
  uint64_t full_fifos = 0;        // sends that found no room in a FIFO
  uint64_t unread = 0;            // FIFOs that were left because nobody took what they held
  uint64_t bypasses = 0;          // full FIFOs that were left because nobody read
  uint64_t pending_residues = 0;  // flushes that TCP did not take at once
  uint64_t drains = 0;  // receivers that knew the switch offset and still had TCP bytes to read
  uint64_t interruptions = 0;  // steps taken in the middle of another end's operation
  uint64_t shutdowns = 0;
  uint64_t closes = 0;
  uint64_t crashes = 0;
  uint64_t crashes_with_fifo = 0;  // the dead end left published bytes behind
  uint64_t dead_residues = 0;      // read from the FIFO of an end that died before it had sent them
  uint64_t dead_residues_after_close =
      0;                           // of these: the kernel's count left a doubt, ours did not
  uint64_t residues_in_doubt = 0;  // neither count was certain
  uint64_t dead_threads = 0;
  uint64_t sleeps = 0;           // of threads on a word of a FIFO
  uint64_t killed_wakers = 0;    // ends killed while they woke one
  uint64_t robbed_sleepers = 0;  // of these: somebody was asleep, and is not woken by them
  uint64_t resets = 0;
  uint64_t planned_moves = 0;
  uint64_t kept = 0;  // ends that kept privately what they owed or were owed
  uint64_t unplanned_moves = 0;
  uint64_t moves_settled = 0;     // of these: ends that were told how far the peer had read
  uint64_t moves_that_reset = 0;  // and ends that nobody told
  uint64_t unnoticed_losses = 0;
  uint64_t proved = 0;     // ends that know their peer by proof
  uint64_t strangers = 0;  // ends that know who has their peer's name for a stranger
  uint64_t taken_up = 0;   // ends that another process has received and follows
};

struct ThreadDied {};  // thrown out of the middle of a flush
struct EndDied {};     // thrown out of the middle of a wake-up

struct FifoMemory {
  explicit FifoMemory(uint64_t capacity_bytes);
  ~FifoMemory();
  FifoMemory(const FifoMemory&) = delete;
  FifoMemory& operator=(const FifoMemory&) = delete;
  std::shared_ptr<FifoMemory> Copy() const;
  void CutOff();
  void* memory;
  Fifo fifo;
};
using SharedFifo = std::shared_ptr<FifoMemory>;

// A thread that waits on a word of a FIFO.
struct Sleeper {
  const volatile void* armed = nullptr;  // it has asked to be woken, and looks once more
  uint32_t value = 0;
  const volatile void* asleep = nullptr;
};

// To another process; who has the end then (passing.cc).
enum class Passing { kNo, kUnderWay, kTaken };

struct End {
  SendStream send;
  ReceiveStream receive;
  SharedFifo mine;  // while attached
  SharedFifo theirs;
  SharedFifo at_death;  // the FIFO that a crashed end left behind
  bool attached = false;
  bool leaving = false;  // its agent lets go, since a guest moves
  bool kept = false;     // mine and theirs are copies of its own
  bool cut_off = false;  // it moved unannounced, and has met nobody since
  Passing passing = Passing::kNo;
  bool passed_early =
      false;  // not all had come that the peer's FIFO owed (D-9 of preload/README.md)
  bool call_left_behind = false;  // a receive of who had it before goes on
  bool closing_write = false;     // shutdown(SHUT_WR) has been called
  bool closed = false;
  bool lingering = false;  // closed, but the agent still owes bytes to TCP
  bool crashed = false;
  std::array<bool, 2> writer_in_kernel{};
  std::array<bool, 2> reader_in_kernel{};
  bool send_lock_held = false;  // by an operation that a step may interrupt
  bool receive_lock_held = false;
  Sleeper reader;  // the second thread of each kind may sleep
  Sleeper writer;
  uint64_t seen_edge = 0;  // of the shadow socket, by the agent
  uint64_t sent = 0;
  uint64_t in_flight = 0;  // bytes of an interrupted send, perhaps published
  uint64_t received = 0;
  bool saw_end = false;

  bool Alive() const { return !closed && !crashed; }
};

class World;

class VectorShadow {
 public:
  VectorShadow(World& world, int end) : world_(world), end_(end) {}
  bool StillOurs();
  ssize_t TrySend(const iovec* iov, size_t count);
  ssize_t TryReceive(const iovec* iov, size_t count, int flags);
  int64_t Written();
  int64_t Read();
  // As the kernel counts: a FIN is one byte, and a closed connection does not tell whether it is
  // in.
  int64_t ReceivedAtLeast();
  int64_t ReceivedAtMost();
  bool IsClosed();
  bool Ended();
  bool Readable();
  void Ring(bool certain, uint32_t bell);
  void RingAll(bool certain, uint32_t bell) { Ring(certain, bell); }
  void BeforeTcp() const {}
  void PushTcp() const {}  // our TCP keeps nothing back
  void Reset();

 private:
  World& world_;
  int end_;
};

class World {
 public:
  World(uint64_t seed, Mutant mutant, bool trace, Coverage* coverage);

  void Step();    // one random step, then all checks
  void Settle();  // nothing new: whatever is owed must arrive
  bool Over() const { return steps_since_end_ > kStepsAfterEnd; }  // nothing new will come
  std::string LastSteps() const;
  void Wake(const volatile void* word);  // a futex wake

 private:
  static constexpr uint32_t kStepsAfterEnd = 200;
  friend class VectorShadow;
  struct Note {
    const char* what;
    int end;
    int64_t value;
  };

  // world.cc
  void StepOf(int e);
  void Interrupt(int e, bool before_result);  // a shadow call of end e: others may act now
  void Record(const char* what, int e, int64_t value = 0);
  [[noreturn]] void Fail(const std::string& what) const;
  TcpPipe& Out(int e) { return pipes_[static_cast<size_t>(e)]; }
  TcpPipe& In(int e) { return pipes_[static_cast<size_t>(1 - e)]; }
  End& At(int e) { return ends_[static_cast<size_t>(e)]; }
  size_t RandomSize();
  void ResetConnection();

  // application.cc: what a program and the kernel under it do
  void AppSend(int e, size_t thread);
  void AppReceive(int e, size_t thread);
  void KernelSend(int e, size_t length);
  ssize_t KernelReceive(int e, size_t thread, size_t length, int flags);
  void LeaveKernel(int e);
  void Arrived(int e, const std::vector<uint8_t>& bytes, size_t n, bool peek, bool discard);
  void EndOfStream(int e, ssize_t result);
  DeadResidue FindsDeadResidue(int e);
  void BreakInDoubt(int e);
  void Shutdown(int e);
  void Close(int e);
  void KernelClose(int e, bool with_reset);
  void Crash(int e);

  // agent.cc: what agents do, as in preload/agent/agent_stream.cc
  void Offer(int e);
  void Join(int e);
  void Complete();
  bool MayAttach(const End& end) const;
  bool Established() const;
  void Attach(int e, SharedFifo mine, SharedFifo theirs);
  void Service(int e);
  void ShadowEvent(int e);
  void FallBack(int e);
  void ReaderStandsStill(int e);
  void LiesUnread(int e);
  void SealOneWord(int e);
  void DieInFlush(int e);

  // moving.cc
  void MoveOn(int e);
  void Vanish(int e);
  void Resume();
  void LetGo(int e);
  void KeepOwed(int e);
  void PointTo(int e, SharedFifo mine, SharedFifo theirs);
  void AbandonOffer();
  void CutOffBoth();
  void AskPosition(int e);
  bool HasLetGo(int e) const;
  bool MayMissBytes(int e) const;

  // passing.cc
  void PassOn(int e);
  void TakeUp(int e);
  void TakerSends(int e);
  void TakerReceives(int e, int flags);
  bool IsPassing() const;

  // sleeping.cc
  void HearFutexes();
  void MaySleep(int e, Sleeper* sleeper, std::atomic<uint32_t>& word);
  void DieInCall(int e, uint64_t published);
  void WakeOwnSleepersOf(int e);
  void CheckSleepers();

  // checks.cc
  void Check();
  void CheckFifo(const SharedFifo& memory);
  void CheckReadiness(int e);

  // mutants.cc
  void Misbehave(int e);

  Random random_;
  Mutant mutant_;
  bool trace_;
  Coverage* coverage_;
  std::array<TcpPipe, 2> pipes_;
  std::array<End, 2> ends_;
  struct {
    enum { kNone, kOffered, kJoined } stage = kNone;
    int from = 0;
    SharedFifo offered;
    SharedFifo joined;
  } offer_;
  enum class Moving { kNo, kPreparing, kFrozen, kAway } moving_ = Moving::kNo;
  int frozen_ = -1;  // the end that nothing happens at
  int depth_ = 0;    // of steps inside steps
  bool quiet_ = false;
  int killable_ = -1;  // the end whose wake-up may be its last step
  int dying_ = -1;     // the end whose thread dies at its next piece of residue
  // Only then may bytes be missing: what an end that is killed has published stays readable,
  // whoever seals its FIFO.
  bool reset_ = false;
  uint32_t size_bits_;
  uint32_t violence_;
  uint32_t steps_since_end_ = 0;
  std::array<Note, 64> notes_{};
  uint64_t noted_ = 0;
};

inline constexpr uint32_t kDeadThread = 0x3fffffff;  // above any pid that Linux gives out

// Two connections whose ends are known by each other's names (strangers.cc). Throws Failure.
void MeetStrangers(uint64_t seed, Mutant mutant, Coverage* coverage);

// Bytes of the stream of end `e`, from `position` on.
const uint8_t* StreamBytes(int e, uint64_t position);
inline constexpr size_t kLongestPiece = 1 << 16;

}  // namespace xenloop::simulation
