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

bool IsTheOneAskedFor(const inet_diag_req_v2& asked, const inet_diag_msg& found) {
  const size_t length = asked.sdiag_family == AF_INET ? 4 : 16;
  return found.id.idiag_sport == asked.id.idiag_sport &&
         found.id.idiag_dport == asked.id.idiag_dport && found.idiag_state != kTimeWait &&
         (found.idiag_family != asked.sdiag_family ||  // a v4 connection of a dual-stack socket
          (memcmp(found.id.idiag_src, asked.id.idiag_src, length) == 0 &&
           memcmp(found.id.idiag_dst, asked.id.idiag_dst, length) == 0));
}

}  // namespace

int OwnerOf(const Tuple& tuple, uid_t* uid) {
  const long fd = sys::MakeDescriptor(SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return static_cast<int>(fd);
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } query = {};
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
  long result = sys::Write(static_cast<int>(fd), &query, sizeof query);
  if (result > 0) {
    alignas(nlmsghdr) uint8_t answer[1024];
    result =
        sys::Call(SYS_recvfrom, fd, reinterpret_cast<long>(answer), sizeof answer, MSG_DONTWAIT);
    if (result >= static_cast<long>(sizeof(nlmsghdr))) {
      const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
      const auto* found = reinterpret_cast<const inet_diag_msg*>(answer + sizeof(nlmsghdr));
      // Without such a connection the kernel answers with the listener of that port: another
      // socket, another owner.
      if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
          result >= static_cast<long>(sizeof(nlmsghdr) + sizeof(inet_diag_msg)) &&
          IsTheOneAskedFor(query.request, *found)) {
        *uid = found->idiag_uid;
        result = 0;
      } else {
        result = -ENOENT;
      }
    } else if (result >= 0) {
      result = -EPROTO;
    }
  }
  sys::Close(static_cast<int>(fd));
  return static_cast<int>(result);
}

}  // namespace xenloop
