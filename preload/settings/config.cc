// See config.h; the keys are those of keys.def.
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

// What a text means for a field, by the kind that keys.def names. A value that does not parse
// leaves the field as it is: a typing error must not break a program. `xenloop doctor` tells.
struct Bounds {
  uint64_t least;
  uint64_t most;
};

void AssignOnOff(const char* value, Bounds, bool* field, Config*) {
  if (IsOff(value)) *field = false;
  if (IsOn(value)) *field = true;
}

void AssignOffers(const char* value, Bounds, bool* field, Config*) {
  *field = strcmp(value, "refuse") != 0;
}

void AssignOtherUsers(const char* value, Bounds, OtherUsers* field, Config*) {
  if (IsOff(value)) *field = OtherUsers::kNone;
  if (IsOn(value)) *field = OtherUsers::kAll;
  if (strcmp(value, "system") == 0) *field = OtherUsers::kSystem;
}

template <typename Number>
void AssignNumber(const char* value, Bounds bounds, Number* field, Config*) {
  uint64_t number = 0;
  if (ParseNumber(value, &number) && number >= bounds.least && number <= bounds.most)
    *field = static_cast<Number>(number);
}

void AssignPowerOfTwo(const char* value, Bounds bounds, uint64_t* field, Config* config) {
  uint64_t number = 0;
  AssignNumber(value, bounds, &number, config);
  if (number != 0 && (number & (number - 1)) == 0) *field = number;
}

template <size_t N>
void AssignFile(const char* value, Bounds bounds, char (*field)[N], Config*) {
  const size_t length = strlen(value);
  if (length <= bounds.most && length < N) memcpy(*field, value, length + 1);
}

template <size_t N>
void AssignRuntimeDirectory(const char* value, Bounds bounds, char (*field)[N], Config* config) {
  if (value[0] != '/' || strlen(value) > bounds.most) return;
  AssignFile(value, bounds, field, config);
  config->realm = true;
}

void Set(const char* key, const char* value, Config* config) {
#define KEY(name, kind, least, most, field) \
  if (strcmp(key, #name) == 0) return Assign##kind(value, {least, most}, &config->field, config);
#include "preload/settings/keys.def"
#undef KEY
}
// What keys.def says of sizes.
static_assert(kMinFifoBytes == 4096 && kMaxFifoBytes == 64ull << 20);
static_assert(sizeof(Config::runtime_dir) == 96 && sizeof(Config::stats_file) == 256 &&
              sizeof(Config::log_file) == 256);

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
        Set(key, value, config);
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
      Set("enabled", rest + 1, config);
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
    Set(key, equals + 1, config);
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
