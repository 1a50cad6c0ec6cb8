// A shadow socket that says what a test tells it to say.
#pragma once

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <string>

#include "channel/stream.h"

namespace xenloop {

struct ScriptedShadow {
  std::string sent;      // what TCP has been given
  std::string arriving;  // what TCP holds for the reader
  size_t room = 1 << 20;
  ssize_t send_error = 0;
  bool ended = false;
  bool fin_is_doubtful = false;  // reset: the kernel's count may hold a FIN
  bool ours = true;
  bool reset = false;
  int pushes = 0;
  int64_t written_before = 0;  // by this connection, before the test
  int64_t read_so_far = 0;
  int64_t told_before_bytes = -1;  // BeforeTcp came when TCP had been given so many
  int rings = 0;
  std::function<void()> in_try_send;  // runs when TCP has taken the bytes

  bool StillOurs() const { return ours; }
  ssize_t TrySend(const iovec* iov, size_t count) {
    if (send_error != 0) return send_error;
    size_t total = 0;
    for (size_t i = 0; i < count && room > 0; ++i) {
      const size_t n = std::min(room, iov[i].iov_len);
      sent.append(static_cast<const char*>(iov[i].iov_base), n);
      room -= n;
      total += n;
    }
    if (in_try_send) in_try_send();
    return total > 0 ? static_cast<ssize_t>(total) : -EAGAIN;
  }
  ssize_t TryReceive(const iovec* iov, size_t count, int flags) {
    if (arriving.empty()) return ended ? 0 : -EAGAIN;
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t n = std::min(arriving.size() - total, iov[i].iov_len);
      if (iov[i].iov_base != nullptr) memcpy(iov[i].iov_base, arriving.data() + total, n);
      total += n;
    }
    if ((flags & MSG_PEEK) == 0) {
      arriving.erase(0, total);
      read_so_far += static_cast<int64_t>(total);
    }
    return static_cast<ssize_t>(total);
  }
  int64_t Written() const { return written_before + static_cast<int64_t>(sent.size()); }
  int64_t Read() const { return read_so_far; }
  int64_t ReceivedAtLeast() const {
    return read_so_far + static_cast<int64_t>(arriving.size()) - (fin_is_doubtful ? 1 : 0);
  }
  int64_t ReceivedAtMost() const { return read_so_far + static_cast<int64_t>(arriving.size()); }
  bool Ended() const { return ended && arriving.empty(); }
  bool Readable() const { return ended || !arriving.empty(); }
  void BeforeTcp() { told_before_bytes = static_cast<int64_t>(sent.size()); }
  void PushTcp() { ++pushes; }
  void Reset() { reset = true; }
  void Ring(bool, uint32_t) { ++rings; }
  void RingAll(bool, uint32_t) { ++rings; }
};

}  // namespace xenloop
