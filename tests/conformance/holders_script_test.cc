// A random script of what several processes do to the two ends of a connection that they share:
// fork, hand over in a message, duplicate, close, exit, be killed, and between all that send,
// receive and wait. Each process does it twice, on a connection that may be accelerated and on one
// that nobody asks to be; whatever comes of the second must come of the first. What is on its way
// between two routes may come a little later, so the first is asked again for a while. The seed is
// the run's (XENLOOP_CONFORMANCE_SEED).

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>

#include "tests/conformance/holder.h"
#include "tests/conformance/mode.h"

namespace conformance {
namespace {

constexpr size_t kMostUnread = 60000;  // either connection takes as much at once
constexpr int kSteps = 120;
constexpr int kLastSteps = 100;  // only from then on may an end lose its last holder

// Knows who holds what, and gives the orders that mean something.
class Controller {
 public:
  explicit Controller(unsigned seed) : random_(seed) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pids_[0] = fork();
    if (pids_[0] == 0) {
      alarm(60);
      Holder(&channels_, 0).Serve();
    }
    has_[0] = {true, true};
    Ask(0, {What::kConnect, 0, 0, 0});
    if (seed % 3 != 0) {  // else both ends in one process
      Fork(0, 1);
      Do(What::kClose, 0, 1, 0);
      Do(What::kClose, 1, 0, 0);
    }
    Do(What::kUpgrade, 0, 0, 0);
  }
  ~Controller() {
    for (int i = 0; i < kHolders; ++i) {
      if (pids_[i] > 0) kill(pids_[i], SIGKILL);
    }
    while (waitpid(-1, nullptr, 0) > 0) {
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
  }

  bool Over() const { return over_; }
  const std::string& script() const { return script_; }

  // "": right.
  std::string Step() {
    ++step_;
    int holder = static_cast<int>(random_() % kHolders);
    while (pids_[holder] <= 0) holder = (holder + 1) % kHolders;
    const auto end = static_cast<unsigned>(random_() % 2);
    const auto much = static_cast<unsigned>(random_());
    // Five of six move bytes or look.
    const auto what = static_cast<What>(random_() % 6 != 0 ? random_() % 7 : 7 + random_() % 10);
    return Do(what, holder, end, much);
  }

  std::string Do(What what, int holder, unsigned end, unsigned much) {
    if (pids_[holder] <= 0 || over_) return "";
    const bool of_end = what != What::kNewSet && what != What::kWait && what != What::kFork &&
                        what != What::kExit && what != What::kKill && what != What::kRest;
    if (of_end && !has_[holder][end]) return "";
    if (what == What::kWait && !Settled()) return "";
    if (step_ > 0 && step_ < kLastSteps && IsLast(what, holder, end)) return "";
    script_ += " {" + std::to_string(static_cast<unsigned>(what)) + "," + std::to_string(holder) +
               "," + std::to_string(end) + "," + std::to_string(much) + "},";
    switch (what) {
      case What::kSend:
        if (!sends_[end] || unread_[1 - end] + 3000 > kMostUnread) return "";
        unread_[1 - end] += 1 + much % 3000;
        return Ask(holder, {what, end, much, 0});
      case What::kReceive: {
        std::string answer = Ask(holder, {what, end, much, unread_[end]});
        if (answer.empty() || answer[0] != '=') return answer;
        unread_[end] -= static_cast<unsigned>(std::stoul(answer.substr(1)));
        return "";
      }
      case What::kPeek: {
        std::string answer = Ask(holder, {what, end, much, unread_[end]});
        return !answer.empty() && answer[0] == '=' ? "" : answer;
      }
      case What::kFork: {
        const int child = Unused();
        if (child < 0) return "";
        const std::string forked = Fork(holder, child);
        return forked.empty() && much % 4 != 0 ? HandOver(holder, child, much / 4) : forked;
      }
      case What::kExit:
      case What::kKill:
        return End(holder, what);
      case What::kClose:
        has_[holder][end] = false;
        LookWhoIsLeft();
        return Ask(holder, {what, end, much, 0});
      case What::kPass:
        return Pass(holder, end, much);
      case What::kShutdown:
        if (much % 8 != 0) return "";
        sends_[end] = false;
        return Ask(holder, {what, end, much, 0});
      case What::kUpgrade:
        return Upgrade(holder, end);
      case What::kMark:
        return Ask(holder, {what, end, OnlyHolder(0) >= 0 && OnlyHolder(1) >= 0, 0});
      default:
        return Ask(holder, {what, end, much, unread_[end]});
    }
  }

 private:
  std::string Ask(int holder, const Order& order) {
    send(channels_.orders[holder].get(), &order, sizeof order, MSG_NOSIGNAL);
    char answer[512];
    const ssize_t length = recv(channels_.orders[holder].get(), answer, sizeof answer, 0);
    if (length < 0) return "process " + std::to_string(holder) + " does not answer";
    return std::string(answer, static_cast<size_t>(length));
  }

  // All that is unread can be looked at by somebody who holds that end: a set shows both.
  bool Settled() const { return unread_[0] == 0 && unread_[1] == 0; }

  // Who holds it alone; -1: nobody does.
  int OnlyHolder(unsigned end) const {
    int only = -1;
    for (int i = 0; i < kHolders; ++i) {
      if (!has_[i][end]) continue;
      if (only >= 0) return -1;
      only = i;
    }
    return only;
  }

  // An agent has to have heard of a connection, also of one that its process has taken over.
  std::string Upgrade(int holder, unsigned end) {
    const int other = OnlyHolder(1 - end);
    if (OnlyHolder(end) != holder || other < 0 || !sends_[0] || !sends_[1]) return "";
    std::string wrong = Do(What::kSend, other, 1 - end, 0);
    if (wrong.empty()) wrong = Do(What::kSend, holder, end, 0);
    return wrong.empty() ? Ask(holder, {What::kUpgrade, end, 0, 0}) : wrong;
  }

  int Unused() const {
    for (int i = 0; i < kHolders; ++i) {
      if (!used_[i]) return i;
    }
    return -1;
  }

  std::string Fork(int holder, int child) {
    std::string answer = Ask(holder, {What::kFork, 0, static_cast<unsigned>(child), 0});
    if (answer.empty() || answer.find_first_not_of("0123456789") != std::string::npos)
      return answer;
    pids_[child] = static_cast<pid_t>(std::stol(answer));
    parents_[child] = holder;
    used_[child] = true;
    has_[child] = has_[holder];
    return "";
  }

  // As servers do: the parent closes what the child is to have, and the child goes on with it.
  std::string HandOver(int parent, int child, unsigned much) {
    std::string wrong;
    for (unsigned end = 0; end < 2 && wrong.empty(); ++end) {
      if (much % 3 == 1 - end || !has_[child][end]) continue;
      wrong = Do(What::kClose, parent, end, 0);
      if (wrong.empty() && much % 2 == 0) wrong = Do(What::kUpgrade, child, end, 0);
    }
    return wrong;
  }

  std::string End(int holder, What how) {
    int alive = 0;
    for (const pid_t pid : pids_) alive += pid > 0;
    if (alive < 2) return "";
    const pid_t pid = pids_[holder];
    if (how == What::kKill) {
      kill(pid, SIGKILL);
    } else {
      const Order order{What::kExit, 0, 0, 0};
      send(channels_.orders[holder].get(), &order, sizeof order, MSG_NOSIGNAL);
    }
    pids_[holder] = 0;
    has_[holder] = {};
    LookWhoIsLeft();
    const int parent = parents_[holder];
    if (holder == 0 || pids_[parent] <= 0) {
      waitpid(pid, nullptr, 0);
      return "";
    }
    const std::string reaped = Ask(parent, {What::kReap, 0, static_cast<unsigned>(pid), 0});
    return reaped == std::to_string(pid) ? "" : "not reaped: " + reaped;
  }

  std::string Pass(int holder, unsigned end, unsigned much) {
    const int to = static_cast<int>(much / 2 % kHolders);
    if (to == holder || pids_[to] <= 0) return "";
    std::string given = Ask(holder, {What::kPass, end, much, 0});
    if (!given.empty()) return given;
    if (much % 2 != 0) has_[holder][end] = false;
    // While it is on its way.
    for (int other = 0; other < kHolders && much % 3 == 0; ++other) {
      if (pids_[other] <= 0 || !has_[other][1 - end]) continue;
      std::string sent = Do(What::kSend, other, 1 - end, much);
      if (!sent.empty()) return sent;
      break;
    }
    has_[to][end] = true;
    return Ask(to, {What::kTake, end, 0, 0});
  }

  // Nobody would have an end of the connection any more.
  bool IsLast(What what, int holder, unsigned end) const {
    const bool ends = what == What::kExit || what == What::kKill;
    if (!ends && what != What::kClose) return false;
    for (unsigned i = 0; i < 2; ++i) {
      int others = 0;
      for (int other = 0; other < kHolders; ++other) others += other != holder && has_[other][i];
      if ((ends || i == end) && others == 0) return true;
    }
    return false;
  }

  // Without the last of an end the other sees its end, or a reset: the rest of the round is over.
  void LookWhoIsLeft() {
    for (size_t end = 0; end < 2; ++end) {
      over_ = over_ ||
              std::none_of(has_.begin(), has_.end(), [end](const auto& ends) { return ends[end]; });
    }
  }

  std::mt19937 random_;
  Channels channels_;
  std::array<pid_t, kHolders> pids_{};
  std::array<int, kHolders> parents_{};
  std::array<bool, kHolders> used_{true};
  std::array<std::array<bool, 2>, kHolders> has_{};
  std::array<unsigned, 2> unread_{};
  std::array<bool, 2> sends_{true, true};
  bool over_ = false;
  int step_ = 0;
  std::string script_;
};

TEST(HoldersScriptTest, WhatComesIsTheKernels) {
  for (unsigned round = 0; round < 9; ++round) {
    Controller controller(Seed() * 1000 + round);
    for (int step = 0; step < kSteps && !controller.Over(); ++step) {
      const std::string wrong = controller.Step();
      ASSERT_EQ(wrong, "") << "round " << round << ", step " << step << ":" << controller.script();
    }
  }
  printf("%u of %u sends by FIFO\n", kSent->by_fifo.load(), kSent->all.load());
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_GT(kSent->by_fifo.load(), kSent->all.load() / 10);
  }
}

}  // namespace
}  // namespace conformance
