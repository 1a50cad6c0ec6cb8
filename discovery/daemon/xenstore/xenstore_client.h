// XenStore's wire protocol over the guest's device or, in Dom0, xenstored's socket. Written here
// instead of using libxenstore because that needs a thread for watches and does not tell a waiting
// program that the connection is gone.
//
//   message   {u32 type, u32 request, u32 transaction, u32 length} payload
//   A request is answered by a message of its own type, or type 16 (the name of an errno); events,
//   type 15, come between.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

class XenStoreClient final : public XenStore {
 public:
  // The first of these that answers: xenstored's socket, /dev/xen/xenbus, /proc/xen/xenbus.
  static absl::StatusOr<std::unique_ptr<XenStoreClient>> Open();
  explicit XenStoreClient(int fd) : fd_(fd) {}  // takes the descriptor over
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
  int descriptor() const override { return fd_; }
  absl::StatusOr<int> TakeEvents() override;

 private:
  struct Message;
  absl::StatusOr<std::string> Ask(uint32_t type, const std::string& payload);
  absl::Status SendAll(const std::string& bytes);
  // The next whole message; `timeout_ms` 0: only if it is there. *got false: none came in time.
  absl::Status Receive(int timeout_ms, Message* message, bool* got);
  absl::Status Lost(const std::string& why);

  int fd_;
  bool lost_ = false;
  uint32_t last_request_ = 0;
  int events_ = 0;
  std::string received_;
};

}  // namespace xenloop
