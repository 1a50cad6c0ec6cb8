// The administrator's rules: what they name and what they except, with garbage that must forbid
// rather than allow.
#include "preload/settings/rules.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

Rules Of(std::initializer_list<std::pair<const char*, const char*>> lines) {
  Rules rules;
  for (const auto& [key, value] : lines) AddRule(&rules, key, value);
  return rules;
}

Endpoint End(const char* address, uint16_t port) {
  Endpoint end;
  in_addr v4;
  if (inet_pton(AF_INET, address, &v4) == 1) {
    end.address[10] = end.address[11] = 0xff;
    memcpy(end.address + 12, &v4, 4);
  } else {
    EXPECT_EQ(inet_pton(AF_INET6, address, end.address), 1) << address;
  }
  end.port = port;
  return end;
}
Tuple Between(const char* local, uint16_t local_port, const char* peer, uint16_t peer_port) {
  return Tuple{End(local, local_port), End(peer, peer_port)};
}

TEST(RulesTest, WithoutRulesEverythingIsAllowed) {
  const Rules rules;
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/bin/redis-server"), Reason::kNone);
  EXPECT_EQ(RuleAgainstUser(rules, 1000), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("10.0.0.1", 80, "10.0.0.2", 40000)),
            Reason::kNone);
}

TEST(RulesTest, ProgramsByNameAndByPath) {
  const Rules rules = Of({{"programs", "nginx, /usr/bin/redis-server"},
                          {"programs", "python3.11"},
                          {"except_programs", "/opt/old/nginx"}});
  EXPECT_EQ(rules.problem, nullptr);
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/sbin/nginx"), Reason::kNone);
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/bin/redis-server"), Reason::kNone);
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/bin/python3.11"), Reason::kNone);
  EXPECT_EQ(RuleAgainstProgram(rules, "/opt/old/nginx"), Reason::kProgramExcepted);
  EXPECT_EQ(RuleAgainstProgram(rules, "/opt/bin/redis-server"), Reason::kProgramNotNamed);
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/sbin/nginx2"), Reason::kProgramNotNamed);
  EXPECT_NE(RuleAgainstProgram(rules, ""), Reason::kNone);
}

TEST(RulesTest, ExceptedProgramsOnly) {
  const Rules rules = Of({{"except_programs", "sshd"}});
  EXPECT_NE(RuleAgainstProgram(rules, "/usr/sbin/sshd"), Reason::kNone);
  EXPECT_EQ(RuleAgainstProgram(rules, "/usr/sbin/nginx"), Reason::kNone);
}

TEST(RulesTest, UsersByIdRangeAndName) {
  char name[] = "/tmp/xenloop-passwd-XXXXXX";
  close(mkstemp(name));
  // A line longer than the reader's piece, a comment, and one without a line end.
  std::ofstream(name) << "root:x:0:0:root:/root:/bin/sh\n"
                      << "junk:x:notanumber:1::/:\n"
                      << std::string(9000, 'x') << "\n"
                      << "www-data:x:33:33::/var/www:/bin/sh\n"
                      << "last:x:77:77::/:";
  const Rules rules = Of({{"users", "1000-1999 7 www-data last"}, {"except_users", "1500"}});
  EXPECT_EQ(rules.problem, nullptr);
  EXPECT_EQ(RuleAgainstUser(rules, 1000, name), Reason::kNone);
  EXPECT_EQ(RuleAgainstUser(rules, 1999, name), Reason::kNone);
  EXPECT_EQ(RuleAgainstUser(rules, 7, name), Reason::kNone);
  EXPECT_EQ(RuleAgainstUser(rules, 33, name), Reason::kNone);
  EXPECT_EQ(RuleAgainstUser(rules, 1500, name), Reason::kUserExcepted);
  EXPECT_EQ(RuleAgainstUser(rules, 0, name), Reason::kUserNotNamed);
  EXPECT_NE(RuleAgainstUser(rules, 33, "/nonexistent"), Reason::kNone);
  EXPECT_NE(RuleAgainstUser(Of({{"except_users", "root"}}), 0, name), Reason::kNone);
  EXPECT_NE(RuleAgainstUser(Of({{"users", "junk"}}), 0, name), Reason::kNone);
  unlink(name);
}

TEST(RulesTest, AddressesOfEitherEnd) {
  const Rules rules = Of({{"addresses", "10.0.0.0/8,192.168.7.9"},
                          {"addresses", "fd00::/9"},
                          {"except_addresses", "10.1.2.3"}});
  EXPECT_EQ(rules.problem, nullptr);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("10.9.9.9", 1, "8.8.8.8", 2)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("8.8.8.8", 1, "192.168.7.9", 2)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("::1", 1, "fd7f::1", 2)), Reason::kNone);
  EXPECT_NE(RuleAgainstConnection(rules, Between("::1", 1, "fd80::1", 2)), Reason::kNone);
  EXPECT_NE(RuleAgainstConnection(rules, Between("8.8.8.8", 1, "192.168.7.8", 2)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("10.1.2.3", 1, "10.9.9.9", 2)),
            Reason::kAddressExcluded);
}

TEST(RulesTest, AnIpv4RangeIsNotAnIpv6Range) {
  const Rules everything_v4 = Of({{"addresses", "0.0.0.0/0"}});
  EXPECT_EQ(RuleAgainstConnection(everything_v4, Between("1.2.3.4", 1, "5.6.7.8", 2)),
            Reason::kNone);
  EXPECT_NE(RuleAgainstConnection(everything_v4, Between("::1", 1, "::2", 2)), Reason::kNone);
  const Rules everything = Of({{"addresses", "::/0"}});
  EXPECT_EQ(RuleAgainstConnection(everything, Between("::1", 1, "::2", 2)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(everything, Between("1.2.3.4", 1, "5.6.7.8", 2)), Reason::kNone);
}

TEST(RulesTest, PortsOfEitherEnd) {
  const Rules rules = Of({{"ports", "80 8000-8100"}, {"except_ports", "8080"}});
  EXPECT_EQ(rules.problem, nullptr);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("::1", 80, "::1", 40000)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("::1", 40000, "::1", 8100)), Reason::kNone);
  EXPECT_NE(RuleAgainstConnection(rules, Between("::1", 40000, "::1", 8101)), Reason::kNone);
  EXPECT_EQ(RuleAgainstConnection(rules, Between("::1", 8080, "::1", 80)), Reason::kPortExcluded);
}

TEST(RulesTest, PortsOfOneProtocol) {
  const Rules rules = Of({{"ports", "80 5000-5099/udp 443/tcp"}, {"except_ports", "5050/udp"}});
  EXPECT_EQ(rules.problem, nullptr);
  const auto verdict = [](const Rules& of, uint16_t port, RuleProtocol protocol) {
    return RuleAgainstConnection(of, Between("::1", port, "::1", 40000), protocol);
  };
  EXPECT_EQ(verdict(rules, 80, RuleProtocol::kTcp), Reason::kNone);
  EXPECT_EQ(verdict(rules, 80, RuleProtocol::kUdp), Reason::kNone);
  EXPECT_EQ(verdict(rules, 443, RuleProtocol::kTcp), Reason::kNone);
  EXPECT_EQ(verdict(rules, 443, RuleProtocol::kUdp), Reason::kPortExcluded);
  EXPECT_EQ(verdict(rules, 5000, RuleProtocol::kTcp), Reason::kPortExcluded);
  EXPECT_EQ(verdict(rules, 5000, RuleProtocol::kUdp), Reason::kNone);
  EXPECT_EQ(verdict(rules, 5050, RuleProtocol::kUdp), Reason::kPortExcluded);
  // What is named for the one says nothing about the other.
  const Rules of_udp = Of({{"ports", "53/udp"}});
  EXPECT_EQ(verdict(of_udp, 80, RuleProtocol::kTcp), Reason::kNone);
  EXPECT_EQ(verdict(of_udp, 80, RuleProtocol::kUdp), Reason::kPortExcluded);
}

TEST(RulesTest, WhatCannotBeUnderstoodIsAProblem) {
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, const char*>>{{"addresses", "10.0.0.0/33"},
                                                                  {"addresses", "10.0.0"},
                                                                  {"addresses", "::1/129"},
                                                                  {"addresses", "localhost"},
                                                                  {"addresses", "10.0.0.1/"},
                                                                  {"addresses", "10.0.0.1/x"},
                                                                  {"ports", "65536"},
                                                                  {"ports", "http"},
                                                                  {"ports", "90-80"},
                                                                  {"ports", "53/sctp"},
                                                                  {"ports", "53/"},
                                                                  {"ports", "/udp"},
                                                                  {"ports", "-5"},
                                                                  {"ports", "5-"},
                                                                  {"except_ports", "1-2-3"},
                                                                  {"users", "-5"},
                                                                  {"users", "12x"},
                                                                  {"users", ""},
                                                                  {"programs", " , "},
                                                                  {"except_programs", ""}}) {
    Rules rules;
    EXPECT_NE(AddRule(&rules, key, value), nullptr) << key << " = " << value;
    EXPECT_NE(rules.problem, nullptr);
  }
}

TEST(RulesTest, TooManyOrTooLongIsAProblem) {
  Rules rules;
  for (int i = 0; i < 32; ++i) EXPECT_EQ(AddRule(&rules, "addresses", "::1"), nullptr);
  EXPECT_NE(AddRule(&rules, "addresses", "::1"), nullptr);
  Rules ports;
  for (int i = 0; i < 64; ++i) EXPECT_EQ(AddRule(&ports, "ports", "80"), nullptr);
  EXPECT_NE(AddRule(&ports, "ports", "80"), nullptr);
  Rules programs;
  EXPECT_NE(AddRule(&programs, "programs", std::string(300, 'x').c_str()), nullptr);
  Rules many;
  const char* problem = nullptr;
  for (int i = 0; i < 100 && problem == nullptr; ++i)
    problem = AddRule(&many, "programs", "some-program-name");
  EXPECT_STREQ(problem, "the list is too long");
}

TEST(RulesTest, Keys) {
  for (const char* key : {"programs", "except_programs", "users", "except_users", "addresses",
                          "except_addresses", "ports", "except_ports"})
    EXPECT_TRUE(IsRuleKey(key)) << key;
  for (const char* key : {"", "except_", "program", "portsx", "enabled", "except_enabled"})
    EXPECT_FALSE(IsRuleKey(key)) << key;
}

}  // namespace
}  // namespace xenloop
