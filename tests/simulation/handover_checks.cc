// See handover_world.h: what must hold after every step.
#include <linux/sockios.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fstream>

#include "preload/agent/agent_tasks.h"
#include "preload/side/fd_table.h"
#include "tests/simulation/handover_world.h"

namespace xenloop::simulation {
namespace {

// Woken is who runs, be it that he waits for a processor.
bool IsAsleep(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  return text[text.rfind(')') + 2] == 'S';
}

}  // namespace

bool HandoverWorld::IsDue(int w, int s, int c) const {
  const Registered& registered = workers_[w].sets[static_cast<size_t>(s)][static_cast<size_t>(c)];
  const Connection& connection = connections_[c];
  return registered.events != 0 && registered.events != kUnknown && Lives(c) &&
         connection.sent > connection.taken &&
         ((registered.events & EPOLLET) == 0 || registered.news);
}

void HandoverWorld::Told(int w, int s, Reply reply, bool slept) {
  bool all = true;
  for (int c = 0; c < kConnections; ++c)
    all = all && (!IsDue(w, s, c) || (reply.events[c] & EPOLLIN) != 0);
  if (!all && AwaitDelivery()) {  // one of them may have come behind the other
    const Reply more = Ask(w, Command{Op::kLook, 0, s, 0, 0, 0});
    for (int c = 0; c < kConnections; ++c) reply.events[c] |= more.events[c];
  }
  if (reply.result < 0) Fail("epoll_wait says " + std::to_string(reply.result));
  for (int c = 0; c < kConnections; ++c) {
    Registered& registered = workers_[w].sets[static_cast<size_t>(s)][static_cast<size_t>(c)];
    const bool told = (reply.events[c] & EPOLLIN) != 0;
    Record(slept ? "is woken, told of" : "looks, is told of", w, c, told);
    if (IsDue(w, s, c) && !told) Fail("is not told of bytes that are there");
    if (told && registered.events == 0) Fail("is told of what it has not registered");
    // (An edge may be told once more, D-4.)
    if (told && registered.events == static_cast<uint32_t>(EPOLLIN) &&
        connections_[c].sent == connections_[c].taken)
      Fail("is told of bytes that are not there");
    if (told) registered.news = false;
  }
}

// What is sent over the loopback has nearly always arrived at once. Where it makes a difference, it
// is waited for; that costs a delayed acknowledgement. True.
bool HandoverWorld::AwaitDelivery() const {
  for (const Connection& connection : connections_) {
    int queued = 1;
    while (ioctl(connection.fd, SIOCOUTQ, &queued) == 0 && queued != 0) sched_yield();
  }
  return true;
}

void HandoverWorld::Upgrade(int w, int c) {
  Connection& connection = connections_[c];
  Side* const side = FindSide(connection.fd);
  if (side->attached.load() != 0) return;
  int mine = -1;
  AttachBy(connection.fd, workers_[w].talk, -1, &mine);
  const Reply reply = Ask(w, Command{Op::kAttach, c, 0, 0, 0, 0}, mine);
  close(mine);
  Record("upgrades", w, c, reply.result);
  if (reply.result == 0) {
    ++coverage_->refused_upgrades;
    return;
  }
  connection.attached_by = w;
  ++coverage_->upgrades;
  if (w == 1) ++coverage_->upgrades_by_child;
  if (w == kStranger) ++coverage_->upgrades_by_stranger;
}

void HandoverWorld::Pass(int w, int c) {
  Connection& connection = connections_[c];
  if (w == kStranger || connection.passed || !Awake(kStranger)) return;
  if (Ask(w, Command{Op::kPass, c, 0, 0, 0, 0}).result != 1) Fail("cannot be passed on");
  ServiceOurs();
  Record("passes on", w, c, 0);
  Ask(kStranger, Command{Op::kTake, c, 0, 0, 0, 0});
  workers_[kStranger].holds[static_cast<size_t>(c)] = true;
  connection.passed = true;
  ++coverage_->passed;
}

// The kernel goes on telling of it where others have it; nobody counts on that.
void HandoverWorld::Close(int w, int c) {
  Worker& worker = workers_[w];
  int holders = 0;
  for (const Worker& other : workers_) holders += other.holds[static_cast<size_t>(c)] ? 1 : 0;
  if (holders == 1) return;  // the world goes on with both
  Ask(w, Command{Op::kClose, c, 0, 0, 0, 0});
  Record("closes", w, c, 0);
  worker.holds[static_cast<size_t>(c)] = false;
  for (auto& set : worker.sets) {
    Registered& registered = set[static_cast<size_t>(c)];
    if (registered.events != 0) registered.events = kUnknown;
  }
  ++coverage_->closes;
}

// As our agent does when it is told: what a FIFO owed is with TCP before anybody goes on.
void HandoverWorld::ServiceOurs() {
  for (int c = 0; c < kConnections && !native_; ++c) {
    const Side* const side = FindSide(connections_[c].fd);
    if (side->attached.load() != 0) ServiceSide(SlotOf(side));
  }
}

void HandoverWorld::CheckSleepers() {
  for (int w = 0; w < kProcesses; ++w) CheckSleeper(w, /*again=*/false);
}

void HandoverWorld::CheckSleeper(int w, bool again) {
  {
    Worker& worker = workers_[w];
    if (worker.pid == 0 || worker.asleep < 0) return;
    Reply reply;
    std::array<int, 2> fds;
    bool woken = false;
    for (bool asleep = false; !woken; asleep = IsAsleep(worker.pid)) {
      woken = ReceivePacketOf(channels_[w], &reply, sizeof reply, &fds, false);
      if (asleep) break;
      if (!woken) sched_yield();
    }
    const int set = worker.asleep;
    if (woken) {
      worker.asleep = -1;
      ++coverage_->woken;
      if (w == 1) ++coverage_->woken_children;
      if (w == kStranger) ++coverage_->woken_strangers;
      Told(w, set, reply, /*slept=*/true);
      return;
    }
    for (int c = 0; c < kConnections; ++c) {
      if (!IsDue(w, set, c)) continue;
      if (!again && AwaitDelivery()) return CheckSleeper(w, /*again=*/true);
      Fail(std::string(1, "PCS"[w]) + " sleeps on beside bytes of connection " + std::to_string(c));
    }
  }
}

void HandoverWorld::Settle() {
  for (int c = 0; c < kConnections; ++c) {
    SendTo(c, 1);
    ServiceOurs();
    CheckSleepers();
  }
  for (int c = 0; c < kConnections; ++c) {
    int reader = 0;
    while (reader < kProcesses &&
           (!Awake(reader) || !workers_[reader].holds[static_cast<size_t>(c)]))
      ++reader;
    if (reader == kProcesses) continue;
    while (connections_[c].taken != connections_[c].sent) Receive(reader, c);
  }
}

}  // namespace xenloop::simulation
