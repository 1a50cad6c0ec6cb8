// See move_command.h.

#include "tools/move_command.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "discovery/daemon/xenstore/keys.h"
#include "discovery/daemon/xenstore/xenstore_client.h"
#include "tools/child_process.h"
#include "tools/environment.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr char kDomains[] = "/local/domain";
constexpr int kExitNoSuchDomain = 3;  // for hooks: not on this host

std::string KeyOf(uint32_t domid, const char* key) {
  return absl::StrCat(DomainPath(domid), "/", key);
}

void Say(std::FILE* where, const std::string& text) {
  std::fprintf(where, "xenloop: %s\n", text.c_str());
}

// Whoever has been told to let go because of that guest, and has not: its own processes and those
// of its peers. What guests write is shown as text and as no more.
std::string WhoIsLate(XenStore* store, uint32_t moving) {
  std::string late;
  const absl::StatusOr<std::vector<std::string>> domains = store->List(kDomains);
  if (!domains.ok()) return late;
  for (const std::string& name : *domains) {
    const std::optional<uint32_t> domid = ParseDomid(name);
    if (!domid) continue;
    const absl::StatusOr<std::string> waiting = store->Read(KeyOf(*domid, kWaitingKey));
    if (!waiting.ok()) continue;
    for (const absl::string_view entry : absl::StrSplit(*waiting, ", ")) {
      const std::pair<absl::string_view, absl::string_view> parts =
          absl::StrSplit(entry, absl::MaxSplits(' ', 1));
      if (*domid != moving && parts.first != absl::StrCat(moving)) continue;
      absl::StrAppend(&late, "  domain ", *domid, ": process ",
                      Printable(std::string(parts.second), 40), "\n");
    }
  }
  return late;
}

// True when the guest has said that it is ready under this token.
bool AwaitReady(XenStore* store, uint32_t domid, const std::string& token, Clock::time_point end) {
  for (;;) {
    const absl::StatusOr<std::string> ready = store->Read(KeyOf(domid, kReadyKey));
    if (ready.ok() && *ready == token) return true;
    if (absl::IsUnavailable(ready.status())) return false;
    const auto left = std::chrono::ceil<Milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{store->descriptor(), POLLIN, 0};
    poll(&wait, 1, static_cast<int>(std::min<int64_t>(left.count(), 200)));
    static_cast<void>(store->TakeEvents());
  }
}

}  // namespace

absl::StatusOr<uint32_t> FindDomain(XenStore* store, const std::string& domain) {
  const std::optional<uint32_t> number = ParseDomid(domain);
  const absl::StatusOr<std::vector<std::string>> names = store->List(kDomains);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    const std::optional<uint32_t> domid = ParseDomid(name);
    if (!domid || *domid == 0 || domain.empty()) continue;
    if (number ? *domid == *number : store->Read(KeyOf(*domid, "name")).value_or("") == domain)
      return *domid;
  }
  return absl::NotFoundError(absl::StrCat("there is no domain ", Printable(domain, 60)));
}

QuiesceOutcome Quiesce(XenStore* store, uint32_t domid, const MoveLimits& limits) {
  const Clock::time_point begin = Clock::now();
  const bool takes_part = store->Read(KeyOf(domid, kParticipationKey)).ok() ||
                          store->Read(KeyOf(domid, kPrepareKey)).ok();
  if (!takes_part) return {true, absl::StrCat("domain ", domid, " takes no part: it may move")};
  const std::string token = FormatMoveToken(DrawIncarnation() | 1);
  absl::Status status = store->Watch(KeyOf(domid, kReadyKey));
  if (status.ok()) status = store->Write(KeyOf(domid, kPrepareKey), token);
  if (!status.ok()) return {false, absl::StrCat("XenStore: ", status.message())};
  const bool ready = AwaitReady(store, domid, token, begin + limits.timeout);
  static_cast<void>(store->Unwatch(KeyOf(domid, kReadyKey)));
  const auto took = std::chrono::duration_cast<Milliseconds>(Clock::now() - begin).count();
  if (ready)
    return {true, absl::StrCat("domain ", domid, " is ready to move, after ", took, " ms")};
  std::string late = WhoIsLate(store, domid);
  if (late.empty()) {
    late = "  no process is late: is xenloopd well in that guest, in its peers and in Dom0?\n";
  }
  std::string text = absl::StrCat("domain ", domid, " is not ready after ", took,
                                  " ms; this has not answered:\n", late);
  if (limits.force) return {true, absl::StrCat(text, "  going on, as --force says")};
  static_cast<void>(Release(store, domid));
  return {false, absl::StrCat(text, "  it stays as it was (--force: move all the same)")};
}

absl::Status Release(XenStore* store, uint32_t domid) {
  return store->Remove(KeyOf(domid, kPrepareKey));
}

std::string DomainAmong(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].empty() || arguments[i][0] != '-') return arguments[i];
    if (arguments[i] == "-s" || arguments[i] == "-C") ++i;  // xl migrate's, with a value
  }
  return "";
}

int RunMove(XenStore* store, const std::string& command, const std::vector<std::string>& arguments,
            const MoveLimits& limits) {
  const absl::StatusOr<uint32_t> domid = FindDomain(store, DomainAmong(arguments));
  if (!domid.ok()) {
    Say(stderr, std::string(domid.status().message()));
    return absl::IsNotFound(domid.status()) ? kExitNoSuchDomain : 1;
  }
  if (command == "release") {
    const absl::Status status = Release(store, *domid);
    if (!status.ok()) Say(stderr, absl::StrCat("XenStore: ", status.message()));
    return status.ok() ? 0 : 1;
  }
  const QuiesceOutcome outcome = Quiesce(store, *domid, limits);
  Say(outcome.ready ? stdout : stderr, outcome.text);
  std::fflush(stdout);
  if (!outcome.ready || command == "quiesce") return outcome.ready ? 0 : 1;
  std::vector<std::string> program = {EnvironmentValue("XENLOOP_XL").value_or("xl"), command};
  program.insert(program.end(), arguments.begin(), arguments.end());
  const ChildEnd end = RunAndWait(program);
  if (end.execute_errno != 0)
    Say(stderr, absl::StrCat(program[0], ": ", strerror(end.execute_errno)));
  const bool failed = end.execute_errno != 0 || end.exit_status != 0;
  // A guest that has moved away took its domid along; one that is still here goes on as before.
  const bool here = FindDomain(store, absl::StrCat(*domid)).ok();
  if (here && command == "suspend" && !failed) {
    Say(stdout, absl::StrCat("after xl resume: xenloop release ", *domid));
  } else if (here) {
    static_cast<void>(Release(store, *domid));
  }
  return end.execute_errno != 0 ? 127 : end.exit_status;
}

int RunMoveCommand(const std::string& command, const std::vector<std::string>& arguments,
                   const MoveLimits& limits) {
  if (command ==
      "restore") {  // nothing to prepare: the guest's xenloopd notices that it has arrived
    std::vector<std::string> program = {EnvironmentValue("XENLOOP_XL").value_or("xl"), command};
    program.insert(program.end(), arguments.begin(), arguments.end());
    const int error = ExecuteProgram(program);
    Say(stderr, absl::StrCat(program[0], ": ", strerror(error)));
    return 127;
  }
  absl::StatusOr<std::unique_ptr<XenStoreClient>> store = XenStoreClient::Open();
  if (!store.ok()) {
    Say(stderr, absl::StrCat("no XenStore here (this is for Dom0): ", store.status().message()));
    return 1;
  }
  return RunMove(store->get(), command, arguments, limits);
}

}  // namespace xenloop::tools
