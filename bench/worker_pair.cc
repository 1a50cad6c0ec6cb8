// Two workloads over one connection: "rtt" (a blocking round trip, every one of them timed and its
// number checked) and "stream" (one direction; the rate is what the receiver saw after the
// warm-up, and the receiver's byte count must equal the sender's).
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "bench/guest_counters.h"
#include "bench/link.h"
#include "bench/sockmap.h"
#include "bench/worker.h"

namespace xenloop::bench {
namespace {

constexpr size_t kMaxSamples = 8'000'000;
constexpr size_t kReceiveBytes =
    64 * 1024;  // stream: the reader's buffer, or one message if larger

// What the stream's receiver tells its sender at the end.
struct Received {
  uint64_t total_bytes = 0;
  uint64_t timed_bytes = 0;
  int64_t timed_ns = 0;
};

double Percentile(std::vector<uint32_t>& samples, double part) {
  if (samples.empty()) return 0;
  const size_t at =
      std::min(samples.size() - 1, static_cast<size_t>(part * static_cast<double>(samples.size())));
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(at),
                   samples.end());
  return samples[at];
}

template <typename Link>
void RoundTrip(Link& link, std::vector<char>& message, std::vector<char>& answer, uint64_t number) {
  std::memcpy(message.data(), &number, sizeof(number));
  link.SendAll(message.data(), message.size());
  if (!ReceiveAll(link, answer.data(), answer.size())) {
    errno = ECONNRESET;
    Die("the server closed");
  }
  uint64_t got = 0;
  std::memcpy(&got, answer.data(), sizeof(got));
  if (got != number) {
    errno = EBADMSG;
    Die("wrong answer");
  }
}

template <typename Link>
nlohmann::json MeasureRoundTrips(Link& link, const WorkerConfig& config) {
  std::vector<char> message(std::max(config.message_bytes, sizeof(uint64_t)), 'x');
  std::vector<char> answer(message.size());
  // Touched beforehand: a page fault is not part of a round trip.
  std::vector<uint32_t> samples(kMaxSamples);
  size_t count = 0;
  uint64_t number = 0;
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  while (NowNs() < warm || number < static_cast<uint64_t>(config.warmup_messages))
    RoundTrip(link, message, answer, number++);
  const GuestCounters counted(config.counts);
  const int64_t start = NowNs();
  const int64_t end = start + static_cast<int64_t>(config.seconds * 1e9);
  int64_t before = start;
  while (before < end && count < kMaxSamples) {
    RoundTrip(link, message, answer, number++);
    const int64_t after = NowNs();
    samples[count++] = static_cast<uint32_t>(std::min<int64_t>(after - before, UINT32_MAX));
    before = after;
  }
  const double spent_s = static_cast<double>(before - start) / 1e9;
  const nlohmann::json per = counted.Per("round trip", static_cast<double>(count));
  link.FinishSending();
  samples.resize(count);
  return {{"p50_us", Percentile(samples, 0.50) / 1e3},
          {"p99_us", Percentile(samples, 0.99) / 1e3},
          {"per_second", static_cast<double>(count) / spent_s},
          {"count", count},
          {"counted", per}};
}

template <typename Link>
void ServeRoundTrips(Link& link, const WorkerConfig& config) {
  std::vector<char> message(std::max(config.message_bytes, sizeof(uint64_t)));
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  int served = 0;
  while ((NowNs() < warm || served < config.warmup_messages) &&
         ReceiveAll(link, message.data(), message.size())) {
    link.SendAll(message.data(), message.size());
    ++served;
  }
  const GuestCounters counted(config.counts);
  double count = 0;
  for (; ReceiveAll(link, message.data(), message.size()); ++count) {
    link.SendAll(message.data(), message.size());
  }
  if (config.counts) Say({{"counted", counted.Per("round trip", count)}});
  link.FinishSending();
}

template <typename Link>
nlohmann::json MeasureStream(Link& link, const WorkerConfig& config) {
  const std::vector<char> message(config.message_bytes, 'x');
  const size_t burst = std::max<size_t>(1, kReceiveBytes / message.size());  // between clock reads
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  uint64_t sent = 0;
  const auto send_until = [&](int64_t end) {
    while (NowNs() < end) {
      for (size_t i = 0; i < burst; ++i) link.SendAll(message.data(), message.size());
      sent += burst * message.size();
    }
  };
  send_until(warm);
  const uint64_t sent_warm = sent;
  const GuestCounters counted(config.counts);
  send_until(warm + static_cast<int64_t>(config.seconds * 1e9));
  const nlohmann::json per = counted.Per("64 KiB", static_cast<double>(sent - sent_warm) / 65536);
  link.FinishSending();
  Received received;
  if (!ReceiveAll(link, &received, sizeof(received)) || received.total_bytes != sent) {
    errno = EBADMSG;
    Die("bytes were lost");
  }
  const double ns = static_cast<double>(std::max<int64_t>(1, received.timed_ns));
  return {{"gb_per_s", static_cast<double>(received.timed_bytes) / ns},
          {"bytes", sent},
          {"counted", per}};
}

template <typename Link>
void ServeStream(Link& link, const WorkerConfig& config) {
  std::vector<char> buffer(std::max(config.message_bytes, kReceiveBytes));
  Received received;
  size_t got = link.Receive(buffer.data(), buffer.size());
  received.total_bytes = got;
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  while (got > 0 && NowNs() < warm) {
    got = link.Receive(buffer.data(), buffer.size());
    received.total_bytes += got;
  }
  const GuestCounters counted(config.counts);
  const int64_t start = NowNs();
  while (got > 0) {
    got = link.Receive(buffer.data(), buffer.size());
    received.timed_bytes += got;
  }
  received.timed_ns = NowNs() - start;
  received.total_bytes += received.timed_bytes;
  if (config.counts) {
    Say({{"counted", counted.Per("64 KiB", static_cast<double>(received.timed_bytes) / 65536)}});
  }
  link.SendAll(&received, sizeof(received));
  link.FinishSending();
}

template <typename Link>
void Serve(Link& link, const WorkerConfig& config) {
  config.work == "rtt" ? ServeRoundTrips(link, config) : ServeStream(link, config);
}

template <typename Link>
nlohmann::json Measure(Link& link, const WorkerConfig& config) {
  return config.work == "rtt" ? MeasureRoundTrips(link, config) : MeasureStream(link, config);
}

RawRingPair* MapRings(const WorkerConfig& config) {
  void* memory = mmap(nullptr, sizeof(RawRingPair), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, config.ring_fd, 0);
  if (memory == MAP_FAILED) Die("mmap");
  return static_cast<RawRingPair*>(memory);
}

RawRingWait WaitOf(const WorkerConfig& config) {
  return config.ring_yields ? RawRingWait::kYield : RawRingWait::kSpin;
}

}  // namespace

void ServePair(const WorkerConfig& config) {
  if (config.carrier == "ring") {
    RawRingPair* rings = MapRings(config);
    RingLink link(&rings->to_client, &rings->to_server, WaitOf(config));
    Say({{"ready", 0}});
    Serve(link, config);
    return;
  }
  const int listener = Listen(config);
  const int fd = Accept(listener);
  const bool in_sockmap = config.carrier == "sockmap";
  if (in_sockmap) JoinSockmap(config.own_sockmap, config.peer_sockmap, fd);
  SocketLink link(fd, config.busy, in_sockmap);
  Serve(link, config);
  close(fd);
  close(listener);
}

nlohmann::json MeasurePair(const WorkerConfig& config) {
  if (config.carrier == "ring") {
    RawRingPair* rings = MapRings(config);
    RingLink link(&rings->to_server, &rings->to_client, WaitOf(config));
    return Measure(link, config);
  }
  const int fd = Connect(config);
  const bool in_sockmap = config.carrier == "sockmap";
  if (in_sockmap) JoinSockmap(config.own_sockmap, config.peer_sockmap, fd);
  SocketLink link(fd, config.busy, in_sockmap);
  nlohmann::json result = Measure(link, config);
  close(fd);
  return result;
}

}  // namespace xenloop::bench
