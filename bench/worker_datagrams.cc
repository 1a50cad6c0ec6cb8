// UDP between a connected client and a server that answers who has sent: "udp-rtt" (one datagram,
// one answer), "udp-burst" (eight, one answer) and "udp-stream" (one direction, as fast as the
// sender can; what counts is what has been delivered). A datagram of one byte is the end.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "bench/link.h"
#include "bench/worker.h"

namespace xenloop::bench {
namespace {

constexpr int kBurst = 8;
constexpr size_t kMaxSamples = 8'000'000;
constexpr char kCounts = 'x';  // the first byte of what is sent after the warm-up

struct Delivered {
  uint64_t counted = 0;  // datagrams, of those sent after the warm-up
  uint64_t timed_bytes = 0;
  int64_t timed_ns = 0;
};

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int MakeSocket() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  return fd;
}

// Nothing of a measurement takes that long: something was lost that must not be.
void LimitWaits(int fd, int milliseconds) {
  const timeval limit{milliseconds / 1000, milliseconds % 1000 * 1000};
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

class Server {
 public:
  Server() : fd_(MakeSocket()), buffer_(65536) {
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), length) != 0) Die("bind");
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) Die("getsockname");
    LimitWaits(fd_, 20000);
    Say({{"ready", ntohs(address.sin_port)}});
  }
  ~Server() { close(fd_); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void Answer(int after) {
    for (int count = 0;;) {
      const size_t length = Receive();
      if (length == 1) return;
      if (++count % after == 0) Send(buffer_.data(), length);
    }
  }
  void Count() {
    Delivered delivered;
    size_t length = Receive();
    int64_t start = 0;
    for (; length != 1; length = Receive()) {
      if (buffer_[0] != kCounts) continue;
      if (start == 0) start = NowNs();
      ++delivered.counted;
      delivered.timed_bytes += length;
    }
    delivered.timed_ns = NowNs() - start;
    // The sender asks until it has heard.
    LimitWaits(fd_, 200);
    do {
      Send(&delivered, sizeof delivered);
    } while (recv(fd_, buffer_.data(), buffer_.size(), 0) >= 0);
  }

 private:
  size_t Receive() {
    length_ = sizeof from_;
    const ssize_t length = recvfrom(fd_, buffer_.data(), buffer_.size(), 0,
                                    reinterpret_cast<sockaddr*>(&from_), &length_);
    if (length < 0) Die("recvfrom");
    return static_cast<size_t>(length);
  }
  void Send(const void* bytes, size_t length) {
    if (sendto(fd_, bytes, length, 0, reinterpret_cast<const sockaddr*>(&from_), length_) < 0)
      Die("sendto");
  }

  const int fd_;
  std::vector<char> buffer_;
  sockaddr_in from_{};
  socklen_t length_ = 0;
};

double Percentile(std::vector<uint32_t>& samples, double part) {
  if (samples.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(part * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), samples.begin() + at, samples.end());
  return samples[static_cast<size_t>(at)];
}

nlohmann::json MeasureExchanges(int fd, const WorkerConfig& config, int burst) {
  std::vector<char> message(config.message_bytes, 'x');
  std::vector<char> answer(65536);
  std::vector<uint32_t> samples(kMaxSamples);
  size_t count = 0;
  const auto exchange = [&] {
    for (int i = 0; i < burst; ++i) {
      if (send(fd, message.data(), message.size(), 0) < 0) Die("send");
    }
    if (recv(fd, answer.data(), answer.size(), 0) != static_cast<ssize_t>(message.size()))
      Die("an answer was lost");
  };
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  for (int done = 0; NowNs() < warm || done < config.warmup_messages; ++done) exchange();
  const int64_t end = NowNs() + static_cast<int64_t>(config.seconds * 1e9);
  for (int64_t before = NowNs(); before < end && count < kMaxSamples;) {
    exchange();
    const int64_t after = NowNs();
    samples[count++] = static_cast<uint32_t>(std::min<int64_t>(after - before, UINT32_MAX));
    before = after;
  }
  samples.resize(count);
  for (int i = 0; i < 3; ++i) {
    if (send(fd, "e", 1, 0) < 0) break;  // it has ended
  }
  return {{"p50_us", Percentile(samples, 0.50) / 1e3 / burst},
          {"p99_us", Percentile(samples, 0.99) / 1e3 / burst},
          {"count", count}};
}

nlohmann::json MeasureDelivery(int fd, const WorkerConfig& config) {
  std::vector<char> message(config.message_bytes, 'w');
  const auto send_for = [&](double seconds) {
    const int64_t end = NowNs() + static_cast<int64_t>(seconds * 1e9);
    uint64_t sent = 0;
    for (int64_t now = NowNs(); now < end; now = NowNs()) {
      for (int i = 0; i < (config.interval_ns == 0 ? 16 : 1); ++i, ++sent) {
        if (send(fd, message.data(), message.size(), 0) < 0) Die("send");
      }
      while (NowNs() < now + config.interval_ns) {
      }
    }
    return sent;
  };
  send_for(config.warmup_seconds);
  // At a real-time priority a sender that never sleeps leaves its agent no processor.
  usleep(20000);
  message[0] = kCounts;
  const int64_t start = NowNs();
  const uint64_t sent = send_for(config.seconds);
  const double spent_s = static_cast<double>(NowNs() - start) / 1e9;
  LimitWaits(fd, 10);
  Delivered delivered;
  for (int tries = 0; recv(fd, &delivered, sizeof delivered, 0) < 0; ++tries) {
    if (tries > 1000 || send(fd, "e", 1, 0) < 0) Die("the end was lost");
  }
  const double ns = static_cast<double>(std::max<int64_t>(1, delivered.timed_ns));
  const auto lost = static_cast<double>(sent - std::min(sent, delivered.counted));
  return {{"gb_per_s", static_cast<double>(delivered.timed_bytes) / ns},
          {"extra",
           {{"lost", lost},
            {"lost %", 100.0 * lost / static_cast<double>(std::max<uint64_t>(1, sent))},
            {"offered GB/s", static_cast<double>(sent) * static_cast<double>(config.message_bytes) /
                                 1e9 / spent_s}}}};
}

}  // namespace

void ServeDatagrams(const WorkerConfig& config) {
  Server server;
  if (config.work == "udp-stream") return server.Count();
  server.Answer(config.work == "udp-burst" ? kBurst : 1);
}

nlohmann::json MeasureDatagrams(const WorkerConfig& config) {
  const int fd = MakeSocket();
  const sockaddr_in address = Loopback(config.port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) Die("connect");
  LimitWaits(fd, 20000);
  nlohmann::json result =
      config.work == "udp-stream"
          ? MeasureDelivery(fd, config)
          : MeasureExchanges(fd, config, config.work == "udp-burst" ? kBurst : 1);
  close(fd);
  return result;
}

}  // namespace xenloop::bench
