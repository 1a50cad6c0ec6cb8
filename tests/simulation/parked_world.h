// The simulated world of parked connections: a client's and a server's process, two pairs of FIFOs
// with TCP beneath, programs that connect, send, shut down and close, agents, seals, moves, forks,
// idle closes, a listener that closes, processes that are killed, and beside the lives the kernel's
// own connections, for which the server may sleep. Every choice comes from one seed; others act
// before each look at a life word, and a process may die there. Decides what may happen and what
// must never be seen.
#pragma once

#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "channel/parked_turn.h"
#include "tests/simulation/random.h"
#include "tests/simulation/tcp_pipe.h"

namespace xenloop::simulation {

// Deliberate errors: each must be noticed.
enum class ParkedMutant {
  kNone,
  kTcpOfTheLiving,     // a residue goes by TCP before the word is DEAD
  kForgetResidue,      // a fallback sends nothing of what the FIFO held
  kNoLifeCheck,        // a thread of a former life sends
  kNoLookAfterSend,    // a sender does not look whether the other has closed
  kParkAtFirstClose,   // the first close parks
  kEndByTheWordAlone,  // the end of the stream, without looking at what is still there
  kIdleCloseFirst,     // a parked pair's descriptor is closed, then its word is ended
  kCloseWhatWaits,     // the agent closes what is still to be accepted
  kHintLast,           // an accept takes the hint away after the word
  kNoDeathCheck,       // a dead server's pair is taken
  kKernelFirst,        // the kernel's listener is closed, then the words
  kUnsealedReset,      // a claim takes a seal away
  kHalfCloseLost,      // a fallback after a shutdown tells TCP nothing of it
  kNotAsked,           // a life begins while the client's ordinary connection waits
  kNoTurn,             // the kernel's queue is asked for when no life waits
  kNoFence,            // its turn comes before the lives that are older
  kFenceLeft,          // a fence outlives the connection that it was for
  kNoTakeBack,         // a life is not taken back from who sleeps in the kernel's accept
  kTakeBackUnseen,     // it is, though it may have been accepted
  kNoSecondLook,       // who goes to sleep there does not look once more
  kNoKick,             // who sleeps unseen is not woken
  kKickSeen,           // the program sees the connection that wakes it
  kCount
};
const char* NameOf(ParkedMutant mutant);

struct ParkedCoverage {
  uint64_t lives = 0;
  uint64_t parked = 0;
  uint64_t really_closed = 0;
  uint64_t accepted_dead = 0;
  uint64_t fifo_bytes = 0;
  uint64_t tcp_bytes = 0;
  uint64_t residues = 0;
  uint64_t ends = 0;
  uint64_t resets = 0;
  uint64_t lost_claims = 0;
  uint64_t idle_closes = 0;
  uint64_t listeners_closed = 0;
  uint64_t killed = 0;
  uint64_t killed_inside = 0;
  uint64_t dead_residues = 0;
  uint64_t stale_threads = 0;
  uint64_t hostile_words = 0;
  uint64_t interruptions = 0;
  uint64_t ordinary = 0;
  uint64_t fences = 0;
  uint64_t taken_back = 0;
  uint64_t asleep = 0;
  uint64_t kicks = 0;
  uint64_t phantoms = 0;
};

class ParkedWorld;

// A pointer to a life word that gives others their chance before each use.
class SteppedWord {
 public:
  SteppedWord() = default;
  SteppedWord(ParkedWorld* world, SharedLifeWord* word) : world_(world), word_(word) {}
  SharedLifeWord* operator->() const;
  explicit operator bool() const { return word_ != nullptr; }

 private:
  ParkedWorld* world_ = nullptr;
  SharedLifeWord* word_ = nullptr;
};

class ParkedWorld {
 public:
  ParkedWorld(uint64_t seed, ParkedMutant mutant, ParkedCoverage* coverage);
  void Step();
  void Settle();  // no more choices: whatever is there must arrive and end
  std::string LastSteps() const;
  void Interrupt();

 private:
  static constexpr int kPairs = 2;
  static constexpr int kClient = 0;
  static constexpr int kServer = 1;
  using End = BasicParkedEnd<SteppedWord>;
  struct Died {};

  // One connection as the programs see it; indexed by end: what it has sent, read, said.
  struct Connection {
    int pair = -1;
    uint64_t serial = 0;  // of the pair in its slot
    uint64_t life = 0;
    uint64_t order = 0;  // of the client's connects
    bool taken_back = false;
    uint64_t sent[2] = {0, 0};
    uint64_t got[2] = {0, 0};  // by end e, of what the other has sent
    bool finished[2] = {false, false};
    bool closed[2] = {false, false};
    bool ended[2] = {false, false};  // end e has met the end of the stream, or a RST
    bool accepted = false;
    bool excused = false;  // killed, reset by the listener's close, or a liar's
  };
  struct Memory {
    explicit Memory(uint64_t capacity_bytes);
    std::unique_ptr<uint8_t, decltype(&std::free)> bytes;
    Fifo fifo;
  };
  struct Pair {
    Memory memory[2] = {Memory(4096), Memory(4096)};  // [e]: what end e sends
    TcpPipe tcp[2] = {TcpPipe(40, 60), TcpPipe(40, 60)};
    int connection[2] = {-1, -1};
    bool program_fd[2] = {false, false};
    bool agent_fd[2] = {true, true};
    bool dead[2] = {false, false};
    bool kernel_closed[2] = {false, false};
    bool fallen[2] = {false, false};
    bool finish_wanted[2] = {false, false};
    bool locked[2] = {false, false};
    bool sealed[2] = {false, false};  // the producer's word, by an intruder
    bool listener_closed = false;
    uint64_t serial = 0;
    bool linger_zero = false;  // the server's agent closes with a RST
    uint64_t residue[2] = {0, 0};
    uint64_t residue_end[2] = {0, 0};
    uint64_t known_consumer[2] = {0, 0};
    uint64_t by_tcp[2] = {0, 0};  // taken by end e
  };

  // parked_world.cc: programs and the kernel
  void Act();
  void Connect();
  void Accept();
  void Send(int p, int e, int connection);
  void Receive(int p, int e);
  void ReceiveByTcp(int p, int e);
  void ShutDown(int p, int e);
  void Close(int p, int e);
  void Take(int p, int e, const uint8_t* bytes, size_t n);
  void MeetEnd(int p, int e, bool reset);
  void KernelClose(int p, int e);
  void CloseDescriptors(int p, int e, bool program, bool agent);
  void Deliver(int p);

  // parked_listener.cc: the kernel's queue beside the lives, and who sleeps
  enum class Asleep { kNot, kInAccept, kUnseen };
  enum class Comes { kOwn, kOthers, kKick };
  struct InKernel {
    Comes what;
    uint64_t order;   // of the client's connects
    uint64_t passed;  // lives that were accepted since it stood first
  };
  bool LivesWait() const;
  void ConnectByKernel(Comes what);
  bool MayBegin() const;
  bool TakesBack(int p, Connection* connection);
  void InOrder(uint64_t order, bool excused);
  AcceptedInTurn AcceptNext(bool* turn);
  void AcceptFromKernel(bool turn);
  void GoToSleep();
  bool SleepsOn();
  void WatchQueue();
  void ListenerGone();
  void CheckAsleep();

  // parked_agents.cc: agents, intruders, checks
  void FallBack(int p, int e);
  void Pump(int p, int e);
  void Serve(int p, int e);
  void Renew(int p);
  void Intrude(int p);
  void EndIdle(int p, int e);
  void CloseListener();
  void Kill(int e);
  void Lie();
  void DrainAll();
  void CheckOpen();
  void CheckClosed();
  Connection* Find(int p, uint64_t life);
  void AsProcess(int e, int first, int last, const std::function<void()>& act);

  End& At(int p, int e) { return e == kClient ? client_[p] : server_[p]; }
  bool Living(int p, int e) const { return pairs_[p] != nullptr && !pairs_[p]->dead[e]; }
  Connection& Of(int p, int e) {
    return connections_[static_cast<size_t>(pairs_[p]->connection[e])];
  }
  bool IsOpen(int p, int e) const { return Living(p, e) && pairs_[p]->connection[e] >= 0; }
  bool Believed(int p) const { return !liar_ || p != 0; }
  void Record(const char* what, int p, int e, uint64_t value = 0);
  [[noreturn]] void Fail(const std::string& what) const { throw Failure(what); }

  Random random_;
  ParkedMutant mutant_;
  ParkedCoverage* coverage_;
  struct Queue {
    struct Board {
      ParkedBoard* board = nullptr;
      uint64_t fence = 0;
      End ends[kMostParked];
    };
    uint32_t until_look = 0;
    uint32_t before_fence = 0;
    bool fenced = false;
    Board boards[1];
  };
  ParkedBoard board_{};
  std::unique_ptr<Pair> pairs_[kPairs];
  End client_[kPairs];
  Queue queue_;
  End (&server_)[kMostParked] = queue_.boards[0].ends;
  std::deque<InKernel> kernel_;
  uint64_t expected_ = 0;  // kicks that the process knows of
  Asleep asleep_ = Asleep::kNot;
  uint64_t orders_ = 0;
  uint64_t last_order_ = 0;
  uint64_t seen_waiting_ = 0;
  int looks_ = 0;
  std::deque<Connection> connections_;
  std::deque<std::string> notes_;
  uint64_t lives_ = 0;
  bool claiming_ = false;
  bool accepting_ = false;
  uint64_t serials_ = 0;
  uint64_t deaths_[2] = {0, 0};
  int acting_ = -1;    // the end whose process is in a step
  bool liar_ = false;  // pair 0's other end, whichever, keeps no rule
  bool busy_ = false;  // the program seldom accepts the last one that waits
  bool may_die_ = false;
  bool quiet_ = false;
  int depth_ = 0;
};

}  // namespace xenloop::simulation
