// The measured processes. The benchmark starts itself again as `xenloop-bench worker CONFIG`, twice
// a measurement, once as server and once as client, with or without LD_PRELOAD; the code of all
// carriers is therefore the same. A worker speaks JSON lines on its standard output:
// {"ready":PORT} from a server, then {"phase":NAME} where it waits for a line of input, and at the
// end {"result":{...}} from a client.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace xenloop::bench {

struct WorkerConfig {
  bool server = false;
  // "rtt", "stream", "connect", "crowd", "moving-rtt", "moving-stream", "udp-rtt", "udp-burst" or
  // "udp-stream"
  std::string work;
  std::string carrier;  // "tcp", "udp", "unix", "ring" or "sockmap"
  int cpu = -1;         // pinned to this core; -1: not pinned
  std::string host;     // tcp: the server's IPv4 address; empty: loopback
  int port = 0;         // tcp: where the server listens; 0: where it likes
  bool busy = false;    // rtt: waits by asking again and again, instead of asleep
  bool counts = false;  // also counts the guest's interrupts and packets (guest_counters.h)
  std::string path;     // unix: the socket's path
  int ring_fd = -1;     // ring: memory with a RawRingPair
  bool ring_yields = false;
  int own_sockmap = -1;  // sockmap: where this end's socket goes
  int peer_sockmap = -1;
  size_t message_bytes = 64;  // crowd: of the longest; at most 4096
  double warmup_seconds = 0.1;
  int warmup_messages = 0;  // rtt: at least so many as well
  double seconds = 0.5;
  int interval_ns = 0;  // udp-stream: at least so long between two datagrams
  int connections = 1;  // connect: at most so many; crowd: open at once
  int rounds = 1;       // crowd: messages a connection
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(WorkerConfig, server, work, carrier, cpu, host,
                                                port, busy, counts, path, ring_fd, ring_yields,
                                                own_sockmap, peer_sockmap, message_bytes,
                                                warmup_seconds, warmup_messages, seconds,
                                                interval_ns, connections, rounds)

// The whole life of a worker process; the exit code.
int WorkerMain(const std::string& config);

// The workloads; a client returns its result.
void ServePair(const WorkerConfig& config);
nlohmann::json MeasurePair(const WorkerConfig& config);
void ServeConnects(const WorkerConfig& config);
nlohmann::json MeasureConnects(const WorkerConfig& config);
void ServeCrowd(const WorkerConfig& config);
nlohmann::json MeasureCrowd(const WorkerConfig& config);
void ServeMoving(const WorkerConfig& config);
nlohmann::json MeasureMoving(const WorkerConfig& config);
void ServeDatagrams(const WorkerConfig& config);
nlohmann::json MeasureDatagrams(const WorkerConfig& config);

// Shared by the workloads.
int64_t NowNs();
int Listen(const WorkerConfig& config);   // and says {"ready":...}
int Accept(int listener, int flags = 0);  // -1 where accept would block
int Connect(const WorkerConfig& config);
void Say(const nlohmann::json& line);
void SayPhase(const char* name);  // and waits for the line that lets it go on

}  // namespace xenloop::bench
