// Two workloads for bench/migration: "moving-rtt" (blocking request and answer) and "moving-stream"
// (the server sends, the client receives). Both last until the client gets SIGTERM, and the client
// tells what became of every moment: operations in each short window, and each long pause between
// two of them.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <vector>

#include "bench/link.h"
#include "bench/worker.h"

namespace xenloop::bench {
namespace {

constexpr int64_t kWindowNs = 10'000'000;
constexpr int64_t kLongPauseNs = 1'000'000;
constexpr size_t kMaxWindows = 60'000;
constexpr size_t kMaxPauses = 20'000;

volatile std::sig_atomic_t told_to_stop = 0;

// Wall-clock time, since the marks of a move come from another program.
int64_t EpochNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

class Timeline {
 public:
  Timeline() : epoch_ns_(EpochNs()), start_(NowNs()), last_(start_) {
    counts_.reserve(kMaxWindows);
    pauses_.reserve(kMaxPauses);
  }

  void Operation() {
    const int64_t now = NowNs();
    const auto window = static_cast<size_t>((now - start_) / kWindowNs);
    if (window < kMaxWindows) {
      if (window >= counts_.size()) counts_.resize(window + 1);
      ++counts_[window];
    }
    if (now - last_ >= kLongPauseNs && pauses_.size() < kMaxPauses) {
      pauses_.push_back({last_ - start_, now - last_});
    }
    last_ = now;
  }

  nlohmann::json Tell() const {
    nlohmann::json pauses = nlohmann::json::array();
    for (const Pause& pause : pauses_) {
      pauses.push_back(
          {static_cast<double>(pause.begin_ns) / 1e9, static_cast<double>(pause.length_ns) / 1e6});
    }
    return {{"epoch_s", static_cast<double>(epoch_ns_) / 1e9},
            {"window_s", static_cast<double>(kWindowNs) / 1e9},
            {"operations", counts_},
            {"pauses", pauses}};
  }

 private:
  struct Pause {
    int64_t begin_ns;
    int64_t length_ns;
  };
  int64_t epoch_ns_;
  int64_t start_;
  int64_t last_;
  std::vector<uint32_t> counts_;
  std::vector<Pause> pauses_;
};

void CheckNumber(const std::vector<char>& message, uint64_t number) {
  uint64_t got = 0;
  std::memcpy(&got, message.data(), sizeof(got));
  if (got == number) return;
  errno = EBADMSG;
  Die("wrong bytes");
}

bool Finished(int fd) {
  char byte = 0;
  return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

}  // namespace

void ServeMoving(const WorkerConfig& config) {
  const int listener = Listen(config);
  const int fd = Accept(listener);
  SocketLink link(fd);
  std::vector<char> message(std::max(config.message_bytes, sizeof(uint64_t)));
  if (config.work == "moving-rtt") {
    while (ReceiveAll(link, message.data(), message.size())) {
      link.SendAll(message.data(), message.size());
    }
  } else {
    for (uint64_t number = 0; !Finished(fd); ++number) {
      std::memcpy(message.data(), &number, sizeof(number));
      link.SendAll(message.data(), message.size());
    }
  }
  link.FinishSending();
  close(fd);
  close(listener);
}

nlohmann::json MeasureMoving(const WorkerConfig& config) {
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_stop = 1; };
  sigaction(SIGTERM, &action, nullptr);
  const int fd = Connect(config);
  SocketLink link(fd);
  std::vector<char> message(std::max(config.message_bytes, sizeof(uint64_t)));
  const bool asks = config.work == "moving-rtt";
  Timeline timeline;
  Say({{"phase", "moving"}});
  uint64_t number = 0;
  for (; told_to_stop == 0; ++number) {
    if (asks) {
      std::memcpy(message.data(), &number, sizeof(number));
      link.SendAll(message.data(), message.size());
    }
    if (!ReceiveAll(link, message.data(), message.size())) {
      errno = ECONNRESET;
      Die("the server closed");
    }
    CheckNumber(message, number);
    timeline.Operation();
  }
  link.FinishSending();
  while (ReceiveAll(link, message.data(), message.size())) CheckNumber(message, number++);
  close(fd);
  return timeline.Tell();
}

}  // namespace xenloop::bench
