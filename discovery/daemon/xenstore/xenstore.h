// XenStore as the daemon needs it. Two implementations: xenstore_client.h (the real one) and the
// tests' twin in memory (tests/unit/discovery/fake_xenstore.h).
//
// Errors: kNotFound; kPermissionDenied; kResourceExhausted (a guest's quota); kUnavailable (the
// connection is gone: open another one, watch again, read again); anything else is kInternal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace xenloop {

class XenStore {
 public:
  virtual ~XenStore() = default;

  // A path that does not begin with "/" is relative to the caller's own /local/domain/DOMID.
  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::Status Write(const std::string& path, const std::string& value) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;  // with all below; absent is fine
  // "n0 r3" and the like: the first names the owner and everybody else's right, then exceptions.
  virtual absl::Status SetPermissions(const std::string& path,
                                      const std::vector<std::string>& permissions) = 0;

  // An event follows at once, and then one for each change at or below the path.
  virtual absl::Status Watch(const std::string& path) = 0;
  virtual absl::Status Unwatch(const std::string& path) = 0;
  // Readable when events may be waiting, or the connection is gone.
  virtual int descriptor() const = 0;
  // Takes all events that have come: how many; their contents say nothing that a reading of the
  // store does not say better.
  virtual absl::StatusOr<int> TakeEvents() = 0;
};

}  // namespace xenloop
