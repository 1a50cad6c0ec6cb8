// XenStore's twin in memory: one store, a connection for each domain, with permissions, watches and
// quotas as the real one has them, as far as the daemon can tell.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop {

class FakeXenStore;

// What the fake has in common for all connections: the "hypervisor's host".
class FakeHost {
 public:
  struct Node {
    std::string value;
    uint32_t owner = 0;
    bool others_may_read = false;
    std::set<uint32_t> readers;
  };

  // As the toolstack does it.
  void CreateDomain(uint32_t domid, const std::vector<std::string>& macs) {
    const std::string home = absl::StrCat("/local/domain/", domid);
    Set(home, "", 0, {domid});
    Set(home + "/domid", absl::StrCat(domid), 0, {domid});
    Set(home + "/data", "", domid, {});
    for (size_t i = 0; i < macs.size(); ++i) {
      Set(absl::StrCat("/local/domain/0/backend/vif/", domid, "/", i, "/mac"), macs[i], 0, {domid});
      Set(absl::StrCat(home, "/device/vif/", i, "/mac"), macs[i], domid, {0});
    }
    Fire("@introduceDomain");
  }
  void DestroyDomain(uint32_t domid) {
    RemoveTree(absl::StrCat("/local/domain/", domid));
    RemoveTree(absl::StrCat("/local/domain/0/backend/vif/", domid));
    Fire("@releaseDomain");
  }
  void Set(const std::string& path, const std::string& value, uint32_t owner,
           std::set<uint32_t> readers) {
    // Directories on the way come into being with what their parent has.
    for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
      const std::string parent = path.substr(0, slash);
      if (nodes.count(parent) == 0) nodes[parent] = Node{"", owner, false, readers};
    }
    Node& node = nodes[path];
    node.value = value;
    node.owner = owner;
    node.readers = std::move(readers);
    Fire(path);
  }
  void RemoveTree(const std::string& path) {
    std::vector<std::string> gone;
    for (const auto& [name, node] : nodes) {
      if (name == path || name.rfind(path + "/", 0) == 0) gone.push_back(name);
    }
    for (const std::string& name : gone) nodes.erase(name);
    for (const std::string& name : gone) Fire(name);
  }
  std::string Value(const std::string& path) const {
    const auto node = nodes.find(path);
    return node == nodes.end() ? "(absent)" : node->second.value;
  }
  inline void Fire(const std::string& path);

  std::map<std::string, Node> nodes = {{"/local/domain", Node{}}};
  std::set<FakeXenStore*> connections;
  int writes = 0;
};

class FakeXenStore final : public XenStore {
 public:
  FakeXenStore(FakeHost* host, uint32_t domid) : host_(host), domid_(domid) {
    host_->connections.insert(this);
  }
  ~FakeXenStore() override {
    host_->connections.erase(this);
    close(event_);
  }

  absl::StatusOr<std::string> Read(const std::string& path) override {
    const FakeHost::Node* node = nullptr;
    if (absl::Status status = Find(Full(path), &node); !status.ok()) return status;
    return node->value;
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    const FakeHost::Node* node = nullptr;
    const std::string full = Full(path);
    if (absl::Status status = Find(full, &node); !status.ok()) return status;
    std::vector<std::string> names;
    for (const auto& [name, child] : host_->nodes) {
      const std::string prefix = full + "/";
      if (name.rfind(prefix, 0) == 0 && name.find('/', prefix.size()) == name.npos) {
        names.push_back(name.substr(prefix.size()));
      }
    }
    return names;
  }
  absl::Status Write(const std::string& path, const std::string& value) override {
    if (lost) return absl::UnavailableError("lost");
    const std::string full = Full(path);
    const uint32_t owner = OwnerAbove(full);
    if (domid_ != 0 && owner != domid_) return absl::PermissionDeniedError(full);
    if (domid_ != 0 && full_quota) return absl::ResourceExhaustedError(full);
    ++host_->writes;
    const auto node = host_->nodes.find(full);
    host_->Set(full, value, owner,
               node == host_->nodes.end() ? std::set<uint32_t>{} : node->second.readers);
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    if (lost) return absl::UnavailableError("lost");
    const std::string full = Full(path);
    if (domid_ != 0 && OwnerAbove(full) != domid_) return absl::PermissionDeniedError(full);
    ++host_->writes;
    host_->RemoveTree(full);
    return absl::OkStatus();
  }
  absl::Status SetPermissions(const std::string& path,
                              const std::vector<std::string>& permissions) override {
    if (lost) return absl::UnavailableError("lost");
    const auto node = host_->nodes.find(Full(path));
    if (node == host_->nodes.end()) return absl::NotFoundError(path);
    if (domid_ != 0 && node->second.owner != domid_) return absl::PermissionDeniedError(path);
    node->second.readers.clear();
    for (size_t i = 0; i < permissions.size(); ++i) {
      uint32_t domid = 0;
      if (!absl::SimpleAtoi(permissions[i].substr(1), &domid)) return absl::InternalError(path);
      if (i == 0) {
        node->second.owner = domid;
        node->second.others_may_read = permissions[i][0] == 'r';
      } else if (permissions[i][0] == 'r') {
        node->second.readers.insert(domid);
      }
    }
    return absl::OkStatus();
  }
  absl::Status Watch(const std::string& path) override {
    if (lost) return absl::UnavailableError("lost");
    if (domid_ != 0 && full_quota) return absl::ResourceExhaustedError(path);
    watches.insert(Full(path));
    Raise();
    return absl::OkStatus();
  }
  absl::Status Unwatch(const std::string& path) override {
    return watches.erase(Full(path)) != 0 ? absl::OkStatus() : absl::NotFoundError(path);
  }
  int descriptor() const override { return event_; }
  absl::StatusOr<int> TakeEvents() override {
    if (lost) return absl::UnavailableError("lost");
    eventfd_t count = 0;
    if (eventfd_read(event_, &count) != 0) return 0;
    return static_cast<int>(count);
  }

  void Raise() { eventfd_write(event_, 1); }
  void Lose() {
    lost = true;
    Raise();
  }

  bool lost = false;        // xenstored has gone away
  bool full_quota = false;  // nothing more is taken from this guest
  std::set<std::string> watches;

 private:
  std::string Full(const std::string& path) const {
    return path[0] == '/' || path[0] == '@' ? path
                                            : absl::StrCat("/local/domain/", domid_, "/", path);
  }
  absl::Status Find(const std::string& full, const FakeHost::Node** node) {
    if (lost) return absl::UnavailableError("lost");
    const auto found = host_->nodes.find(full);
    // As in the real one: who may not look at the directory is told nothing, not even "absent".
    if (found == host_->nodes.end()) {
      return domid_ == 0 || full.rfind(Full("x").substr(0, Full("x").size() - 1), 0) == 0
                 ? absl::NotFoundError(full)
                 : absl::PermissionDeniedError(full);
    }
    const FakeHost::Node& about = found->second;
    if (domid_ != 0 && about.owner != domid_ && !about.others_may_read &&
        about.readers.count(domid_) == 0) {
      return absl::PermissionDeniedError(full);
    }
    *node = &about;
    return absl::OkStatus();
  }
  uint32_t OwnerAbove(std::string path) const {
    for (; !path.empty(); path.erase(path.rfind('/'))) {
      const auto node = host_->nodes.find(path);
      if (node != host_->nodes.end()) return node->second.owner;
    }
    return 0;
  }

  FakeHost* host_;
  uint32_t domid_;
  int event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
};

void FakeHost::Fire(const std::string& path) {
  for (FakeXenStore* connection : connections) {
    for (const std::string& watch : connection->watches) {
      if (path == watch || path.rfind(watch + "/", 0) == 0) connection->Raise();
    }
  }
}

}  // namespace xenloop
