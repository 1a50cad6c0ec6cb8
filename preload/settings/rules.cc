// See rules.h.
#include "preload/settings/rules.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr char kSeparators[] = " \t,";
constexpr uint32_t kHighestPort = 65535;
constexpr uint32_t kHighestId = 0xfffffffe;

// Calls `visit(word)` with each word of a list, until it returns something.
template <typename Visit>
const char* EachWord(const char* list, Visit visit) {
  while (*(list += strspn(list, kSeparators)) != '\0') {
    const size_t length = strcspn(list, kSeparators);
    char word[256];
    if (length >= sizeof word) return "a word is too long";
    memcpy(word, list, length);
    word[length] = '\0';
    if (const char* result = visit(word)) return result;
    list += length;
  }
  return nullptr;
}

// Decimal digits up to `end`.
bool Number(const char* begin, const char* end, uint32_t most, uint32_t* number) {
  uint64_t value = 0;
  if (begin == end) return false;
  for (; begin != end; ++begin) {
    if (*begin < '0' || *begin > '9') return false;
    value = value * 10 + static_cast<uint64_t>(*begin - '0');
    if (value > most) return false;
  }
  *number = static_cast<uint32_t>(value);
  return true;
}

bool Range(const char* word, uint32_t most, NumberRange* range) {
  const char* const end = word + strlen(word);
  const char* dash = strchr(word, '-');
  if (dash == nullptr) {
    if (!Number(word, end, most, &range->first)) return false;
    range->last = range->first;
    return true;
  }
  return Number(word, dash, most, &range->first) && Number(dash + 1, end, most, &range->last) &&
         range->first <= range->last;
}

bool Address(char* word, AddressRange* range) {
  char* slash = strchr(word, '/');
  if (slash != nullptr) *slash = '\0';
  uint32_t most = 128;
  uint32_t offset = 0;
  if (inet_pton(AF_INET, word, range->address + 12) == 1) {
    memset(range->address, 0, 10);
    range->address[10] = range->address[11] = 0xff;
    most = 32;
    offset = 96;
  } else if (inet_pton(AF_INET6, word, range->address) != 1) {
    return false;
  }
  uint32_t bits = most;
  if (slash != nullptr && !Number(slash + 1, slash + strlen(slash + 1) + 1, most, &bits))
    return false;
  range->prefix_bits = offset + bits;
  return true;
}

bool Contains(const AddressRange& range, const uint8_t (&address)[16]) {
  const uint32_t bytes = range.prefix_bits / 8;
  const uint32_t rest = range.prefix_bits % 8;
  if (memcmp(range.address, address, bytes) != 0) return false;
  return rest == 0 || ((range.address[bytes] ^ address[bytes]) >> (8 - rest)) == 0;
}

template <size_t N>
const char* Append(char (&list)[N], const char* words) {
  return EachWord(words, [&list](const char* word) -> const char* {
    const size_t there = strlen(list);
    const size_t more = strlen(word);
    if (there + more + 2 > N) return "the list is too long";
    memcpy(list + there, word, more);
    list[there + more] = ' ';
    list[there + more + 1] = '\0';
    return nullptr;
  });
}

bool IsUserWord(const char* word) {
  NumberRange range;
  return Range(word, kHighestId, &range) || ((word[0] < '0' || word[0] > '9') && word[0] != '-');
}

const char* AddUsers(Rules* rules, bool except, const char* value) {
  const char* wrong = EachWord(value, [](const char* word) -> const char* {
    return IsUserWord(word) ? nullptr : "not a user's name, id or range of ids";
  });
  if (wrong != nullptr) return wrong;
  return except ? Append(rules->except_users, value) : Append(rules->users, value);
}

const char* AddAddresses(Rules* rules, bool except, const char* value) {
  return EachWord(value, [=](char* word) -> const char* {
    constexpr size_t kMost = sizeof rules->addresses / sizeof rules->addresses[0];
    if (rules->address_count == kMost) return "too many addresses";
    AddressRange& range = rules->addresses[rules->address_count];
    range.except = except;
    if (!Address(word, &range)) return "not an IPv4 or IPv6 address, or address/prefix";
    ++rules->address_count;
    return nullptr;
  });
}

const char* AddPorts(Rules* rules, bool except, const char* value) {
  return EachWord(value, [=](char* word) -> const char* {
    constexpr size_t kMost = sizeof rules->ports / sizeof rules->ports[0];
    if (rules->port_count == kMost) return "too many ports";
    NumberRange& range = rules->ports[rules->port_count];
    range = NumberRange{0, 0, except};
    char* const slash = strchr(word, '/');
    if (slash != nullptr) {
      const bool udp = strcmp(slash, "/udp") == 0;
      if (!udp && strcmp(slash, "/tcp") != 0) return "not /tcp or /udp behind a port";
      range.protocols = static_cast<uint8_t>(udp ? RuleProtocol::kUdp : RuleProtocol::kTcp);
      *slash = '\0';
    }
    if (!Range(word, kHighestPort, &range)) return "not a port, or a range of ports";
    ++rules->port_count;
    return nullptr;
  });
}

bool NamesProgram(const char* list, const char* executable) {
  const char* slash = strrchr(executable, '/');
  const char* name = slash == nullptr ? executable : slash + 1;
  return EachWord(list, [=](const char* word) {
           return strcmp(word, strchr(word, '/') != nullptr ? executable : name) == 0 ? ""
                                                                                      : nullptr;
         }) != nullptr;
}

// The id of a user in a passwd file, read by pieces: a line is NAME:x:UID:... False: not there.
bool IdOf(const char* name, const char* passwd, uint32_t* id) {
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(passwd),
                                      O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  const size_t length = strlen(name);
  char text[4096];
  size_t held = 0;
  bool found = false;
  for (bool more = true; more && !found;) {
    const ssize_t got = sys::Read(static_cast<int>(fd), text + held, sizeof text - 1 - held);
    more = got > 0;
    if (more) held += static_cast<size_t>(got);
    text[held] = '\0';
    char* line = text;
    for (char* end; !found && (end = strchr(line, '\n')) != nullptr; line = end + 1) {
      *end = '\0';
      if (strncmp(line, name, length) != 0 || line[length] != ':') continue;
      const char* second = strchr(line + length + 1, ':');
      const char* third = second == nullptr ? nullptr : strchr(second + 1, ':');
      found = third != nullptr && Number(second + 1, third, kHighestId, id);
    }
    if (line == text && held == sizeof text - 1) held = 0;  // a line that is no line
    held -= held == 0 ? 0 : static_cast<size_t>(line - text);
    memmove(text, line, held);
  }
  sys::Close(static_cast<int>(fd));
  return found;
}

bool NamesUser(const char* list, uid_t uid, const char* passwd) {
  return EachWord(list, [=](const char* word) {
           NumberRange range{};
           if (!Range(word, kHighestId, &range)) {
             if (!IdOf(word, passwd, &range.first)) return static_cast<const char*>(nullptr);
             range.last = range.first;
           }
           return uid >= range.first && uid <= range.last ? "" : nullptr;
         }) != nullptr;
}

// Whether the ranges that are `concerned` allow what `meets` is true for: none that excepts it, and
// one that names it if any names something.
template <typename RangeType, typename Meets, typename Concerned>
bool Allowed(const RangeType* ranges, size_t count, Meets meets, Concerned concerned) {
  bool named = false;
  bool any_names = false;
  for (size_t i = 0; i < count; ++i) {
    if (!concerned(ranges[i])) continue;
    const bool met = meets(ranges[i]);
    if (met && ranges[i].except) return false;
    any_names = any_names || !ranges[i].except;
    named = named || (met && !ranges[i].except);
  }
  return named || !any_names;
}

}  // namespace

bool IsRuleKey(const char* key) {
  if (strncmp(key, "except_", 7) == 0) key += 7;
  for (const char* known : {"programs", "users", "addresses", "ports"})
    if (strcmp(key, known) == 0) return true;
  return false;
}

const char* AddRule(Rules* rules, const char* key, const char* value) {
  const bool except = strncmp(key, "except_", 7) == 0;
  const char* kind = except ? key + 7 : key;
  const char* problem = nullptr;
  if (*(value + strspn(value, kSeparators)) == '\0') {
    problem = "names nothing";
  } else if (strcmp(kind, "programs") == 0) {
    problem = except ? Append(rules->except_programs, value) : Append(rules->programs, value);
  } else if (strcmp(kind, "users") == 0) {
    problem = AddUsers(rules, except, value);
  } else if (strcmp(kind, "addresses") == 0) {
    problem = AddAddresses(rules, except, value);
  } else {
    problem = AddPorts(rules, except, value);
  }
  if (problem != nullptr) rules->problem = problem;
  return problem;
}

Reason RuleAgainstProgram(const Rules& rules, const char* executable) {
  if (NamesProgram(rules.except_programs, executable)) return Reason::kProgramExcepted;
  if (rules.programs[0] != '\0' && !NamesProgram(rules.programs, executable))
    return Reason::kProgramNotNamed;
  return Reason::kNone;
}

Reason RuleAgainstUser(const Rules& rules, uid_t uid, const char* passwd) {
  if (NamesUser(rules.except_users, uid, passwd)) return Reason::kUserExcepted;
  if (rules.users[0] != '\0' && !NamesUser(rules.users, uid, passwd)) return Reason::kUserNotNamed;
  return Reason::kNone;
}

Reason RuleAgainstConnection(const Rules& rules, const Tuple& tuple, RuleProtocol protocol) {
  if (!Allowed(
          rules.addresses, rules.address_count,
          [&tuple](const AddressRange& range) {
            return Contains(range, tuple.local.address) || Contains(range, tuple.peer.address);
          },
          [](const AddressRange&) { return true; })) {
    return Reason::kAddressExcluded;
  }
  if (!Allowed(
          rules.ports, rules.port_count,
          [&tuple](const NumberRange& range) {
            const auto in = [&range](uint32_t port) {
              return port >= range.first && port <= range.last;
            };
            return in(tuple.local.port) || in(tuple.peer.port);
          },
          [protocol](const NumberRange& range) {
            return (range.protocols & static_cast<uint8_t>(protocol)) != 0;
          })) {
    return Reason::kPortExcluded;
  }
  return Reason::kNone;
}

}  // namespace xenloop
