// The administrator's rules (/etc/xenloop.conf): which programs, users, addresses and ports are
// accelerated, and which are not. For the library (no allocation) and for `xenloop doctor`.
//
//   programs, except_programs    names of executables, or paths        nginx /usr/bin/redis-server
//   users, except_users          names, user ids, ranges of ids        www-data 1000-1999
//   addresses, except_addresses  IPv4 or IPv6, with or without /prefix 10.0.0.0/8 ::1
//   ports, except_ports          numbers and ranges, with or without   80 8000-8100 5000-5099/udp
//                                /tcp or /udp
//
// Words are separated by blanks or commas; a key may stand several times. A connection has two
// ends: an address or a port is meant if either end has it. Where nothing is named (of ports: for
// TCP, or for UDP), everything is meant; what an `except_` key names is never accelerated. A rule
// that cannot be understood forbids everything: it may have been meant to forbid.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "discovery/protocol/reasons.h"
#include "discovery/protocol/tuple.h"

namespace xenloop {

struct AddressRange {
  uint8_t address[16];  // IPv4 as ::ffff:a.b.c.d
  uint32_t prefix_bits;
  bool except;
};
enum class RuleProtocol : uint8_t { kTcp = 1, kUdp = 2 };
struct NumberRange {
  uint32_t first;
  uint32_t last;
  bool except;
  uint8_t protocols = 3;  // bits of RuleProtocol
};

struct Rules {
  const char* problem = nullptr;  // why nothing is accelerated; a literal
  char programs[1024] = "";       // the words, each with a blank behind it
  char except_programs[1024] = "";
  char users[512] = "";
  char except_users[512] = "";
  AddressRange addresses[32] = {};
  size_t address_count = 0;
  NumberRange ports[64] = {};
  size_t port_count = 0;
};

bool IsRuleKey(const char* key);
// Adds what a line says. Null, or what is wrong with it (a literal), which is then rules->problem.
const char* AddRule(Rules* rules, const char* key, const char* value);

// kNone: allowed. Else the rule that forbids it.
// `executable`: the path of the running file.
Reason RuleAgainstProgram(const Rules& rules, const char* executable);
// Names are looked up in `passwd` (a file like /etc/passwd); one that is not there is nobody.
Reason RuleAgainstUser(const Rules& rules, uid_t uid, const char* passwd = "/etc/passwd");
Reason RuleAgainstConnection(const Rules& rules, const Tuple& tuple,
                             RuleProtocol protocol = RuleProtocol::kTcp);

}  // namespace xenloop
