// XenStore through libxenstore, which is loaded when it is needed: so that the commands also start
// where it is not installed.
//
// What that library leaves to its user is met here. A request of its waits without end: each is
// made by a thread of ours (Talker), which is waited for at most `patience`. The descriptor that it
// gives out for polling stays silent when the connection is lost, but xs_check_watch knows by then,
// without a word to xenstored: descriptor() is readable every kHeartbeat, and then we ask. And it
// reports a lost connection in the words of a refused request (EINVAL, EBADF, E2BIG): whoever gets
// an error asks the same question.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

class XenStoreClient final : public XenStore {
 public:
  // By xenstored's socket or /dev/xen/xenbus, as libxenstore finds them ($XENSTORED_PATH).
  // kUnavailable also while a request of an earlier client has not been answered.
  static absl::StatusOr<std::unique_ptr<XenStoreClient>> Open(
      std::chrono::milliseconds patience = std::chrono::seconds(20));
  ~XenStoreClient() override;
  XenStoreClient(const XenStoreClient&) = delete;

  absl::StatusOr<std::string> Read(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::Status Write(const std::string& path, const std::string& value) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SetPermissions(const std::string& path,
                              const std::vector<std::string>& permissions) override;
  absl::Status Watch(const std::string& path) override;
  absl::Status Unwatch(const std::string& path) override;
  int descriptor() const override { return descriptor_; }
  absl::StatusOr<int> TakeEvents() override;

 private:
  class Talker;
  struct Answer;
  XenStoreClient();
  // Makes the request by the talker's thread.
  absl::StatusOr<std::string> Ask(const std::string& path, std::function<void(Answer*)> request);
  absl::StatusOr<std::string> StatusOf(int error, const std::string& path);
  // Takes what has come; false: the connection is gone.
  bool CountEvents();

  std::shared_ptr<Talker> talker_;
  int heartbeat_ = -1;
  int descriptor_ = -1;  // an epoll set of libxenstore's and of the heartbeat
  bool lost_ = false;
  int events_ = 0;
};

}  // namespace xenloop
