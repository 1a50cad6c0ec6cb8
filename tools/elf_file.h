// What an executable's headers say about whether a library can be preloaded into it. Reads the
// ELF headers, the interpreter's name and the section names; a total function over bytes.

#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace xenloop::tools {

struct ElfFile {
  bool is_64_bit = false;
  uint16_t machine = 0;     // EM_X86_64, ...
  std::string interpreter;  // PT_INTERP: the dynamic loader; empty for a static executable
  bool written_in_go = false;
  bool has_address_sanitizer = false;  // its runtime must be the first library of all

  bool IsStatic() const { return interpreter.empty(); }
  bool UsesGlibc() const;  // judged by the loader's name
};

// InvalidArgument if `image` is no ELF file of this machine's byte order.
absl::StatusOr<ElfFile> ParseElf(absl::string_view image);
absl::StatusOr<ElfFile> ReadElf(const std::string& path);

// The machine this tool was built for, to compare with.
uint16_t OwnMachine();

}  // namespace xenloop::tools
