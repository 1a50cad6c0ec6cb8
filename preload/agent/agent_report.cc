// Answers to tools (`xenloop stat`, `off`, `on`) on an agent's socket: text packets, one JSON
// object each.
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "channel/base/time.h"
#include "channel/local/local_transport.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/agent_asks.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bulletin.h"
#include "preload/side/datagram_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/log.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"

namespace xenloop {
namespace {

constexpr const char* kVersion = "0.1.0";
constexpr int kPatienceMs = 200;
constexpr char kOk[] = "{\"ok\":true}";

// False: the tool does not read; give up rather than hold the agent.
bool SendText(Talk& talk, const char* text, size_t length) {
  for (int i = 0; i < kPatienceMs; ++i) {
    const long sent = sys::Call(SYS_sendto, talk.fd, reinterpret_cast<long>(text),
                                static_cast<long>(length), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    if (sent >= 0) return true;
    if (sent != -EAGAIN) return false;
    Nap(kNsPerMs);
  }
  return false;
}

void FormatEndpoint(const Endpoint& end, char* text, size_t capacity) {
  if (end.IsV4()) {
    const uint8_t* a = end.address + 12;
    snprintf(text, capacity, "%u.%u.%u.%u:%u", a[0], a[1], a[2], a[3], end.port);
    return;
  }
  size_t n = static_cast<size_t>(snprintf(text, capacity, "["));
  for (int i = 0; i < 16; i += 2) {
    n += static_cast<size_t>(snprintf(text + n, capacity - n, "%s%x", i > 0 ? ":" : "",
                                      (end.address[i] << 8) | end.address[i + 1]));
  }
  snprintf(text + n, capacity - n, "]:%u", end.port);
}

bool TupleOf(int fd, Tuple* tuple) {
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  if (sys::Call(SYS_getsockname, fd, reinterpret_cast<long>(&name),
                reinterpret_cast<long>(&length)) != 0 ||
      !ToEndpoint(name, &tuple->local)) {
    return false;
  }
  length = sizeof name;
  return sys::Call(SYS_getpeername, fd, reinterpret_cast<long>(&name),
                   reinterpret_cast<long>(&length)) == 0 &&
         ToEndpoint(name, &tuple->peer);
}

bool ReportSide(Talk& talk, int fd, Side* side) {
  Tuple tuple;
  uint64_t tcp_sent;
  uint64_t tcp_received;
  {
    const AgentAsks asks(fd);
    if (!asks.May() || !TupleOf(fd, &tuple)) return true;  // not connected, or a listener
    TcpBytesOf(fd, &tcp_sent, &tcp_received);
  }
  char local[64];
  char peer[64];
  FormatEndpoint(tuple.local, local, sizeof local);
  FormatEndpoint(tuple.peer, peer, sizeof peer);
  const uint32_t tid = CurrentTid();
  const AgentSide& note = agent.sides[SlotOf(side)];
  // Without a note of ours: attached by the process that we were forked from, or a private copy.
  // Both are memory of this kernel.
  const Transport* const by =
      note.mine.transport != nullptr ? note.mine.transport : &LocalTransport();
  uint64_t fifo_sent;
  uint64_t fifo_received;
  const char* send_route = "tcp";
  const char* receive_route = "tcp";
  uint32_t states[2];
  uint64_t draining = 0;
  {
    LockScope scope(side->send.lock, tid);
    fifo_sent = side->send.FifoBytes();
    states[0] = static_cast<uint32_t>(side->send.route.load());
    if (side->send.route.load() == SendRoute::kFifo) send_route = by->name;
  }
  {
    LockScope scope(side->receive.lock, tid);
    fifo_received = side->receive.FifoBytes();
    states[1] = static_cast<uint32_t>(side->receive.route.load());
    if (side->receive.route.load() == ReceiveRoute::kDraining)
      draining = side->receive.tcp_remaining;
    if (side->receive.route.load() == ReceiveRoute::kFifo ||
        side->receive.route.load() == ReceiveRoute::kResidue)
      receive_route = by->name;
  }
  const int32_t peer_pid = note.talk != kNoTalk && note.stage == Stage::kAttached &&
                                   note.generation == side->generation.load()
                               ? agent.talks[note.talk].pid
                               : 0;
  char text[1024];
  const int n = snprintf(
      text, sizeof text,
      "{\"pid\":%d,\"program\":\"%s\",\"fd\":%d,\"local\":\"%s\",\"peer\":\"%s\",\"peer_pid\":%d,"
      "\"route_send\":\"%s\",\"route_receive\":\"%s\",\"tcp_sent\":%lu,\"tcp_received\":%lu,\"fifo_"
      "sent\":%lu,"
      "\"fifo_received\":%lu,\"upgrades\":%u,\"fallbacks\":%u,\"reason\":\"%s\","
      "\"state\":[%u,%u],\"draining\":%lu}",
      process_state.pid, ProgramName(), fd, local, peer, peer_pid, send_route, receive_route,
      tcp_sent, tcp_received, fifo_sent, fifo_received, side->upgrades.load(),
      side->fallbacks.load(), ReasonText(ReasonOf(side)), states[0], states[1], draining);
  return SendText(talk, text, static_cast<size_t>(n));
}

bool Report(Talk& talk) {
  uint32_t streams = 0;
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    const Side* side = FdTable::FindSide(fd);
    if (side != nullptr && side->Connected() && side->fd.load() == fd) ++streams;
  }
  const Totals totals = CurrentTotals();
  char fallbacks[2048];
  FormatFallbacks(fallbacks, sizeof fallbacks - 2);
  char devices[256];
  DescribeDevices(devices, sizeof devices);
  char datagrams[960];
  FormatDatagrams(datagrams, sizeof datagrams);
  char lives[512] = "";
  FormatParked(lives, sizeof lives);
  char text[4096];
  const int n =
      snprintf(text, sizeof text,
               "{\"process\":{\"pid\":%d,\"program\":\"%s\",\"version\":\"%s\",\"streams\":%u,"
               "\"connections\":%lu,\"upgraded\":%lu,\"datagrams\":%s,\"fallbacks\":%s%s%s}}",
               process_state.pid, ProgramName(), kVersion, streams, totals.connections,
               totals.upgraded, datagrams, fallbacks, lives, devices);
  if (!SendText(talk, text, static_cast<size_t>(n))) return false;
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    Side* side = FdTable::FindSide(fd);
    if (side == nullptr || !side->Connected() || side->fd.load() != fd) continue;
    if (!ReportSide(talk, fd, side)) return false;
  }
  return SendText(talk, "{\"end\":true}", 12);
}

// `xenloop leave` and `arrive`, which move network namespaces about. It finds the agents of a whole
// realm; the question is for those in its own namespace.
bool AnswerMover(Talk& talk, const char* question) {
  const bool leave = question[0] == 'L';
  uint64_t cookie = 0;
  for (const char* c = strchr(question, ' ') + 1; *c != '\0'; ++c) {
    if (*c < '0' || *c > '9') return false;
    cookie = cookie * 10 + static_cast<uint64_t>(*c - '0');
  }
  if (cookie == agent.netns_cookie && cookie != 0) {
    Switch expected = leave ? Switch::kOn : Switch::kLeft;
    agent_shared.refused_for_now.compare_exchange_strong(
        expected, leave ? Switch::kLeft : Switch::kOn, std::memory_order_acq_rel);
    // Also on arrival: the move may not have been announced, and then nothing has been left yet.
    LeaveAllPeers(Reason::kAboutToMove);
    const Reason problem = leave ? Reason::kNone : OpenRealmAnew();
    if (problem != Reason::kNone) {
      char text[160];
      const int n = snprintf(text, sizeof text, "{\"error\":\"%s\"}", ReasonText(problem));
      return SendText(talk, text, static_cast<size_t>(n));
    }
    if (!leave) LookAround();
  }
  return SendText(talk, kOk, sizeof kOk - 1);
}

}  // namespace

bool AnswerTool(Talk& talk, const char* question) {
  const bool may = talk.uid == agent.uid || talk.uid == 0;
  if (!may) {
    static constexpr char kDenied[] =
        "{\"error\":\"not allowed: this process belongs to another user\"}";
    sys::Call(SYS_sendto, talk.fd, reinterpret_cast<long>(kDenied), sizeof kDenied - 1,
              MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    return false;
  }
  if (strcmp(question, "STAT") == 0) {
    return Report(talk);
  }
  if (strcmp(question, "LOOK") == 0) {
    LookAround();
    return SendText(talk, kOk, sizeof kOk - 1);
  }
  if (strncmp(question, "LEAVE ", 6) == 0 || strncmp(question, "ARRIVE ", 7) == 0)
    return AnswerMover(talk, question);
  if (strcmp(question, "OFF") == 0 || strcmp(question, "ON") == 0) {
    const bool off = question[1] == 'F';
    agent_shared.refused_for_now.store(off ? Switch::kToldOff : Switch::kOn,
                                       std::memory_order_release);
    if (off) FallBackEverything(Reason::kSwitchedOff);
    if (!off) LookAround();
    return SendText(talk, kOk, sizeof kOk - 1);
  }
  static constexpr char kUnknown[] = "{\"error\":\"unknown question\"}";
  return SendText(talk, kUnknown, sizeof kUnknown - 1);
}

}  // namespace xenloop
