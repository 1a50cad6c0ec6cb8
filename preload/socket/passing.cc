// See passing.h.
#include "preload/socket/passing.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "discovery/handover.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/confinement.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/self.h"
#include "preload/side/unseen_holders.h"
#include "preload/socket/socket.h"

namespace xenloop {
namespace {

// Calls `visit` with each descriptor in a message, whose control bytes can be read.
template <typename Visit>
void EachPassed(const msghdr* message, Visit visit) {
  auto* const all = const_cast<msghdr*>(message);
  for (cmsghdr* part = CMSG_FIRSTHDR(all); part != nullptr; part = CMSG_NXTHDR(all, part)) {
    const auto at = static_cast<size_t>(reinterpret_cast<const char*>(part) -
                                        static_cast<const char*>(message->msg_control));
    // The kernel refuses the message.
    if (part->cmsg_len < CMSG_LEN(0) || part->cmsg_len > message->msg_controllen - at) return;
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int passed;
      memcpy(&passed, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      visit(passed);
    }
  }
}

bool MayCarry(const msghdr* message) {
  if (!MayKnow()) {  // nor is a pointer asked about: it may
    UnseenMayHandOn();
    return false;
  }
  return FdTable::End() != 0 && MayRead(message, sizeof *message) &&
         message->msg_control != nullptr && message->msg_controllen >= CMSG_LEN(sizeof(int)) &&
         MayRead(message->msg_control, message->msg_controllen);
}

bool FileOf(int fd, FileId* file) {
  struct stat found;
  if (sys::Call(SYS_fstat, fd, sys::Word(&found)) != 0 || !S_ISSOCK(found.st_mode)) return false;
  *file = FileId{found.st_dev, found.st_ino};
  return true;
}

int OptionOf(int fd, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  sys::Call(SYS_getsockopt, fd, SOL_SOCKET, name, sys::Word(&value), sys::Word(&length));
  return value;
}

struct Question {
  nlmsghdr header;
  unix_diag_req request;
};

// Which socket is at the other end of this one? 0: none, or the kernel does not tell.
uint32_t PeerInode(uint32_t inode) {
  const int fd = static_cast<int>(
      sys::MakeDescriptor(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (fd < 0) return 0;
  Question question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0u;
  question.request.udiag_ino = inode;
  question.request.udiag_show = UDIAG_SHOW_PEER;
  question.request.udiag_cookie[0] = question.request.udiag_cookie[1] = ~0u;  // any
  alignas(nlmsghdr) char answer[512];
  long length = sys::Call(SYS_sendto, fd, sys::Word(&question), sizeof question, 0, 0, 0);
  if (length == sizeof question)
    length = sys::Call(SYS_recvfrom, fd, sys::Word(answer), sizeof answer, MSG_DONTWAIT, 0, 0);
  sys::Close(fd);
  constexpr long kHead = NLMSG_SPACE(sizeof(unix_diag_msg));
  const auto* const header = reinterpret_cast<const nlmsghdr*>(answer);
  if (length < kHead || header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return 0;
  nlattr attribute;
  for (long at = kHead; at + static_cast<long>(sizeof attribute) <= length;
       at += NLA_ALIGN(attribute.nla_len)) {
    memcpy(&attribute, answer + at, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || at + attribute.nla_len > length) return 0;
    uint32_t peer = 0;
    if (attribute.nla_type != UNIX_DIAG_PEER || attribute.nla_len != sizeof attribute + sizeof peer)
      continue;
    memcpy(&peer, answer + at + sizeof attribute, sizeof peer);
    return peer;
  }
  return 0;
}

bool TakerAt(int channel, FileId* taker) {
  if (OptionOf(channel, SO_DOMAIN) != AF_UNIX || !FileOf(channel, taker)) return false;
  taker->inode = PeerInode(static_cast<uint32_t>(taker->inode));
  return taker->inode != 0;
}

uid_t EffectiveUser() { return static_cast<uid_t>(sys::Call(SYS_geteuid)); }

}  // namespace

void Passing::Pass(int channel, int fd, Side* side) {
  const auto give_away = [=] { FallBackToTcp(fd, Reason::kPassed, TcpFor::kGood); };
  FileId taker;
  uint32_t unpinned = 0;
  const uint64_t cookie = CookieOf(fd);
  if (count_ == kMost || cookie == 0 || !AllHoldersAreKnown(side) || InBorrowedMemory() ||
      !MayAskTheKernel() || !TakerAt(channel, &taker) ||
      !side->pinned.compare_exchange_strong(unpinned, kPassedOn, std::memory_order_acq_rel)) {
    if (cookie != 0) VoidHandovers(GetConfig().runtime_dir, EffectiveUser(), PassedKey(cookie));
    return give_away();
  }
  FallBackToTcp(fd, Reason::kPassed, TcpFor::kNow);
  passed_[count_++] = Passed{side, side->generation.load(std::memory_order_relaxed)};
  // Whoever lets go meanwhile finds one more holder, or finds no note.
  side->holders.fetch_add(1, std::memory_order_seq_cst);
  side->outside.fetch_add(1, std::memory_order_acq_rel);
  side->references.fetch_add(1, std::memory_order_acq_rel);
  const uid_t uid = EffectiveUser();
  const int32_t key = PassedKey(cookie);
  Handover note;
  note.cookie = cookie;
  note.taker = taker;
  note.fd = fd;
  note.shared = 1;
  note.left_ns = HandoverMoment();
  note.opening = static_cast<uint32_t>(side->opening.load(std::memory_order_relaxed));
  if (LeaveHandovers(GetConfig().runtime_dir, uid, key, &note, 1) != 0) return;
  side->cookie.store(cookie, std::memory_order_relaxed);
  side->handed_uid.store(uid, std::memory_order_relaxed);
  side->handed_ns.store(note.left_ns, std::memory_order_seq_cst);
  side->handed_pid.store(key, std::memory_order_seq_cst);
}

void Passing::Begin(int channel, const msghdr* message) {
  if (!MayCarry(message)) return;
  UnseenMayHandOn();
  const bool named = message->msg_name != nullptr && message->msg_namelen != 0;
  EachPassed(message, [=](int fd) {
    if (EpollSet* const set = FindEpollSet(fd)) return EpollSetLeaves(set);
    Side* const side = FindSide(fd);
    if (side != nullptr) side->kept.store(1, std::memory_order_relaxed);
    if (side == nullptr || named) return FallBackToTcp(fd, Reason::kPassed, TcpFor::kGood);
    Pass(channel, fd, side);
  });
}

void Passing::Undo() {
  for (; count_ > 0; --count_) {
    const Passed& last = passed_[count_ - 1];
    Side* const side = last.side;
    if (side->in_use.load(std::memory_order_acquire) == 0 ||
        side->generation.load(std::memory_order_relaxed) != last.generation)
      continue;  // closed meanwhile
    const int32_t key = side->handed_pid.exchange(0, std::memory_order_seq_cst);
    if (key < 0) VoidHandovers(GetConfig().runtime_dir, side->handed_uid.load(), key);
    side->references.fetch_sub(1, std::memory_order_acq_rel);
    side->outside.fetch_sub(1, std::memory_order_acq_rel);
    side->holders.fetch_sub(1, std::memory_order_seq_cst);
    side->next_attempt.store(0, std::memory_order_relaxed);
    uint32_t passed_on = kPassedOn;
    side->pinned.compare_exchange_strong(passed_on, 0, std::memory_order_acq_rel);
  }
}

bool Passing::IsLostWithoutBytes(int channel) const {
  return count_ != 0 && OptionOf(channel, SO_TYPE) == SOCK_STREAM;
}

void BeforePassing(const msghdr* message) {
  if (!MayCarry(message)) return;
  UnseenMayHandOn();
  EachPassed(message, [](int fd) {
    if (EpollSet* const set = FindEpollSet(fd)) return EpollSetLeaves(set);
    if (Side* const side = FindSide(fd)) side->kept.store(1, std::memory_order_relaxed);
    FallBackToTcp(fd, Reason::kPassed, TcpFor::kGood);
  });
}

namespace {

void Received(int channel, int fd, int flags) {
  if (!FdTable::IsEmpty(fd)) NumberIsNew(fd);
  if (!MayAskTheKernel() || OptionOf(fd, SO_PROTOCOL) != IPPROTO_TCP) return;
  const uint64_t cookie = CookieOf(fd);
  const uid_t uid = EffectiveUser();
  const int32_t key = PassedKey(cookie);
  const char* const directory = GetConfig().runtime_dir;
  FileId taker;
  Handover note;
  if ((flags & MSG_PEEK) != 0) {  // the message will bring it once more
    VoidHandovers(directory, uid, key);
  } else if (FileOf(channel, &taker) && FindPassed(directory, uid, cookie, taker, &note) &&
             SocketAdopted(fd, note, key, uid)) {
    if (note.shared == 0) VoidHandovers(directory, uid, key);  // taken: true once only
    return;
  }
  SocketReceived(fd);
}

}  // namespace

void AfterReceiving(int channel, const msghdr* message, int flags) {
  if (!process_state.ready || message->msg_control == nullptr ||
      message->msg_controllen < CMSG_LEN(sizeof(int)) || InBorrowedMemory())
    return;
  EachPassed(message, [=](int fd) { Received(channel, fd, flags); });
}

}  // namespace xenloop
