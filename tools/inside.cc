// Reads a process's bulletin and its sockets; see inside.h.

#include "tools/inside.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tools/environment.h"
#include "tools/library_path.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestFileBytes = 64u << 20;
constexpr uint64_t kMostWritableBytes = 4u << 20;
constexpr size_t kMostSockets = 65536;
constexpr char kNotAllowed[] = "not known: its memory may not be read (run as root)";

// The memory of another process. Reads are bounded, and a failure is an answer.
class Memory {
 public:
  explicit Memory(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Memory() {
    if (fd_ >= 0) close(fd_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  bool Read(uint64_t address, void* to, size_t length) const {
    return fd_ >= 0 &&
           pread(fd_, to, length, static_cast<off_t>(address)) == static_cast<ssize_t>(length);
  }

 private:
  const int fd_;
};

// The bulletin as it lies in memory, without its atomics.
struct Copy {
  char bytes[sizeof(Bulletin)];
  template <class Field>
  Field At(size_t offset) const {
    Field field;
    std::memcpy(&field, bytes + offset, sizeof field);
    return field;
  }
};
#define FIELD(copy, type, name) (copy).At<type>(offsetof(Bulletin, name))

std::optional<Copy> FindBulletin(const Memory& memory, const std::vector<Range>& ranges) {
  for (const Range& range : ranges) {
    if (range.end - range.first > kMostWritableBytes) continue;
    std::string bytes(range.end - range.first, '\0');
    if (!memory.Read(range.first, bytes.data(), bytes.size())) continue;
    for (size_t at = 0; at + sizeof(Copy) <= bytes.size(); at += alignof(Bulletin)) {
      if (std::memcmp(bytes.data() + at, kBulletinMagic, sizeof kBulletinMagic) != 0) continue;
      Copy copy;
      std::memcpy(copy.bytes, bytes.data() + at, sizeof copy);
      if (FIELD(copy, uint32_t, reason_count) == kReasonCount) return copy;
    }
  }
  return std::nullopt;
}

Reason ReasonAt(const Memory& memory, uint64_t address) {
  uint8_t number = 0;
  if (address == 0 || !memory.Read(address, &number, 1) || number >= kReasonCount)
    return Reason::kNone;
  return static_cast<Reason>(number);
}

Reason ReasonIn(const Copy& copy, size_t offset) {
  const auto number = copy.At<uint8_t>(offset);
  return number < kReasonCount ? static_cast<Reason>(number) : Reason::kNone;
}

// As the library's ReasonOf: what keeps the whole program on TCP comes before "not hot yet".
Reason WhyOnTcp(const Memory& memory, const Copy& copy, uint64_t fd) {
  const Reason program = ReasonIn(copy, offsetof(Bulletin, program));
  uint64_t word = 0;
  if (fd < FIELD(copy, uint32_t, table_size))
    memory.Read(FIELD(copy, uint64_t, table) + fd * sizeof word, &word, sizeof word);
  const uint64_t mask = FIELD(copy, uint16_t, tag_mask);
  Reason own = Reason::kUnseen;
  if ((word & mask) == FIELD(copy, uint16_t, side_tag)) {
    own = ReasonAt(memory, (word & ~mask) + FIELD(copy, uint32_t, reason_at));
  } else if (program == Reason::kNone) {
    const Reason unfollowed = ReasonIn(copy, offsetof(Bulletin, unfollowed));
    return unfollowed != Reason::kNone ? unfollowed : own;
  }
  if (own != Reason::kNotHotYet && own != Reason::kUnseen) return own;
  if (program != Reason::kNone) return program;
  const Reason agent = ReasonAt(memory, FIELD(copy, uint64_t, agent));
  return agent != Reason::kNone ? agent : own;
}

// "0100007F:1F90" as the kernel writes it: words of four bytes in the machine's order.
std::string AddressOf(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  uint32_t port = 0;
  if (parts.size() != 2 || !absl::SimpleHexAtoi(parts[1], &port)) return "?";
  uint8_t bytes[16] = {};
  const size_t words = parts[0].size() / 8;
  if (words != 1 && words != 4) return "?";
  for (size_t i = 0; i < words; ++i) {
    uint32_t word = 0;
    if (!absl::SimpleHexAtoi(parts[0].substr(i * 8, 8), &word)) return "?";
    std::memcpy(bytes + i * 4, &word, sizeof word);
  }
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool mapped = words == 4 && std::memcmp(bytes, kMapped, sizeof kMapped) == 0;
  if (words == 1 || mapped) {
    const uint8_t* a = bytes + (mapped ? 12 : 0);
    return absl::StrCat(a[0], ".", a[1], ".", a[2], ".", a[3], ":", port);
  }
  std::string address = "[";
  for (int i = 0; i < 16; i += 2)
    absl::StrAppendFormat(&address, "%s%x", i > 0 ? ":" : "", (bytes[i] << 8) | bytes[i + 1]);
  return absl::StrCat(address, "]:", port);
}

std::string LinkTarget(const fs::path& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

std::string MapsOf(const std::string& directory) {
  const absl::StatusOr<std::string> maps = ReadSmallFile(directory + "/maps", kLongestFileBytes);
  return maps.ok() ? *maps : "";
}

}  // namespace

std::vector<Range> WritableRangesOfLibrary(absl::string_view maps) {
  std::vector<Range> ranges;
  for (const absl::string_view line : absl::StrSplit(maps, '\n')) {
    const size_t slash = line.find('/');
    if (slash == absl::string_view::npos) continue;
    absl::string_view file = line.substr(slash);
    absl::ConsumeSuffix(&file, " (deleted)");
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (!NamesLibrary(file) || words.size() < 2 || words[1].substr(0, 2) != "rw") continue;
    const std::vector<absl::string_view> ends = absl::StrSplit(words[0], '-');
    Range range{};
    if (ends.size() == 2 && absl::SimpleHexAtoi(ends[0], &range.first) &&
        absl::SimpleHexAtoi(ends[1], &range.end) && range.first < range.end)
      ranges.push_back(range);
  }
  return ranges;
}

std::vector<Connection> ConnectionsInTable(absl::string_view table) {
  constexpr absl::string_view kEstablished = "01";
  constexpr absl::string_view kCloseWait = "08";
  std::vector<Connection> connections;
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 10 || (words[3] != kEstablished && words[3] != kCloseWait)) continue;
    Connection connection;
    if (!absl::SimpleAtoi(words[9], &connection.inode) || connection.inode == 0) continue;
    connection.local = AddressOf(words[1]);
    connection.peer = AddressOf(words[2]);
    connections.push_back(std::move(connection));
  }
  return connections;
}

std::optional<std::vector<StreamReport>> StreamsInside(const std::string& proc, pid_t pid,
                                                       const std::vector<StreamReport>& told) {
  const std::string directory = absl::StrCat(proc, "/", pid);
  const std::vector<Range> ranges = WritableRangesOfLibrary(MapsOf(directory));
  if (ranges.empty()) return std::nullopt;
  std::map<std::string, Connection> connections;  // by what a descriptor's link says
  for (const char* table : {"/net/tcp", "/net/tcp6"}) {
    const absl::StatusOr<std::string> text = ReadSmallFile(directory + table, kLongestFileBytes);
    if (!text.ok()) continue;
    for (Connection& connection : ConnectionsInTable(*text))
      connections[absl::StrCat("socket:[", connection.inode, "]")] = std::move(connection);
  }
  std::set<uint64_t> known;
  for (const StreamReport& stream : told) known.insert(stream.fd);
  const absl::StatusOr<std::string> name = ReadSmallFile(directory + "/comm", 64);

  const Memory memory(directory + "/mem");
  const std::optional<Copy> bulletin = FindBulletin(memory, ranges);
  std::vector<StreamReport> streams;
  std::error_code error;
  for (fs::directory_iterator entry(directory + "/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    StreamReport stream;
    if (!absl::SimpleAtoi(entry->path().filename().string(), &stream.fd)) continue;
    const std::string link = LinkTarget(entry->path());
    const auto found = connections.find(link);
    if (found == connections.end()) continue;
    if (known.count(stream.fd) != 0) continue;
    stream.pid = static_cast<uint64_t>(pid);
    stream.program = name.ok() ? Printable(absl::StripSuffix(*name, "\n"), 32) : "?";
    stream.local = found->second.local;
    stream.peer = found->second.peer;
    stream.route_send = stream.route_receive = "tcp";
    stream.reason = bulletin ? ReasonText(WhyOnTcp(memory, *bulletin, stream.fd)) : kNotAllowed;
    streams.push_back(std::move(stream));
    if (streams.size() >= kMostSockets) break;
  }
  // The socket that an agent tells of, and the lowest of several numbers.
  std::sort(streams.begin(), streams.end(),
            [](const StreamReport& a, const StreamReport& b) { return a.fd < b.fd; });
  std::set<std::string> names;
  for (const StreamReport& stream : told)
    names.insert(absl::StrCat(stream.local, " ", stream.peer));
  streams.erase(
      std::remove_if(streams.begin(), streams.end(),
                     [&names](const StreamReport& stream) {
                       return !names.insert(absl::StrCat(stream.local, " ", stream.peer)).second;
                     }),
      streams.end());
  return streams;
}

std::vector<pid_t> ProcessesWithLibrary(const std::string& proc) {
  std::vector<pid_t> pids;
  const std::string own = LinkTarget(proc + "/self/ns/net");
  std::error_code error;
  for (fs::directory_iterator entry(proc, error), end; !error && entry != end;
       entry.increment(error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry->path().filename().string(), &pid)) continue;
    if (LinkTarget(entry->path() / "ns/net") != own) continue;
    if (!WritableRangesOfLibrary(MapsOf(entry->path().string())).empty()) pids.push_back(pid);
  }
  return pids;
}

}  // namespace xenloop::tools
