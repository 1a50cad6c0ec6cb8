// See xenstore_client.h.
#include "discovery/daemon/xenstore/xenstore_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace xenloop {
namespace {

enum Type : uint32_t {
  kDirectory = 1,
  kRead = 2,
  kWatch = 4,
  kUnwatch = 5,
  kWrite = 11,
  kRemove = 13,
  kSetPermissions = 14,
  kWatchEvent = 15,
  kError = 16,
};

struct Header {
  uint32_t type;
  uint32_t request;
  uint32_t transaction;
  uint32_t length;
};
static_assert(sizeof(Header) == 16);

constexpr uint32_t kLongestPayload = 4096;
constexpr int kAnswerTimeoutMs = 5000;  // an answer takes milliseconds, under emulation tens

absl::Status StatusOf(const std::string& name, const std::string& what) {
  const std::string message = absl::StrCat(what, ": ", name);
  if (name == "ENOENT") return absl::NotFoundError(message);
  if (name == "EACCES" || name == "EPERM" || name == "EROFS") {
    return absl::PermissionDeniedError(message);
  }
  if (name == "ENOSPC" || name == "E2BIG" || name == "EDQUOT" || name == "EBUSY") {
    return absl::ResourceExhaustedError(message);
  }
  if (name == "EIO") return absl::UnavailableError(message);
  return absl::InternalError(message);
}

std::string Terminated(const std::string& text) { return text + '\0'; }

int ConnectTo(const char* path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

}  // namespace

struct XenStoreClient::Message {
  Header header = {};
  std::string payload;
};

absl::StatusOr<std::unique_ptr<XenStoreClient>> XenStoreClient::Open() {
  int fd = -1;
  for (const char* path : {"/run/xenstored/socket", "/var/run/xenstored/socket"}) {
    if (fd < 0) fd = ConnectTo(path);
  }
  for (const char* path : {"/dev/xen/xenbus", "/proc/xen/xenbus"}) {
    if (fd < 0) fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  }
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat(
        "no XenStore: neither xenstored's socket nor /dev/xen/xenbus (", strerror(errno), ")"));
  }
  return std::make_unique<XenStoreClient>(fd);
}

XenStoreClient::~XenStoreClient() { close(fd_); }

absl::Status XenStoreClient::Lost(const std::string& why) {
  lost_ = true;
  return absl::UnavailableError(absl::StrCat("XenStore: ", why));
}

absl::Status XenStoreClient::SendAll(const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = write(fd_, bytes.data() + done, bytes.size() - done);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      pollfd wait = {fd_, POLLOUT, 0};
      if (poll(&wait, 1, kAnswerTimeoutMs) == 0) return Lost("takes no requests");
    } else if (n == 0 || errno != EINTR) {
      return Lost(n == 0 ? "closed" : strerror(errno));
    }
  }
  return absl::OkStatus();
}

absl::Status XenStoreClient::Receive(int timeout_ms, Message* message, bool* got) {
  *got = false;
  for (;;) {
    if (received_.size() >= sizeof(Header)) {
      memcpy(&message->header, received_.data(), sizeof(Header));
      const uint32_t length = message->header.length;
      if (length > kLongestPayload) return Lost("sent an impossible length");
      if (received_.size() >= sizeof(Header) + length) {
        message->payload = received_.substr(sizeof(Header), length);
        received_.erase(0, sizeof(Header) + length);
        *got = true;
        return absl::OkStatus();
      }
    }
    char buffer[4096];
    const ssize_t n = read(fd_, buffer, sizeof buffer);
    if (n > 0) {
      received_.append(buffer, static_cast<size_t>(n));
    } else if (n < 0 && errno == EAGAIN) {
      pollfd wait = {fd_, POLLIN, 0};
      const int ready = timeout_ms == 0 ? 0 : poll(&wait, 1, timeout_ms);
      if (ready == 0) return absl::OkStatus();
    } else if (n == 0 || errno != EINTR) {
      return Lost(n == 0 ? "closed" : strerror(errno));
    }
  }
}

absl::StatusOr<std::string> XenStoreClient::Ask(uint32_t type, const std::string& payload) {
  if (lost_) return absl::UnavailableError("XenStore: the connection is gone");
  if (payload.size() > kLongestPayload)
    return absl::ResourceExhaustedError("too long for XenStore");
  const Header header = {type, ++last_request_, 0, static_cast<uint32_t>(payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  if (absl::Status sent = SendAll(bytes + payload); !sent.ok()) return sent;
  for (;;) {
    Message message;
    bool got = false;
    if (absl::Status status = Receive(kAnswerTimeoutMs, &message, &got); !status.ok())
      return status;
    if (!got) return Lost("does not answer");
    if (message.header.type == kWatchEvent) {
      ++events_;
      continue;
    }
    if (message.header.request != last_request_) continue;
    if (message.header.type == kError) {
      return StatusOf(message.payload.c_str(), payload.c_str());
    }
    return message.payload;
  }
}

absl::StatusOr<std::string> XenStoreClient::Read(const std::string& path) {
  return Ask(kRead, Terminated(path));
}

absl::StatusOr<std::vector<std::string>> XenStoreClient::List(const std::string& path) {
  absl::StatusOr<std::string> names = Ask(kDirectory, Terminated(path));
  if (!names.ok()) return names.status();
  return std::vector<std::string>(absl::StrSplit(*names, '\0', absl::SkipEmpty()));
}

absl::Status XenStoreClient::Write(const std::string& path, const std::string& value) {
  return Ask(kWrite, Terminated(path) + value).status();
}

absl::Status XenStoreClient::Remove(const std::string& path) {
  const absl::Status status = Ask(kRemove, Terminated(path)).status();
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status XenStoreClient::SetPermissions(const std::string& path,
                                            const std::vector<std::string>& permissions) {
  std::string payload = Terminated(path);
  for (const std::string& permission : permissions) payload += Terminated(permission);
  return Ask(kSetPermissions, payload).status();
}

absl::Status XenStoreClient::Watch(const std::string& path) {
  return Ask(kWatch, Terminated(path) + Terminated(path)).status();
}

absl::Status XenStoreClient::Unwatch(const std::string& path) {
  return Ask(kUnwatch, Terminated(path) + Terminated(path)).status();
}

absl::StatusOr<int> XenStoreClient::TakeEvents() {
  if (lost_) return absl::UnavailableError("XenStore: the connection is gone");
  for (;;) {
    Message message;
    bool got = false;
    if (absl::Status status = Receive(0, &message, &got); !status.ok()) return status;
    if (!got) break;
    if (message.header.type == kWatchEvent) ++events_;
  }
  const int events = events_;
  events_ = 0;
  return events;
}

}  // namespace xenloop
