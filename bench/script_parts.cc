// Samples of real programs, numbers in their JSON, ports for their servers; see script_parts.h.
#include "bench/script_parts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/machine.h"
#include "bench/sample.h"

namespace xenloop::bench {
namespace {

// FILE CASE CARRIER VALUE [STATS]; a VALUE that is no number is the reason why there is none.
absl::StatusOr<std::string> AddSample(const std::vector<std::string>& arguments) {
  Sample sample;
  sample.case_id = arguments[1];
  sample.carrier = arguments[2];
  if (!absl::SimpleAtod(arguments[3], &sample.value)) sample.problem = arguments[3];
  if (arguments.size() == 5) sample.routes = SumStats(arguments[4]);
  const absl::Status added = AppendSample(arguments[0], sample);
  if (!added.ok()) return added;
  return "";
}

// FILE POINTER, as in "/end/sum_received/bits_per_second".
absl::StatusOr<std::string> ReadNumber(const std::vector<std::string>& arguments) {
  std::ifstream file(arguments[0]);
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  const nlohmann::json::json_pointer pointer(arguments[1]);
  if (json.is_discarded() || !json.contains(pointer) || !json[pointer].is_number()) {
    return absl::NotFoundError(absl::StrCat("no ", arguments[1], " in ", arguments[0]));
  }
  return absl::StrFormat("%.6f\n", json[pointer].get<double>());
}

absl::StatusOr<std::string> FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  const absl::Cleanup close_fd = [fd] { close(fd); };
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return absl::ErrnoToStatus(errno, "no free port");
  }
  return absl::StrCat(ntohs(address.sin_port), "\n");
}

}  // namespace

absl::StatusOr<std::string> RunScriptPart(const std::string& command,
                                          const std::vector<std::string>& arguments) {
  const size_t count = arguments.size();
  if (command == "sample" && (count == 4 || count == 5)) return AddSample(arguments);
  if (command == "number" && count == 2) return ReadNumber(arguments);
  if (command == "port" && count == 0) return FreePort();
  if (command == "cores" && count == 0) return absl::StrCat(absl::StrJoin(TwoCores(), " "), "\n");
  return absl::InvalidArgumentError(absl::StrCat("cannot do \"", command, "\"; see --help"));
}

}  // namespace xenloop::bench
