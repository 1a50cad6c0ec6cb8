// What the steps of a script are (life_scripts.h).
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "tests/e2e/life_scripts.h"
#include "tests/e2e/loopback.h"

namespace {

constexpr int kMostSent = 1 << 16;

int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
void Tell(char* said, const char* what, long result) {
  if (result < 0) {
    snprintf(said, kMostSaid, "%s %s", what, strerrorname_np(errno));
  } else {
    snprintf(said, kMostSaid, "%s %ld", what, result);
  }
}
int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -errno;
}
long SetOption(int fd, int which, int value) {
  const linger lingers{value != 0, 0};
  const timeval time{value, 0};
  switch (which) {
    case 0:
      return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value);
    case 1:
      return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value);
    case 2:
      value += 60;
      return setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value);
    case 3:
      return setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers, sizeof lingers);
    case 4:
      return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    case 5:
      value = value != 0 ? 3 : 1;
      return setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
    default:
      return setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &value, sizeof value);
  }
}
long SendBy(int how, int fd, const char* bytes, size_t n) {
  const iovec parts[2] = {{const_cast<char*>(bytes), n / 2},
                          {const_cast<char*>(bytes) + n / 2, n - n / 2}};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = 2;
  switch (how) {
    case 0:
      return write(fd, bytes, n);
    case 1:
      return writev(fd, parts, 2);
    case 2:
      return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    default:
      return send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

}  // namespace

End::End(int port) : port_(port), set_(epoll_create1(EPOLL_CLOEXEC)) {
  for (int i = 0; i < kSlots; ++i) fds_[i] = copies_[i] = -1;
  if (port == 0) Listen();
}

void End::Listen() {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in at = Loopback(port_);
  socklen_t length = sizeof at;
  setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
      listen(listener_, 100) != 0)
    Die("listen");
  getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &length);
  port_ = ntohs(at.sin_port);
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = kSlots;
  epoll_ctl(set_, EPOLL_CTL_ADD, listener_, &event);
}

void End::Do(const Step& step, char* said) {
  if (step.settles != 0 && step.expected[0] == 0) usleep(1500);
  const int64_t end = NowMs() + 1500;
  memset(seen_, 0, sizeof seen_);
  do {
    Try(step, said);
    if (step.settles == 0 || step.expected[0] == 0 || strcmp(said, step.expected) == 0) return;
    usleep(200);
  } while (NowMs() < end);
}

void End::Try(const Step& step, char* said) {
  const int fd = Any(step.slot);
  const sockaddr_in to = Loopback(port_);
  char bytes[kMostSent];
  snprintf(said, kMostSaid, "nothing");
  switch (step.op) {
    case Op::kSocket:
      fds_[step.slot] = socket(AF_INET, SOCK_STREAM | step.value, 0);
      sent_[step.slot] = 0;
      return Tell(said, "socket", fds_[step.slot] < 0 ? -1 : 0);
    case Op::kConnect:
      return Tell(said, "connect", connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to));
    case Op::kAccept: {
      sockaddr_in name{};
      socklen_t length = sizeof name;
      const int accepted =
          accept4(listener_, reinterpret_cast<sockaddr*>(&name), &length, step.value);
      if (accepted < 0) return Tell(said, "accept", -1);
      fds_[step.slot] = accepted;
      sent_[step.slot] = 0;
      snprintf(said, kMostSaid, "accept from %s of %d", inet_ntoa(name.sin_addr),
               static_cast<int>(length));
      return;
    }
    case Op::kSend: {
      const size_t n = static_cast<size_t>(step.value);
      for (size_t i = 0; i < n; ++i)
        bytes[i] = static_cast<char>('a' + (sent_[step.slot] + i) % 23);
      const long sent = SendBy(step.how, fd, bytes, n);
      if (sent > 0) sent_[step.slot] += static_cast<uint32_t>(sent);
      return Tell(said, "send", sent);
    }
    case Op::kReceive: {
      const long n = recv(fd, bytes, static_cast<size_t>(step.value), step.how | MSG_DONTWAIT);
      Tell(said, "receive", n);
      uint32_t sum = 1;
      for (long i = 0; i < n && (step.how & MSG_TRUNC) == 0; ++i)
        sum = sum * 31 + static_cast<unsigned char>(bytes[i]);
      if (n > 0) snprintf(said + strlen(said), 16, " %x", sum);
      return;
    }
    case Op::kShutdown:
      return Tell(said, "shutdown", shutdown(fd, step.how));
    case Op::kClose: {
      int& number = NumberOf(step);
      const int closed = number;
      number = -1;
      return Tell(said, "close", close(closed));
    }
    case Op::kCopy:
      copies_[step.slot] = dup(fd);
      return Tell(said, "dup", copies_[step.slot] < 0 ? -1 : 0);
    case Op::kPoll: {
      pollfd entry{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
      const int n = poll(&entry, 1, 0);
      snprintf(said, kMostSaid, "poll %d %x", n, static_cast<unsigned>(entry.revents));
      return;
    }
    case Op::kError:
      snprintf(said, kMostSaid, "error %d", Option(fd, SOL_SOCKET, SO_ERROR));
      return;
    case Op::kState: {
      tcp_info info{};
      socklen_t length = sizeof info;
      if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return Tell(said, "state", -1);
      // Whether a FIN has been acknowledged yet is for the clock to say.
      const bool ending = info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2;
      return Tell(said, "state", ending ? int{TCP_FIN_WAIT2} : int{info.tcpi_state});
    }
    case Op::kUnread: {
      int unread = -1;
      const long result = ioctl(fd, FIONREAD, &unread);
      return Tell(said, "unread", result < 0 ? result : unread);
    }
    case Op::kSetOption:
      return Tell(said, "setsockopt", SetOption(fd, step.how, step.value));
    case Op::kOptions:
      snprintf(said, kMostSaid, "options %d %d %d %d %d %d %d flags %x %x",
               Option(fd, IPPROTO_TCP, TCP_NODELAY), Option(fd, SOL_SOCKET, SO_KEEPALIVE),
               Option(fd, IPPROTO_TCP, TCP_KEEPIDLE), Option(fd, SOL_SOCKET, SO_LINGER),
               Option(fd, SOL_SOCKET, SO_RCVTIMEO), Option(fd, SOL_SOCKET, SO_RCVLOWAT),
               Option(fd, SOL_SOCKET, SO_OOBINLINE), static_cast<unsigned>(fcntl(fd, F_GETFL)),
               static_cast<unsigned>(fcntl(fd, F_GETFD)));
      return;
    case Op::kNonblock: {
      int on = step.value;
      return Tell(
          said, "nonblock",
          step.how == 0 ? ioctl(fd, FIONBIO, &on) : fcntl(fd, F_SETFL, on != 0 ? O_NONBLOCK : 0));
    }
    case Op::kName: {
      sockaddr_in name{};
      socklen_t length = sizeof name;
      return Tell(said, "getpeername",
                  getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length));
    }
    case Op::kRegister: {
      epoll_event event{static_cast<uint32_t>(step.value), {}};
      event.data.u64 = static_cast<uint64_t>(step.slot);
      return Tell(said, "epoll_ctl", epoll_ctl(set_, step.how, fd, &event));
    }
    case Op::kEvents: {
      epoll_event events[8];
      const int n = epoll_wait(set_, events, 8, 0);
      snprintf(said, kMostSaid, "events");
      // Edges may come one by one.
      for (int i = 0; i < n; ++i) seen_[events[i].data.u64] |= events[i].events;
      // That the listener is readable may be told for nothing: a connection of the agents'.
      for (int of = 0; of < (step.how != 0 ? kSlots + 1 : kSlots); ++of) {
        if (seen_[of] != 0) snprintf(said + strlen(said), 24, " %d:%x", of, seen_[of]);
      }
      return;
    }
    case Op::kChild: {
      const pid_t child = fork();
      if (child == 0) {
        if (step.how == 1)
          _exit(send(fd, "child", 5, MSG_NOSIGNAL | MSG_DONTWAIT) == 5 ? 0 : errno);
        if (step.how == 2) close(fd);
        _exit(0);
      }
      int status = -1;
      waitpid(child, &status, 0);
      return Tell(said, "child", status);
    }
    case Op::kListener:
      if (step.how == kAgain) {
        close(listener_);
        Listen();
      } else if (step.how == kListenOnceMore) {
        return Tell(said, "listen", listen(listener_, 100));
      } else {
        fcntl(listener_, F_SETFL, step.how == kBlockingListener ? 0 : O_NONBLOCK);
      }
      return;
    case Op::kTidy:
      for (int i = 0; i < kSlots; ++i) {
        for (int* number : {&fds_[i], &copies_[i]}) {
          if (*number >= 0) close(*number);
          *number = -1;
        }
      }
      if (listener_ >= 0) {
        fcntl(listener_, F_SETFL, O_NONBLOCK);
        int extra;
        while ((extra = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0) close(extra);
      }
      return;
    case Op::kQuit:
      return;
  }
}
