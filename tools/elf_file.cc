// Reads ELF headers; see elf_file.h. Whatever an offset says, a read past the end
// is short and ends the search.

#include "tools/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace xenloop::tools {
namespace {

constexpr size_t kLongestInterpreter = 4096;

// Reads up to `length` bytes of the file at `offset`, returns how many. With pread beneath it, not
// mmap: a file that shrinks meanwhile reads short and does not raise SIGBUS.
using Source = std::function<size_t(uint64_t offset, void* destination, size_t length)>;

// A copy of the T at `offset`, if the file has one there.
template <typename T>
std::optional<T> At(const Source& file, uint64_t offset) {
  T value;
  if (file(offset, &value, sizeof(T)) != sizeof(T)) return std::nullopt;
  return value;
}

// The text at `offset` up to a NUL, the end of the file or `longest` characters.
std::string TextFrom(const Source& file, uint64_t offset, uint64_t longest) {
  std::string text(longest, '\0');
  text.resize(file(offset, text.data(), text.size()));
  return text.substr(0, text.find('\0'));
}

// Does one of the texts stand in these bytes of the file?
bool Contains(const Source& file, uint64_t offset, uint64_t size,
              std::initializer_list<absl::string_view> texts) {
  constexpr size_t kPiece = 64 * 1024;
  constexpr size_t kLongestText = 16;  // pieces overlap by so much
  std::string piece(kPiece, '\0');
  for (uint64_t done = 0; done < size; done += kPiece - kLongestText) {
    const size_t got = file(offset + done, piece.data(), std::min<uint64_t>(kPiece, size - done));
    for (const absl::string_view text : texts) {
      if (absl::StrContains(absl::string_view(piece.data(), got), text)) return true;
    }
    if (got < kPiece) return false;
  }
  return false;
}

template <typename Header, typename Segment, typename Section>
void ParseClass(const Source& file, ElfFile* elf) {
  const std::optional<Header> header = At<Header>(file, 0);
  if (!header) return;
  elf->machine = header->e_machine;
  for (uint64_t i = 0; i < header->e_phnum; ++i) {
    const auto segment = At<Segment>(file, header->e_phoff + i * sizeof(Segment));
    if (!segment) break;
    if (segment->p_type != PT_INTERP) continue;
    const uint64_t longest = std::min<uint64_t>(segment->p_filesz, kLongestInterpreter);
    elf->interpreter = TextFrom(file, segment->p_offset, longest);
    break;
  }
  const auto section_at = [&](uint64_t index) {
    return At<Section>(file, header->e_shoff + index * sizeof(Section));
  };
  const auto names = section_at(header->e_shstrndx);
  if (header->e_shoff == 0 || !names) return;
  for (uint64_t i = 0; i < header->e_shnum; ++i) {
    const auto section = section_at(i);
    if (!section) break;
    const uint64_t name = uint64_t{names->sh_offset} + section->sh_name;
    const std::string title = TextFrom(file, name, 32);
    if (title == ".go.buildinfo") elf->written_in_go = true;
    // gcc names the runtime's library there, clang links it in and exports its start.
    if (title == ".dynstr") {
      elf->has_address_sanitizer =
          Contains(file, section->sh_offset, section->sh_size, {"libasan.so", "__asan_init"});
    }
  }
}

absl::StatusOr<ElfFile> ParseSource(const Source& file) {
  const auto ident = At<std::array<unsigned char, EI_NIDENT>>(file, 0);
  if (!ident || std::memcmp(ident->data(), ELFMAG, SELFMAG) != 0) {
    return absl::InvalidArgumentError("not an ELF file");
  }
  constexpr int kOwnByteOrder =
      __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
  if ((*ident)[EI_DATA] != kOwnByteOrder) {
    return absl::InvalidArgumentError("made for a machine of the other byte order");
  }
  ElfFile elf;
  elf.is_64_bit = (*ident)[EI_CLASS] == ELFCLASS64;
  if (elf.is_64_bit) {
    ParseClass<Elf64_Ehdr, Elf64_Phdr, Elf64_Shdr>(file, &elf);
  } else {
    ParseClass<Elf32_Ehdr, Elf32_Phdr, Elf32_Shdr>(file, &elf);
  }
  return elf;
}

}  // namespace

bool ElfFile::UsesGlibc() const {
  const size_t slash = interpreter.rfind('/');
  const std::string loader =
      slash == std::string::npos ? interpreter : interpreter.substr(slash + 1);
  // ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2; musl has ld-musl-*, Android linker64.
  return absl::StartsWith(loader, "ld-linux") || absl::StartsWith(loader, "ld64.so") ||
         absl::StartsWith(loader, "ld.so");
}

absl::StatusOr<ElfFile> ParseElf(absl::string_view image) {
  return ParseSource([image](uint64_t offset, void* destination, size_t length) -> size_t {
    if (offset >= image.size()) return 0;
    return image.copy(static_cast<char*>(destination), length, offset);
  });
}

absl::StatusOr<ElfFile> ReadElf(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  absl::StatusOr<ElfFile> elf =
      ParseSource([fd](uint64_t offset, void* destination, size_t length) -> size_t {
        const ssize_t got = pread(fd, destination, length, static_cast<off_t>(offset));
        return got < 0 ? 0 : static_cast<size_t>(got);
      });
  close(fd);
  if (!elf.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", elf.status().message()));
  }
  return elf;
}

uint16_t OwnMachine() {
  const absl::StatusOr<ElfFile> self = ReadElf("/proc/self/exe");
  return self.ok() ? self->machine : uint16_t{EM_NONE};
}

}  // namespace xenloop::tools
