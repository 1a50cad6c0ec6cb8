// See config.h. Keys of the file are the environment's names in lower case without the prefix;
// `enabled` is XENLOOP.
#include "preload/settings/config.h"

#include <fcntl.h>
#include <string.h>

#include "channel/base/sys.h"
#include "channel/fifo.h"

namespace xenloop {
namespace {

Config current;

bool IsOn(const char* value) {
  return strcmp(value, "on") == 0 || strcmp(value, "1") == 0 || strcmp(value, "yes") == 0 ||
         strcmp(value, "true") == 0;
}
bool IsOff(const char* value) {
  return strcmp(value, "off") == 0 || strcmp(value, "0") == 0 || strcmp(value, "no") == 0 ||
         strcmp(value, "false") == 0;
}

bool ParseNumber(const char* text, uint64_t* number) {
  uint64_t value = 0;
  if (*text == '\0') return false;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || value > (1ull << 58)) return false;
    value = value * 10 + static_cast<uint64_t>(*text - '0');
  }
  *number = value;
  return true;
}

template <size_t N>
void CopyText(char (&to)[N], const char* from) {
  if (strlen(from) < N) strcpy(to, from);
}

// A value that does not parse leaves the default: a typing error must not break a program. `xenloop
// doctor` tells.
void Set(const char* key, const char* value, Config& config) {
  uint64_t number = 0;
  if (strcmp(key, "enabled") == 0) {
    if (IsOff(value)) config.enabled = false;
    if (IsOn(value)) config.enabled = true;
  } else if (strcmp(key, "offers") == 0) {
    config.accept_offers = strcmp(value, "refuse") != 0;
  } else if (strcmp(key, "test_points") == 0) {
    config.test_points = IsOn(value);
  } else if (strcmp(key, "other_users") == 0) {
    if (IsOff(value)) config.other_users = OtherUsers::kNone;
    if (IsOn(value)) config.other_users = OtherUsers::kAll;
    if (strcmp(value, "system") == 0) config.other_users = OtherUsers::kSystem;
  } else if (strcmp(key, "upgrade_after") == 0) {
    if (ParseNumber(value, &number)) config.upgrade_after = number;
  } else if (strcmp(key, "switch_every") == 0) {
    if (ParseNumber(value, &number)) config.switch_every = number;
  } else if (strcmp(key, "spin_us") == 0) {
    if (ParseNumber(value, &number) && number <= 1000000)
      config.spin_us = static_cast<uint32_t>(number);
  } else if (strcmp(key, "fifo_bytes") == 0 || strcmp(key, "xen_fifo_bytes") == 0) {
    if (ParseNumber(value, &number) && number >= kMinFifoBytes && number <= kMaxFifoBytes &&
        (number & (number - 1)) == 0) {
      (key[0] == 'x' ? config.xen_fifo_bytes : config.fifo_bytes) = number;
    }
  } else if (strcmp(key, "runtime_dir") == 0) {
    if (value[0] == '/' && strlen(value) < sizeof config.runtime_dir) {
      strcpy(config.runtime_dir, value);
      config.realm = true;
    }
  } else if (strcmp(key, "stats") == 0) {
    CopyText(config.stats_file, value);
  } else if (strcmp(key, "log") == 0) {
    CopyText(config.log_file, value);
  }
}

char* Trimmed(char* text) {
  while (*text == ' ' || *text == '\t') ++text;
  size_t length = strlen(text);
  while (length > 0 &&
         (text[length - 1] == ' ' || text[length - 1] == '\t' || text[length - 1] == '\r')) {
    text[--length] = '\0';
  }
  return text;
}

void LoadFile() {
  const long fd = sys::Call(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/etc/xenloop.conf"),
                            O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return;
  char text[kLongestConfigBytes + 1];
  const ssize_t n = sys::Read(static_cast<int>(fd), text, sizeof text);
  sys::Close(static_cast<int>(fd));
  if (n <= 0) return;
  // What is cut off may be a rule that forbids.
  if (n > static_cast<ssize_t>(kLongestConfigBytes)) current.rules.problem = "file is too long";
  text[n < static_cast<ssize_t>(sizeof text) ? n : n - 1] = '\0';
  ParseConfig(text, &current);
}

}  // namespace

const Config& GetConfig() { return current; }

void ParseConfig(char* text, Config* config) {
  char* line = text;
  while (line != nullptr && *line != '\0') {
    char* next = strchr(line, '\n');
    if (next != nullptr) *next++ = '\0';
    if (char* comment = strchr(line, '#')) *comment = '\0';
    if (char* equals = strchr(line, '=')) {
      *equals = '\0';
      const char* key = Trimmed(line);
      const char* value = Trimmed(equals + 1);
      if (IsRuleKey(key)) {
        AddRule(&config->rules, key, value);
      } else {
        Set(key, value, *config);
      }
    }
    line = next;
  }
}

void ParseEnvironment(char** environment, Config* config) {
  for (char** entry = environment; *entry != nullptr; ++entry) {
    if (strncmp(*entry, "XENLOOP", 7) != 0) continue;
    const char* rest = *entry + 7;
    if (rest[0] == '=') {
      Set("enabled", rest + 1, *config);
      continue;
    }
    const char* equals = strchr(rest, '=');
    if (rest[0] != '_' || equals == nullptr || equals - rest > 30) continue;
    char key[32];
    size_t length = 0;
    for (const char* c = rest + 1; c != equals; ++c) {
      key[length++] = *c >= 'A' && *c <= 'Z' ? static_cast<char>(*c + 32) : *c;
    }
    key[length] = '\0';
    Set(key, equals + 1, *config);
  }
}

Reason RuleAgainstThisProgram() {
  const Rules& rules = current.rules;
  if (rules.problem != nullptr) return Reason::kRuleNotUnderstood;
  if (rules.programs[0] == '\0' && rules.except_programs[0] == '\0') return Reason::kNone;
  char path[4096];
  const long n = sys::Call(SYS_readlinkat, AT_FDCWD, sys::Word("/proc/self/exe"), sys::Word(path),
                           sizeof path - 1);
  path[n < 0 ? 0 : n] = '\0';
  return RuleAgainstProgram(rules, path);
}

void LoadConfig(char** environment, bool secure) {
  LoadFile();
  if (!secure && environment != nullptr) ParseEnvironment(environment, &current);
}

}  // namespace xenloop
