// The list itself; see catalog.h.
#include "bench/catalog.h"

#include "absl/strings/str_cat.h"
#include "bench/sample.h"

namespace xenloop::bench {
namespace {

constexpr bool kMust = true;
constexpr bool kAim = false;

constexpr int kXenSweepSizes[] = {64, 256, 1024, 4096, 16384, 65536};
constexpr int kXenFifoKib[] = {64, 128, 256, 512, 1024, 2048};

constexpr char kMemorySetup[] = "Pss of both processes and shared memory, without kernel buffers";

Goal Times(bool must, std::string text, double bound, const char* other,
           const char* subject = kXenloop) {
  return {must, std::move(text), Goal::Kind::kTimesAsGoodAs, subject, other, bound};
}

Goal Below(bool must, std::string text, double bound) {
  return {must, std::move(text), Goal::Kind::kBelow, kXenloop, "", bound};
}

CaseInfo NoLibrary(const char* id, const char* title, const char* setup, const char* base = kTcp) {
  const bool udp = base == std::string(kUdp);
  const char* client = udp ? "UDP, client preloaded" : "TCP, client preloaded";
  const char* server = udp ? "UDP, server preloaded" : "TCP, server preloaded";
  return {id,
          title,
          "us",
          true,
          false,
          setup,
          {Times(kMust, "client preloaded: at most 1.02 of the kernel's", 1 / 1.02, base, client),
           Times(kMust, "server preloaded: at most 1.02 of the kernel's", 1 / 1.02, base, server),
           Times(kAim, "client preloaded: not measurable (0.5 %)", 1 / 1.005, base, client),
           Times(kAim, "server preloaded: not measurable (0.5 %)", 1 / 1.005, base, server)}};
}

std::vector<CaseInfo> DatagramCases(const char* one, const char* two) {
  return {
      {"udp-rtt-two",
       "UDP: 64 B blocking round trip, two cores, p50",
       "us",
       true,
       true,
       two,
       {Times(kMust, "10x less than the kernel", 10, kUdp),
        Times(kAim, "40x less than the kernel", 40, kUdp)}},
      {"udp-rtt-one",
       "UDP: 64 B blocking round trip, one core, p50",
       "us",
       true,
       false,
       absl::StrCat(one, "; who waits offers the core to the other, then sleeps"),
       {Times(kMust, "no worse than the kernel", 1.0, kUdp),
        Times(kAim, "1.15x better", 1.15, kUdp)}},
      {"udp-burst-one",
       "UDP: 8 datagrams of 64 B and one answer, one core, a datagram",
       "us",
       true,
       true,
       one,
       {Times(kMust, "2x less than the kernel", 2, kUdp),
        Times(kAim, "3x less than the kernel", 3, kUdp)}},
      {"udp-stream-two",
       "UDP: 1,400 B delivered, the sender as fast as it can, two cores",
       "GB/s",
       false,
       true,
       absl::StrCat(two, "; default SO_RCVBUF"),
       {Times(kMust, "6.2x the kernel (the paper)", 6.2, kUdp),
        Times(kAim, "10x the kernel", 10, kUdp)}},
      {"udp-loss-two",
       "UDP: 1,400 B delivered at the load that the kernel's sender makes at full speed, two cores",
       "GB/s",
       false,
       true,
       absl::StrCat(two, "; default SO_RCVBUF"),
       {{kMust, "none lost", Goal::Kind::kNoneOf, kXenloop, "lost", 0}}},
      NoLibrary("udp-nolib-one",
                "UDP: 64 B round trip to a peer without the library, one core, p50", one, kUdp)};
}

// Between two guests of one Xen host (bench/xen/run): TCP is netfront and netback there. The
// paper's own ratios stand as aims.
std::vector<CaseInfo> XenCases() {
  const char* between = "between two guests; TCP is netfront/netback with its offloads";
  std::vector<CaseInfo> cases = {
      {"xen-busy",
       "Xen: 64 B round trip, both ends busy, p50",
       "us",
       true,
       true,
       absl::StrCat(between, ", at its best: asleep"),
       {Times(kMust, "5x less than netfront", 5, kTcp),
        Times(kAim, "10x less than netfront", 10, kTcp),
        Times(kAim, "the paper: 5.0x (flood ping)", 5, kTcp)}},
      {"xen-asleep",
       "Xen: 64 B round trip, both ends asleep, p50",
       "us",
       true,
       true,
       absl::StrCat(between, "; XENLOOP_SPIN_US=0"),
       {Times(kMust, "2.2x less than netfront", 2.2, kTcp),
        Times(kAim, "3x less than netfront", 3, kTcp),
        Times(kAim, "the paper: 3.0x (lat_tcp)", 3, kTcp)}},
      {"xen-transactions",
       "Xen: 64 B request and answer, as TCP_RR",
       "transactions/s",
       false,
       true,
       absl::StrCat(between, "; blocking calls, default settings"),
       {Times(kAim, "the paper: 2.79x (TCP_RR)", 2.79, kTcp)}},
      {"xen-stream",
       "Xen: stream of 64 KiB writes",
       "GB/s",
       false,
       true,
       between,
       {Times(kMust, "3x netfront", 3, kTcp),
        Times(kAim, "6x netfront", 6, kTcp),
        {kMust, "at most 1 doorbell in 16 writes, receiver", Goal::Kind::kAtMost, kXenloop,
         "server: doorbells per 64 KiB", 1 / 16.0},
        {kMust, "at most 1 doorbell in 16 writes, sender", Goal::Kind::kAtMost, kXenloop,
         "client: doorbells per 64 KiB", 1 / 16.0},
        Times(kAim, "the paper: 1.56x (TCP_STREAM)", 1.56, kTcp),
        Times(kAim, "the paper: 3.31x (bw_tcp)", 3.31, kTcp)}},
      {"xen-connect",
       "Xen: connect, one 64 B request, close",
       "connections/s",
       false,
       false,
       between,
       {Times(kAim, "0.95 of netfront", 0.95, kTcp)}},
  };
  for (const int size : kXenSweepSizes) {
    cases.push_back({absl::StrCat("xen-sweep-", size),
                     "Xen: stream by size of one write, B",
                     "GB/s",
                     false,
                     true,
                     between,
                     {}});
  }
  for (const int size : kXenFifoKib) {
    cases.push_back({absl::StrCat("xen-fifo-sweep-", size),
                     "Xen: stream of 64 KiB writes by size of the FIFO, KiB",
                     "GB/s",
                     false,
                     true,
                     between,
                     {}});
  }
  return cases;
}

std::vector<CaseInfo> MakeCatalog() {
  const char* two = "ends pinned to two cores";
  const char* one = "both ends pinned to one core";
  const std::vector<Goal> connect_goals = {Times(kMust, "0.95 of TCP", 0.95, kTcp),
                                           Times(kAim, "as many as TCP", 1.0, kTcp)};
  std::vector<CaseInfo> cases = {
      {"rtt-two",
       "64 B blocking round trip, two cores, p50",
       "us",
       true,
       true,
       two,
       {Times(kMust, "20x less than TCP", 20, kTcp),
        Times(kMust, "at most 2x the raw ring (0.50)", 1 / 2.0, kRing),
        Times(kAim, "at most 1.3x the raw ring (0.77)", 1 / 1.3, kRing)}},
      {"rtt-one",
       "64 B blocking round trip, one core, p50",
       "us",
       true,
       true,
       absl::StrCat(one, "; the raw ring calls sched_yield"),
       {Times(kMust, "no worse than TCP", 1.0, kTcp),
        Times(kAim, "1.3x better than TCP", 1.3, kTcp)}},
      {"stream-two",
       "Stream of 64 KiB writes, two cores",
       "GB/s",
       false,
       true,
       two,
       {Times(kMust, "4x TCP", 4, kTcp), Times(kAim, "0.85 of the raw ring", 0.85, kRing)}},
      {"stream-one",
       "Stream of 64 KiB writes, one core",
       "GB/s",
       false,
       true,
       one,
       {Times(kMust, "3.2x TCP", 3.2, kTcp), Times(kMust, "not below sockmap", 1.0, kSockmap),
        Times(kAim, "4x TCP", 4, kTcp)}},
  };
  for (const int size : kSweepSizes) {
    cases.push_back({absl::StrCat("sweep-", size),
                     "Stream by size of one write, B",
                     "GB/s",
                     false,
                     true,
                     absl::StrCat(two, "; reads of 64 KiB, or of the write's size"),
                     {}});
  }
  const std::vector<CaseInfo> rest = {
      {"redis-get-c20",
       "redis-benchmark GET, 20 clients, no pipelining",
       "requests/s",
       false,
       true,
       "redis-benchmark -t get -c 20 -P 1, default threads, nothing pinned",
       {Times(kMust, "1.5x TCP", 1.5, kTcp), Times(kMust, "above the UNIX socket", 1.0, kUnix),
        Times(kAim, "2.5x TCP", 2.5, kTcp)}},
      {"nginx-1k",
       "nginx, 1 KiB file, keep-alive, wrk",
       "requests/s",
       false,
       true,
       "2 workers, 20 connections, nothing pinned",
       {Times(kMust, "1.3x TCP", 1.3, kTcp), Times(kAim, "2x TCP", 2, kTcp)}},
      {"iperf3", "iperf3, one stream", "Gbit/s", false, true, "nothing pinned", {}},
      {"iperf3-p4", "iperf3 -P4, four streams", "Gbit/s", false, true, "nothing pinned", {}},
      {"connect-two", "Connect, one 64 B request, close; two cores", "connections/s", false, false,
       two, connect_goals},
      {"connect-one", "Connect, one 64 B request, close; one core", "connections/s", false, false,
       one, connect_goals},
      NoLibrary("nolib-two", "64 B round trip to a peer without the library, two cores, p50", two),
      NoLibrary("nolib-one", "64 B round trip to a peer without the library, one core, p50", one),
      {"startup",
       "Start and end of /bin/true",
       "ms",
       true,
       false,
       "posix_spawn and waitpid, on one core",
       {{kMust, "adds at most 0.5 ms", Goal::Kind::kAddedAtMost, kXenloop, "without", 0.5},
        {kAim, "adds at most 0.1 ms", Goal::Kind::kAddedAtMost, kXenloop, "without", 0.1}}},
      {"idle-memory",
       "Idle connection after 200 short messages each way: memory of both ends",
       "KiB",
       true,
       true,
       kMemorySetup,
       {Below(kMust, "below 64 KiB", 64), Below(kAim, "below 16 KiB", 16)},
       false},
      {"idle-memory-heavy",
       "Idle connection 6 s after 400 KiB each way: memory of both ends",
       "KiB",
       true,
       true,
       kMemorySetup,
       {Below(kAim, "below 64 KiB", 64)},
       false},
      {"idle-cpu",
       "All the idle connections: CPU time in 5 s, both processes",
       "ms",
       true,
       true,
       "both processes in epoll_wait on all their connections",
       {Below(kMust, "no CPU (below 1 ms)", 1)},
       false},
      {"many",
       "10,000 connections open at once, each used",
       "exchanges/s",
       false,
       true,
       "two cores; server on epoll; every byte checked",
       {{kMust, "no connection lost", Goal::Kind::kNoneOf, kXenloop, "lost", 0},
        {kMust, "no wrong byte", Goal::Kind::kNoneOf, kXenloop, "wrong", 0},
        {kMust, "10,000 at once", Goal::Kind::kAtLeast, kXenloop, "connections", 10000},
        {kAim, "all accelerated, at both ends", Goal::Kind::kAtLeast, kXenloop, "upgraded",
         20000}}},
  };
  cases.insert(cases.end(), rest.begin(), rest.end());
  const std::vector<CaseInfo> datagrams = DatagramCases(one, two);
  cases.insert(cases.end(), datagrams.begin(), datagrams.end());
  const std::vector<CaseInfo> xen = XenCases();
  cases.insert(cases.end(), xen.begin(), xen.end());
  return cases;
}

}  // namespace

const std::vector<CaseInfo>& Catalog() {
  static const auto* const catalog = new std::vector<CaseInfo>(MakeCatalog());
  return *catalog;
}

std::string SweepOf(const std::string& id) {
  constexpr absl::string_view kMark = "sweep-";
  const size_t at = id.find(kMark.data());
  return at == std::string::npos ? "" : id.substr(0, at + kMark.size());
}
std::string SweepSizeOf(const std::string& id) { return id.substr(SweepOf(id).size()); }

CaseInfo FindCase(const std::string& id) {
  for (const CaseInfo& info : Catalog()) {
    if (info.id == id) return info;
  }
  CaseInfo unknown;
  unknown.id = unknown.title = id;
  return unknown;
}

}  // namespace xenloop::bench
