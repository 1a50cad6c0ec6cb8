// What the headers of real, crafted and broken executables say.

#include "tools/elf_file.h"

#include <elf.h>

#include <cstring>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "tools/environment.h"

namespace xenloop::tools {
namespace {

using namespace std::string_literals;  // whose length counts the zeroes inside

TEST(ElfFile, DynamicProgramOfThisMachine) {
  const auto elf = ReadElf(TEST_PROBE);
  ASSERT_TRUE(elf.ok()) << elf.status();
  EXPECT_TRUE(elf->is_64_bit);
  EXPECT_EQ(elf->machine, OwnMachine());
  EXPECT_FALSE(elf->IsStatic());
  EXPECT_TRUE(elf->UsesGlibc());
  EXPECT_FALSE(elf->written_in_go);
}

TEST(ElfFile, StaticGoAndMuslProgramsAreRecognised) {
  EXPECT_TRUE(ReadElf(TEST_STATIC_PROBE)->IsStatic());
  EXPECT_TRUE(ReadElf(TEST_GO_PROBE)->written_in_go);
  EXPECT_FALSE(ReadElf(TEST_MUSL_PROBE)->UsesGlibc());
}

TEST(ElfFile, AddressSanitizerIsSeenInTheNamesThatAreAskedFor) {
  EXPECT_FALSE(ReadElf(TEST_PROBE)->has_address_sanitizer);
  std::string image(sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Shdr), '\0');
  const std::string strings = "\0.dynstr\0libasan.so.8\0"s;
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_shoff = sizeof header;
  header.e_shnum = 2;
  header.e_shstrndx = 0;
  Elf64_Shdr sections[2] = {};
  for (Elf64_Shdr& section : sections) {
    section.sh_offset = image.size();
    section.sh_size = strings.size();
    section.sh_name = 1;
  }
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, sections, sizeof sections);
  const auto elf = ParseElf(image + strings);
  ASSERT_TRUE(elf.ok());
  EXPECT_TRUE(elf->has_address_sanitizer);
  EXPECT_FALSE(ParseElf(image + "\0.dynstr\0libc.so.6\0"s)->has_address_sanitizer);
}

TEST(ElfFile, ThirtyTwoBitProgram) {
  Elf32_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = EM_386;
  const auto elf = ParseElf({reinterpret_cast<const char*>(&header), sizeof(header)});
  ASSERT_TRUE(elf.ok());
  EXPECT_FALSE(elf->is_64_bit);
  EXPECT_EQ(elf->machine, EM_386);
}

TEST(ElfFile, OtherFilesAreErrors) {
  EXPECT_FALSE(ParseElf("").ok());
  EXPECT_FALSE(ParseElf("\x7f"
                        "ELF")
                   .ok());
  EXPECT_FALSE(ParseElf("#!/bin/sh\n                 ").ok());
  EXPECT_FALSE(ReadElf("/").ok());
  EXPECT_FALSE(ReadElf("/dev/null").ok());
  EXPECT_FALSE(ReadElf("/nonexistent").ok());
}

TEST(ElfFile, MutatedAndTruncatedFilesNeverBreakTheParser) {
  const auto original = ReadSmallFile(TEST_GO_PROBE, 64 << 20);
  ASSERT_TRUE(original.ok());
  std::mt19937 random(99);
  for (int round = 0; round < 300; ++round) {
    std::string image = *original;
    // The headers are at the beginning and at the end.
    for (int i = 0; i < 8; ++i) image[random() % 1024] = static_cast<char>(random());
    for (int i = 0; i < 8; ++i) {
      image[image.size() - 1 - random() % 2048] = static_cast<char>(random());
    }
    std::memcpy(image.data(), original->data(), 6);
    if (random() % 3 == 0) image.resize(random() % image.size());
    (void)ParseElf(image).ok();
  }
}

}  // namespace
}  // namespace xenloop::tools
