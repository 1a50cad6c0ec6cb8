// What the administrator and the user have decided: /etc/xenloop.conf first, then the environment
// (which a setuid program ignores). Read once, before the first socket.
#pragma once

#include <cstddef>
#include <cstdint>

#include "preload/settings/rules.h"

namespace xenloop {

inline constexpr size_t kLongestConfigBytes = 16383;  // of the file

// With whose programs memory is shared, beside the user's own and root's. See SECURITY.md.
enum class OtherUsers : uint8_t { kNone, kSystem, kAll };
inline constexpr uint32_t kFirstHumanUid = 1000;  // UID_MIN of login.defs: below are services

struct Config {
  bool enabled = true;
  bool accept_offers = true;
  bool udp = false;   // datagrams, too
  bool park = false;  // connections that both ends have closed, for the next connect()
  bool test_points = false;
  OtherUsers other_users = OtherUsers::kSystem;
  uint64_t upgrade_after = 16;
  uint64_t switch_every = 0;
  uint32_t spin_us = 50;
  uint64_t fifo_bytes = 256 * 1024;
  uint64_t xen_fifo_bytes = 1024 * 1024;  // a doorbell between guests costs more
  char runtime_dir[96] = "/dev/shm";
  bool realm = false;  // runtime_dir was given: several network namespaces share it
  char stats_file[256] = "";
  char log_file[256] = "";
  Rules rules;  // of the file only: the environment cannot widen them
};

const Config& GetConfig();
// Why this program is not to be accelerated by the rules, or kNone.
Reason RuleAgainstThisProgram();
// Reads file and environment; no allocation, no output. `secure`: ignore the environment.
void LoadConfig(char** environment, bool secure);

// Its two halves: the file's text, which is cut up, and the environment. What is wrong is left out.
void ParseConfig(char* text, Config* config);
void ParseEnvironment(char** environment, Config* config);

}  // namespace xenloop
