// See owner.h.
#include "discovery/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>

#include "channel/base/sys.h"
#include "discovery/netlink.h"

namespace xenloop {
namespace {

// include/net/tcp_states.h
constexpr int kEstablished = 1;
constexpr int kSynReceived = 3;
constexpr int kTimeWait = 6;  // nobody's any more
constexpr int kCloseWait = 8;
constexpr int kListen = 10;
constexpr int kNewSynReceived = 12;

struct Query {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

Query QueryFor(const Tuple& tuple, uint8_t protocol = IPPROTO_TCP) {
  Query query = {};
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = NLM_F_REQUEST;
  const bool v4 = tuple.local.IsV4();
  query.request.sdiag_family = v4 ? AF_INET : AF_INET6;
  query.request.sdiag_protocol = protocol;
  query.request.idiag_states = ~0u;
  query.request.id.idiag_sport = htons(tuple.local.port);
  query.request.id.idiag_dport = htons(tuple.peer.port);
  memcpy(query.request.id.idiag_src, tuple.local.address + (v4 ? 12 : 0), v4 ? 4 : 16);
  memcpy(query.request.id.idiag_dst, tuple.peer.address + (v4 ? 12 : 0), v4 ? 4 : 16);
  query.request.id.idiag_cookie[0] = query.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return query;
}

bool IsTheOneAskedFor(const inet_diag_req_v2& asked, const inet_diag_msg& found) {
  const size_t length = asked.sdiag_family == AF_INET ? 4 : 16;
  return found.id.idiag_sport == asked.id.idiag_sport &&
         found.id.idiag_dport == asked.id.idiag_dport && found.idiag_state != kTimeWait &&
         (found.idiag_family != asked.sdiag_family ||  // a v4 connection of a dual-stack socket
          (memcmp(found.id.idiag_src, asked.id.idiag_src, length) == 0 &&
           memcmp(found.id.idiag_dst, asked.id.idiag_dst, length) == 0));
}

long Ask(const Query& query, uint8_t* answer, size_t room) {
  return AskKernel(NETLINK_SOCK_DIAG, &query, sizeof query, answer, room);
}

int ParseFound(const uint8_t* answer, size_t length, inet_diag_msg* found) {
  nlmsghdr header;
  if (length < sizeof header) return -EPROTO;
  memcpy(&header, answer, sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || length < sizeof header + sizeof *found)
    return -ENOENT;
  memcpy(found, answer + sizeof header, sizeof *found);
  return 0;
}

// Asks the kernel, and has its answer read.
template <typename Found>
int AskFor(const Tuple& tuple, uint8_t protocol,
           int (*parse)(const uint8_t*, size_t, const Tuple&, Found*), Found* found) {
  uint8_t answer[1024];
  const long result = Ask(QueryFor(tuple, protocol), answer, sizeof answer);
  return result < 0 ? static_cast<int>(result)
                    : parse(answer, static_cast<size_t>(result), tuple, found);
}

// In decimal, in front of `end`; where it begins.
char* Decimal(uint32_t number, char* end) {
  do {
    *--end = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  return end;
}

}  // namespace

int ParseOwner(const uint8_t* answer, size_t length, const Tuple& tuple, uid_t* uid) {
  inet_diag_msg found;
  if (const int error = ParseFound(answer, length, &found); error != 0) return error;
  // Without such a connection the kernel answers with the listener of that port: another socket,
  // another owner.
  if (!IsTheOneAskedFor(QueryFor(tuple).request, found)) return -ENOENT;
  *uid = found.idiag_uid;
  return 0;
}

int OwnerOf(const Tuple& tuple, uid_t* uid) { return AskFor(tuple, IPPROTO_TCP, ParseOwner, uid); }

bool Arrival::WaitsForAccept() const {
  return !is_listener && inode == 0 &&
         (state == kEstablished || state == kCloseWait || state == kSynReceived ||
          state == kNewSynReceived);
}

int ParseArrival(const uint8_t* answer, size_t length, const Tuple& tuple, Arrival* arrival) {
  inet_diag_msg found;
  if (const int error = ParseFound(answer, length, &found); error != 0) return error;
  if (found.id.idiag_sport != htons(tuple.local.port)) return -EPROTO;
  *arrival = Arrival{found.idiag_state == kListen, found.idiag_state, found.idiag_inode,
                     found.idiag_state == kListen ? found.idiag_rqueue : 0};
  return 0;
}

int ArrivalOf(const Tuple& tuple, Arrival* arrival) {
  return AskFor(tuple, IPPROTO_TCP, ParseArrival, arrival);
}

int ParseDatagramSocket(const uint8_t* answer, size_t length, const Tuple& tuple,
                        DatagramSocket* socket) {
  inet_diag_msg found;
  if (const int error = ParseFound(answer, length, &found); error != 0) return error;
  if (found.id.idiag_sport != htons(tuple.peer.port)) return -ENOENT;
  *socket = DatagramSocket{found.idiag_uid, found.idiag_inode};
  return 0;
}

int ReceiverOfDatagrams(const Tuple& tuple, DatagramSocket* socket) {
  return AskFor(tuple, IPPROTO_UDP, ParseDatagramSocket, socket);
}

namespace {
enum class Shown : uint8_t { kIt, kAnother, kNone, kNothing };
Shown SocketAt(int32_t pid, uint32_t fd, uint32_t inode) {
  if (pid <= 0 || inode == 0) return Shown::kNothing;
  char path[64] = "/proc/";
  char number[16];
  char* const end = number + sizeof number;
  const auto append = [&](const char* text, size_t length) {
    const size_t at = strlen(path);
    memcpy(path + at, text, length);
    path[at + length] = 0;
  };
  const auto append_number = [&](uint32_t value) {
    const char* const begin = Decimal(value, end);
    append(begin, static_cast<size_t>(end - begin));
  };
  append_number(static_cast<uint32_t>(pid));
  append("/fd/", 4);
  append_number(fd);
  char target[64] = {};
  const long length = sys::Call(SYS_readlinkat, AT_FDCWD, reinterpret_cast<long>(path),
                                reinterpret_cast<long>(target), sizeof target - 1);
  if (length <= 0) return length == -ENOENT || length == -ESRCH ? Shown::kNone : Shown::kNothing;
  strcpy(path, "socket:[");
  append_number(inode);
  append("]", 1);
  return strcmp(path, target) == 0 ? Shown::kIt : Shown::kAnother;
}
}  // namespace

bool HasSocketAt(int32_t pid, uint32_t fd, uint32_t inode) {
  return SocketAt(pid, fd, inode) == Shown::kIt;
}
bool IsSocketGone(int32_t pid, uint32_t fd, uint32_t inode) {
  const Shown shown = SocketAt(pid, fd, inode);
  return shown == Shown::kNone || shown == Shown::kAnother;
}

}  // namespace xenloop
