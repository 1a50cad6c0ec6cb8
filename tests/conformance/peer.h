// The other end of a connection: a small server that obeys commands arriving on a control socket.
// It runs in a forked child process, or in a thread of this process; the same code either way. A
// command may be started without waiting for its end, so that the peer can block while the test
// acts.

#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <thread>

#include "tests/conformance/check.h"
#include "tests/conformance/transfer.h"

namespace conformance {

enum class Place { kThread, kProcess };

constexpr uint64_t kSeedToPeer = 101;    // bytes that the test sends
constexpr uint64_t kSeedFromPeer = 202;  // bytes that the peer sends

enum class Op {
  kSend,      // total, largest chunk, marked points
  kReceive,   // the same; a total of kToEnd: until the end of the stream
  kEcho,      // the same
  kExchange,  // the same
  kTally,     // receive a bytes; the answer's text holds the counts of 'a', 'b', ... 'h' (size_t)
  kFlood,     // send until an error; progress is counted in SharedProgress
  kSendText,  // the command's text, one send(); a = flags
  kReceiveText,  // a bytes
  kShutdown,     // a = how
  kClose,
  kReset,      // close with SO_LINGER 0
  kSetOption,  // level, name, int value
  kPoll,       // events, time-out: answers revents
  kMark,
  kUpgrade,
  kRoutes,
};

constexpr size_t kTextBytes = 2048;

struct Command {
  Op op;
  int64_t a, b, c;
  size_t text_length;
  char text[kTextBytes];
};

struct Reply {
  int64_t result;  // bytes moved, or the call's result; first of all the tid of the peer
  int error;       // errno of the end, 0 if none
  size_t text_length;
  char text[kTextBytes];
};

// How the peer gets its connection: by accepting from `listener`, or by connecting to `address`.
struct PeerStart {
  int listener = -1;
  sockaddr_storage address{};
  socklen_t address_length = 0;
};

class Peer {
 public:
  Peer(Place place, const PeerStart& start);
  ~Peer();  // the test's end of the connection must be closed by then
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void Start(Op op, int64_t a = 0, int64_t b = 0, int64_t c = 0);
  void StartSend(size_t total, Chunks chunks = {});
  void StartReceive(size_t total, Chunks chunks = {});
  void StartText(const std::string& text, int flags = 0);
  bool StillBlocked() const;  // it has gone to sleep, and no reply comes
  Reply Wait();
  Reply WaitForConnection();  // the first reply, unasked: the connection was made or not
  Reply Do(Op op, int64_t a = 0, int64_t b = 0, int64_t c = 0);

  // Each of these waits for the end and adds a test failure if it was not as asked.
  void Send(size_t total, Chunks chunks = {});
  void Receive(size_t total, Chunks chunks = {});
  void ReceiveEndOfStream();
  void SendText(const std::string& text, int flags = 0);
  void ReceiveText(const std::string& text);
  void Shutdown(int how);
  void Close();
  void Reset();
  void SetOption(int level, int name, int value);
  void ExpectMoved(size_t total);  // the reply to StartSend, StartReceive, ...

  void Kill();  // SIGKILL; place must be kProcess
  pid_t pid() const { return pid_; }

  // How many bytes a kFlood has seen taken by send(), readable also after the peer's death.
  static uint64_t FloodedBytes();

 private:
  FileDescriptor control_;
  pid_t pid_ = -1;
  pid_t tid_ = 0;  // of the thread that obeys, in either place
  std::thread thread_;
};

// Descriptors of the test's process that a forked peer must not keep open.
// XENLOOP_CONFORMANCE_PEER_NAMESPACE names a file of ip-netns(8) in which the peers live.
bool PeerHasItsOwnNamespace();
// Goes there, or back to the tests' own; this thread only. Nothing where there is none.
void EnterPeerNamespace(bool there);

void KeepFromPeers(int fd);
void ForgetKept(int fd);
void CloseKept();

// Memory for FloodedBytes; called once, before anything forks.
void PreparePeers();

}  // namespace conformance
