// The simulated world of datagrams: two senders, one receiving socket, the program that takes its
// port next, and a kernel beneath them that drops what finds its queue full. Every choice comes
// from one seed, and others act in the middle of an operation, at each of its calls to the kernel.
// Decides what may happen and what must never be seen.
#pragma once

#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "channel/datagram_receiver.h"
#include "channel/datagram_sender.h"
#include "tests/simulation/random.h"

namespace xenloop::simulation {

// Deliberate errors, made by hand on top of the real code: each must be noticed.
enum class DatagramMutant {
  kNone,
  kForgetResidue,     // a receiver that returns to the kernel asks for nothing
  kNewerFirst,        // a datagram by the kernel before the residue
  kResidueTwice,      // a flush that begins one record early
  kRecordFirst,       // the first record before the kernel is read dry
  kNoSecondLook,      // a datagram of the kernel is taken without looking at the FIFOs again
  kCloseUnsealed,     // a socket is closed and its FIFOs are not
  kFlushToNextOwner,  // a closed socket's residue is sent
  kLetGoOfLeft,       // what a sender has left is not taken
  kEqualStamps,       // stamps that do not tell the order of two senders
  kNoLimit,           // a receiver that never finds its queue full
  kHalfRecord,        // a record is published before it is written
  kLeaveInDoubt,      // what is in doubt is left in the FIFO
  kCount
};
const char* NameOf(DatagramMutant mutant);

struct DatagramCoverage {
  uint64_t by_fifo = 0;
  uint64_t by_kernel = 0;
  uint64_t dropped_by_sender = 0;
  uint64_t dropped_by_receiver = 0;
  uint64_t dropped_by_kernel = 0;
  uint64_t joins = 0;
  uint64_t rings = 0;  // datagrams by the kernel to one who sleeps
  uint64_t left_with_records = 0;
  uint64_t taken_back = 0;  // by a sender that has left
  uint64_t returned_with_records = 0;
  uint64_t returns_refused = 0;  // the sender had gone on
  uint64_t flushes_in_pieces = 0;
  uint64_t closed_with_records = 0;
  uint64_t senders_killed = 0;
  uint64_t receivers_killed = 0;
  uint64_t drains = 0;  // kernel's datagrams taken before a first record
  uint64_t interruptions = 0;
  uint64_t dead_threads = 0;
  uint64_t peeks = 0;
};

class DatagramWorld {
 public:
  DatagramWorld(uint64_t seed, DatagramMutant mutant, DatagramCoverage* coverage);
  void Step();
  void Settle();  // no more choices: whatever is there must arrive
  std::string LastSteps() const;

  // What the code under test calls.
  struct SendingShadow {
    DatagramWorld& world;
    int s;
    ssize_t SendRecord(const iovec* pieces, size_t count);
    void Wake() { world.Interrupt(); }
    static bool HasItsName() { return true; }
    bool IsReceiverThere() const;
  };
  struct ReceivingShadow {
    DatagramWorld& world;
    ssize_t Peek(IovCursor* destination);
    ssize_t Take(IovCursor* destination);
    void Drop();
  };

 private:
  static constexpr uint32_t kLimit = 832 * 12;
  static constexpr size_t kHead = 12;  // of a payload: who, and the how-manieth

  struct Message {
    uint32_t life;
    uint32_t number;
    std::vector<uint8_t> bytes;
  };
  // One sending socket, from its opening to its end. Its datagrams are counted.
  struct Sent {
    uint32_t owner;  // of the port, when it was sent
    uint64_t stamp;
    uint32_t charge;
    bool by_fifo = false;
    bool got = false;
    bool passed = false;   // a later one of the same sender has come
    bool excused = false;  // for a reason that the kernel would have had as well
  };
  struct Life {
    std::vector<Sent> sent;
    int64_t last_got = -1;
  };
  struct Memory {
    explicit Memory(uint64_t capacity_bytes);
    ~Memory() { std::free(memory); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    void* memory;
    DatagramFifo fifo;
    uint32_t life = 0;
    uint64_t started_at = ~uint64_t{0};
    bool receiver_dead = false;
    bool sender_dead = false;
    bool asked_back = false;  // the receiver waits for the residue
  };
  struct Socket {
    DatagramSender sender;
    std::shared_ptr<Memory> memory;  // while attached
    uint32_t life = 0;
    bool locked = false;
    bool begun = false;
  };

  // datagram_world.cc
  void Interrupt();
  void Act(int s);
  void Record(const char* what, int s, int64_t value = 0);
  [[noreturn]] void Fail(const std::string& what) const { throw Failure(what); }
  void Send(int s);
  void KernelTakes(Message message);
  void Receive();
  void Sleep();
  bool IsAnyPutting() const;
  void WakeUp();
  void EndBySender(int s, bool killed);
  void Close(bool killed);

  // datagram_agents.cc
  void Join(int s);
  void Begin(int s);
  void Serve(int s);
  void Leave(int s);
  void LetGo();
  void Return();
  void Misbehave(int s);
  void Got(const std::vector<uint8_t>& bytes, size_t length, int from);
  Sent& At(uint32_t life, uint32_t number) { return lives_[life].sent[number]; }
  uint64_t Outstanding() const;
  void Excuse(uint32_t life);
  void ExcuseAllOf(uint32_t owner);
  void CheckLosses();

  Random random_;
  DatagramMutant mutant_;
  DatagramCoverage* coverage_;
  std::vector<Life> lives_;
  Socket sockets_[2];
  std::unique_ptr<DatagramReceiver> receiver_;
  std::shared_ptr<Memory> slots_[DatagramQueue::kMostSlots];
  bool receiver_locked_ = false;
  bool asleep_ = false;
  uint32_t owner_ = 1;  // 0: nobody has the port
  uint32_t owners_ = 1;
  std::deque<Message> kernel_;
  uint64_t kernel_charge_ = 0;
  std::string promised_;  // what a peek has shown
  uint64_t clock_ = 0;
  uint64_t last_stamp_ = 0;
  uint64_t taken_since_send_ = 0;
  uint64_t known_drops_ = 0;
  bool recovered_ = false;  // since the last send
  int depth_ = 0;
  bool quiet_ = false;
  bool may_die_ = false;
  std::deque<std::string> notes_;
};

}  // namespace xenloop::simulation
