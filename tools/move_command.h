// `xenloop quiesce`, `release`, and `migrate`, `save`, `suspend`, `restore`: in Dom0, before and
// after a guest moves. The guest's part and its peers' is xenloopd's
// (discovery/daemon/rendezvous/leaving.cc); they talk by the keys of
// discovery/daemon/xenstore/keys.h.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "discovery/daemon/xenstore/xenstore.h"

namespace xenloop::tools {

// By name or number.
absl::StatusOr<uint32_t> FindDomain(XenStore* store, const std::string& domain);

struct MoveLimits {
  std::chrono::milliseconds timeout{10000};
  bool force = false;  // who does not answer is named, and the guest stays prepared all the same
};

struct QuiesceOutcome {
  bool ready = false;  // or forced
  std::string text;    // for people; who has not answered
};
// Tells the guest to prepare, and waits. A guest that is not ready in time is released again.
QuiesceOutcome Quiesce(XenStore* store, uint32_t domid, const MoveLimits& limits);
absl::Status Release(XenStore* store, uint32_t domid);

// The domain among the arguments of `xl COMMAND`: its first operand. Empty: there is none.
std::string DomainAmong(const std::vector<std::string>& arguments);

// Exit status: xl's; 1 when the guest is not ready and xl was not called.
int RunMove(XenStore* store, const std::string& command, const std::vector<std::string>& arguments,
            const MoveLimits& limits);
// The same with the machine's XenStore; also "quiesce" and "release".
int RunMoveCommand(const std::string& command, const std::vector<std::string>& arguments,
                   const MoveLimits& limits);

}  // namespace xenloop::tools
