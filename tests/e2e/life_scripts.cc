// Random scripts of short connections, step by step at a client and a server, which write down what
// every call gives but for port numbers: with the library (XENLOOP_PARK=on) and without it the
// same.
//
//   life_scripts SEED SCRIPTS               prints a trace
//   life_scripts SEED SCRIPTS ORACLE...     says where it differs from what all of these traces say
//
// A step that is told by the other end's doing is waited for; what the oracles do not agree about
// is not compared, nor what follows it in that script.
#include "tests/e2e/life_scripts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/e2e/loopback.h"

namespace {

constexpr int kControl = 100;
constexpr int kPatienceMs = 15000;

// ---- which steps ----

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  int Below(int n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<int>((state_ >> 11) % static_cast<uint64_t>(n));
  }
  bool Once(int in) { return Below(in) == 0; }

 private:
  uint64_t state_;
};

// A script, by what is open where; nothing of it depends on what the steps give.
class Script {
 public:
  explicit Script(uint64_t seed) : random_(seed) {
    const int lives = 2 + random_.Below(4);
    for (int i = 0; i < lives; ++i) PlainLife();
    rare_ = random_.Once(10);
    const int steps = 4 + random_.Below(24);
    for (int i = 0; i < steps; ++i) Next();
    // In the order in which they are closed lies much.
    for (int slot = 0; slot < kSlots; ++slot) {
      for (int end : {random_.Below(2), 1}) {
        if (open_[end][slot]) Close(end, slot);
        end = 1 - end;
        if (open_[end][slot]) Close(end, slot);
      }
    }
    Add(Op::kTidy, 0, 0);
    Add(Op::kTidy, 1, 0);
    PlainLife();
  }
  const std::vector<Step>& steps() const { return steps_; }

 private:
  void Add(Op op, int end, int slot, int how = 0, int value = 0, bool settles = false) {
    Step step{};
    step.op = op;
    step.at_server = end;
    step.slot = slot;
    step.how = how;
    step.value = value;
    step.settles = settles ? 1 : 0;
    steps_.push_back(step);
  }
  void PlainLife() {
    const int slot = 0;
    const int first = random_.Below(2);
    Add(Op::kSocket, 0, slot, 0, SOCK_CLOEXEC);
    Add(Op::kConnect, 0, slot);
    Add(Op::kAccept, 1, slot, 0, SOCK_NONBLOCK | SOCK_CLOEXEC, true);
    for (const int end : {0, 1}) {
      Add(Op::kSend, end, slot, 3, 16);
      Add(Op::kReceive, 1 - end, slot, 0, 100, true);
    }
    Add(Op::kClose, first, slot);
    if (random_.Once(2)) Add(Op::kReceive, 1 - first, slot, 0, 100, true);
    Add(Op::kClose, 1 - first, slot);
  }
  void Close(int end, int slot) {
    if (copied_[end][slot]) Add(Op::kClose, end, slot, 1);
    Add(Op::kClose, end, slot);
    open_[end][slot] = copied_[end][slot] = false;
    quiet_[end][slot] = true;
  }
  void Connect(int slot) {
    const bool blocks = random_.Once(2);
    Add(Op::kSocket, 0, slot, 0,
        (blocks ? 0 : SOCK_NONBLOCK) | (random_.Once(2) ? SOCK_CLOEXEC : 0));
    if (random_.Once(5)) Add(Op::kSetOption, 0, slot, random_.Below(3), 1);
    if (random_.Once(3)) Register(0, slot);
    Add(Op::kConnect, 0, slot);
    Add(Op::kSetOption, 0, slot, 0, 1);  // else what comes when is for Nagle to say
    if (random_.Once(4)) Add(Op::kEvents, 0, slot, 0, 0, true);
    open_[0][slot] = true;
    quiet_[0][slot] = quiet_[1][slot] = false;
    waiting_.push_back(slot);
    if (!random_.Once(4)) Accept();
  }
  void Accept() {
    if (waiting_.empty()) return;
    const int slot = waiting_.front();
    waiting_.erase(waiting_.begin());
    Add(Op::kAccept, 1, slot, 0,
        (random_.Once(2) ? SOCK_NONBLOCK : 0) | (random_.Once(2) ? SOCK_CLOEXEC : 0), true);
    Add(Op::kSetOption, 1, slot, 0, 1);
    open_[1][slot] = true;
  }
  void Register(int end, int slot) {
    static const int kKinds[] = {0, 0, static_cast<int>(EPOLLET), static_cast<int>(EPOLLET),
                                 static_cast<int>(EPOLLONESHOT)};
    int events = kKinds[random_.Below(5)] | EPOLLIN;
    if (random_.Once(2)) events |= EPOLLRDHUP;
    if (random_.Once(2)) events |= EPOLLOUT;
    Add(Op::kRegister, end, slot, random_.Once(5) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events);
  }
  bool Waits(int slot) const {
    for (const int waiting : waiting_) {
      if (waiting == slot) return true;
    }
    return false;
  }

  void Next() {
    if (random_.Once(8)) Accept();
    const int slot = random_.Below(random_.Once(3) ? kSlots : 1);
    const int end = random_.Below(2);
    if (!open_[0][slot] && !open_[1][slot] && !Waits(slot)) return Connect(slot);
    if (!open_[end][slot]) return;
    // A reset or an acknowledgement may be on its way.
    if (quiet_[1 - end][slot]) {
      Add(Op::kPoll, end, slot, 0, 0, true);
      Add(Op::kState, end, slot, 0, 0, true);
    }
    switch (random_.Below(29)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        return Add(Op::kSend, end, slot, 2 + random_.Below(2),
                   random_.Once(10) ? random_.Below(9000) : random_.Below(200));
      case 6:
      case 7:
      case 8:
      case 9: {
        static const int kFlags[] = {0, 0, 0, MSG_PEEK, MSG_WAITALL, MSG_TRUNC};
        Add(Op::kUnread, end, slot, 0, 0, true);
        return Add(Op::kReceive, end, slot, kFlags[random_.Below(6)],
                   random_.Once(2) ? 60000 : random_.Below(300), true);
      }
      case 10:
      case 11:
        quiet_[end][slot] = true;
        return Add(Op::kShutdown, end, slot, random_.Below(3));
      case 12:
      case 13:
        return Close(end, slot);
      case 14:
        if (copied_[end][slot]) return;
        copied_[end][slot] = true;
        return Add(Op::kCopy, end, slot);
      case 15:
      case 16:
      case 17:
        return Add(Op::kPoll, end, slot, 0, 0, true);
      case 18:
        return Add(Op::kError, end, slot, 0, 0, true);
      case 19:
        return Add(Op::kState, end, slot, 0, 0, true);
      case 20:
        return Add(Op::kSetOption, end, slot, 1 + random_.Below(random_.Once(3) ? 6 : 1),
                   random_.Below(2));
      case 21:
        return Add(Op::kOptions, end, slot);
      case 22:
        return Add(Op::kNonblock, end, slot, random_.Below(2), random_.Below(2));
      case 23:
        return Add(Op::kName, end, slot, 0, 0, true);
      case 24:
        return Register(end, slot);
      case 25:
      case 26:
        return Add(Op::kEvents, end, slot, end == 1 && !waiting_.empty() ? 1 : 0, 0, true);
      case 27:
        if (rare_ && random_.Once(2)) Add(Op::kChild, end, slot, random_.Below(3));
        return;
      default:
        return Rare(end, slot);
    }
  }
  void Rare(int end, int slot) {
    switch (random_.Below(5)) {
      case 0:
        Add(Op::kPoll, 0, slot, 0, 0, true);
        return Add(Op::kConnect, 0, slot);
      case 1:
        if (rare_) {
          Add(Op::kListener, 1, 0, kAgain);
          waiting_.clear();
        }
        return;
      case 2:
        if (!rare_) return;
        return Add(Op::kListener, 1, 0, kBlockingListener + random_.Below(2));
      case 3:
        return Add(Op::kListener, 1, 0, kListenOnceMore);
      default:
        return Add(Op::kUnread, end, slot, 0, 0, true);
    }
  }

  Random random_;
  std::vector<Step> steps_;
  std::vector<int> waiting_;
  bool rare_ = false;  // there are steps after which nothing is parked for a while
  bool open_[2][kSlots] = {};
  bool copied_[2][kSlots] = {};
  bool quiet_[2][kSlots] = {};  // has closed it, or shut it down
};

// ---- who does them ----

// What a trace says of each step of each script.
using Trace = std::map<std::pair<int, int>, std::string>;
Trace Read(const char* name) {
  Trace trace;
  std::ifstream file(name);
  std::string line;
  int script;
  int at;
  while (std::getline(file, line)) {
    const size_t says = line.find(": ");
    if (sscanf(line.c_str(), "%d.%d", &script, &at) == 2 && says != std::string::npos)
      trace[{script, at}] = line.substr(says + 2);
  }
  return trace;
}

class Run {
 public:
  Run(uint64_t seed, const std::vector<Trace>& oracles) : seed_(seed), oracles_(oracles) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) Die("socketpair");
    server_ = fork();
    if (server_ == 0) {
      dup2(ends[1], kControl);
      execl("/proc/self/exe", "life_scripts", "--server", nullptr);
      Die("exec");
    }
    close(ends[1]);
    control_ = ends[0];
    int port = 0;
    if (recv(control_, &port, sizeof port, 0) != sizeof port) Die("no server");
    client_ = new End(port);
  }
  ~Run() {
    kill(server_, SIGKILL);
    waitpid(server_, nullptr, 0);
  }

  // False: something is not as in the oracles.
  bool Do(int number) {
    const Script script(seed_ * 1000003 + static_cast<uint64_t>(number));
    std::string so_far;
    bool known = !oracles_.empty();
    int at = 0;
    if (known) usleep(4000);  // agents have a turn, too
    for (Step step : script.steps()) {
      std::string expected;
      known = known && Agreed({number, at}, &expected);
      if (known) snprintf(step.expected, sizeof step.expected, "%s", expected.c_str());
      char said[kMostSaid] = "no answer";
      if (step.at_server == 0) {
        client_->Do(step, said);
      } else {
        send(control_, &step, sizeof step, MSG_NOSIGNAL);
        pollfd entry{control_, POLLIN, 0};
        if (poll(&entry, 1, kPatienceMs) == 1) recv(control_, said, sizeof said, 0);
      }
      const std::string line =
          std::to_string(number) + "." + std::to_string(at) + " " +
          (step.at_server != 0 ? "server" : "client") + " " + std::to_string(step.slot) + " (" +
          std::to_string(static_cast<int>(step.op)) + " " + std::to_string(step.how) + " " +
          std::to_string(step.value) + "): " + said + "\n";
      so_far += line;
      if (oracles_.empty()) printf("%s", line.c_str());
      if (known && expected != said) {
        printf("%sBUT EXPECTED: %s\n\n", so_far.c_str(), expected.c_str());
        ++different_;
        Tidy();
        return strcmp(said, "no answer") != 0;
      }
      compared_ += known ? 1 : 0;
      ++at;
    }
    return true;
  }
  int different() const { return different_; }
  long compared() const { return compared_; }

 private:
  bool Agreed(const std::pair<int, int>& at, std::string* said) const {
    for (size_t i = 0; i < oracles_.size(); ++i) {
      const auto found = oracles_[i].find(at);
      if (found == oracles_[i].end() || (i > 0 && found->second != *said)) return false;
      *said = found->second;
    }
    return true;
  }
  void Tidy() {
    Step step{};
    step.op = Op::kTidy;
    char said[kMostSaid];
    client_->Do(step, said);
    send(control_, &step, sizeof step, MSG_NOSIGNAL);
    pollfd entry{control_, POLLIN, 0};
    if (poll(&entry, 1, kPatienceMs) == 1) recv(control_, said, sizeof said, 0);
  }

  uint64_t seed_;
  const std::vector<Trace>& oracles_;
  pid_t server_;
  int control_;
  End* client_;
  int different_ = 0;
  long compared_ = 0;
};

int Serve() {
  End end(0);
  const int port = end.port();
  if (send(kControl, &port, sizeof port, 0) != sizeof port) Die("send");
  Step step;
  while (recv(kControl, &step, sizeof step, 0) == sizeof step) {
    char said[kMostSaid];
    end.Do(step, said);
    send(kControl, said, sizeof said, MSG_NOSIGNAL);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc == 2 && strcmp(argv[1], "--server") == 0) return Serve();
  if (argc < 3) return 2;
  std::vector<Trace> oracles;
  for (int i = 3; i < argc; ++i) oracles.push_back(Read(argv[i]));
  Run run(strtoull(argv[1], nullptr, 10), oracles);
  for (int i = 0; i < atoi(argv[2]); ++i) {
    if (!run.Do(i)) break;
  }
  if (oracles.empty()) return 0;
  printf("%ld steps as without the library, %d scripts not\n", run.compared(), run.different());
  return run.different() == 0 ? 0 : 1;
}
