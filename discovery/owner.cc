// See owner.h.
#include "discovery/owner.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr int kTimeWait = 6;  // include/net/tcp_states.h: nobody's any more

struct Query {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

Query QueryFor(const Tuple& tuple) {
  Query query = {};
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = NLM_F_REQUEST;
  const bool v4 = tuple.local.IsV4();
  query.request.sdiag_family = v4 ? AF_INET : AF_INET6;
  query.request.sdiag_protocol = IPPROTO_TCP;
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

}  // namespace

int ParseOwner(const uint8_t* answer, size_t length, const Tuple& tuple, uid_t* uid) {
  nlmsghdr header;
  inet_diag_msg found;
  if (length < sizeof header) return -EPROTO;
  memcpy(&header, answer, sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || length < sizeof header + sizeof found)
    return -ENOENT;
  memcpy(&found, answer + sizeof header, sizeof found);
  // Without such a connection the kernel answers with the listener of that port: another socket,
  // another owner.
  if (!IsTheOneAskedFor(QueryFor(tuple).request, found)) return -ENOENT;
  *uid = found.idiag_uid;
  return 0;
}

int OwnerOf(const Tuple& tuple, uid_t* uid) {
  const long fd =
      sys::MakeDescriptor(SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return static_cast<int>(fd);
  const Query query = QueryFor(tuple);
  long result = sys::Write(static_cast<int>(fd), &query, sizeof query);
  if (result > 0) {
    uint8_t answer[1024];
    result =
        sys::Call(SYS_recvfrom, fd, reinterpret_cast<long>(answer), sizeof answer, MSG_DONTWAIT);
    if (result >= 0) result = ParseOwner(answer, static_cast<size_t>(result), tuple, uid);
  }
  sys::Close(static_cast<int>(fd));
  return static_cast<int>(result);
}

}  // namespace xenloop
