// The workload "connect": connect, one 64 B request and its answer, close, again and again. The
// client closes first, as a client does; so its port rests in TIME_WAIT, and one measurement stays
// below the number of ephemeral ports. A request beginning with 'Q' ends the server.
#include <unistd.h>

#include <vector>

#include "bench/link.h"
#include "bench/worker.h"

namespace xenloop::bench {
namespace {

void Exchange(const WorkerConfig& config, char first) {
  std::vector<char> message(config.message_bytes, first);
  const int fd = Connect(config);
  SocketLink link(fd);
  link.SendAll(message.data(), message.size());
  if (!ReceiveAll(link, message.data(), message.size()) || message[0] != first) {
    errno = EBADMSG;
    Die("wrong answer");
  }
  if (close(fd) != 0) Die("close");
}

}  // namespace

void ServeConnects(const WorkerConfig& config) {
  const int listener = Listen(config);
  std::vector<char> message(config.message_bytes);
  for (bool more = true; more;) {
    const int fd = Accept(listener);
    SocketLink link(fd);
    while (ReceiveAll(link, message.data(), message.size())) {
      if (message[0] == 'Q') more = false;
      link.SendAll(message.data(), message.size());
    }
    close(fd);
  }
  close(listener);
}

nlohmann::json MeasureConnects(const WorkerConfig& config) {
  const int64_t warm = NowNs() + static_cast<int64_t>(config.warmup_seconds * 1e9);
  const int limit = config.connections;
  int done = 0;
  while (NowNs() < warm && done < limit / 5) {
    Exchange(config, 'x');
    ++done;
  }
  const int64_t start = NowNs();
  const int64_t end = start + static_cast<int64_t>(config.seconds * 1e9);
  int timed = 0;
  int64_t now = start;
  while (now < end && done + timed < limit) {
    Exchange(config, 'x');
    ++timed;
    now = NowNs();
  }
  Exchange(config, 'Q');
  const double seconds = static_cast<double>(now - start) / 1e9;
  return {{"per_second", timed / seconds}, {"count", timed}};
}

}  // namespace xenloop::bench
