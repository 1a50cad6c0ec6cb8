// See symbols.h. The list of objects is the debugger's: glibc and musl both keep it, under
// different names. Its entries and the tables that they lead to are the ELF specification's,
// besides the hash table, of which GNU's form has become the usual one.
#include "preload/libc/symbols.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

extern r_debug _r_debug __attribute__((weak));  // glibc; and musl:
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" r_debug* const _dl_debug_addr __attribute__((weak));

namespace xenloop {
namespace {

struct Object {
  ElfW(Addr) base = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* gnu_hash = nullptr;
  const uint32_t* hash = nullptr;
  const ElfW(Half) * versions = nullptr;
};

template <class T>
void Set(const T** table, const link_map* map, const ElfW(Dyn) * entry) {
  // glibc has added the base already where the entry can be written, musl never does.
  ElfW(Addr) address = entry->d_un.d_ptr;
  if (address < map->l_addr) address += map->l_addr;
  *table = reinterpret_cast<const T*>(address);
}

Object Read(const link_map* map) {
  Object object;
  object.base = map->l_addr;
  for (const ElfW(Dyn)* entry = map->l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    switch (entry->d_tag) {
      case DT_SYMTAB:
        Set(&object.symbols, map, entry);
        break;
      case DT_STRTAB:
        Set(&object.strings, map, entry);
        break;
      case DT_GNU_HASH:
        Set(&object.gnu_hash, map, entry);
        break;
      case DT_HASH:
        Set(&object.hash, map, entry);
        break;
      case DT_VERSYM:
        Set(&object.versions, map, entry);
        break;
      default:
        break;
    }
  }
  return object;
}

// Looks at one symbol after another. A version that is not the default counts only where it is the
// only one, as with ld.so.
class Search {
 public:
  Search(const Object& object, const char* name) : object_(object), name_(name) {}

  // True: it is found, look no further.
  bool Look(uint32_t index) {
    const ElfW(Sym)& symbol = object_.symbols[index];
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) == STB_LOCAL ||
        (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) ||
        strcmp(object_.strings + symbol.st_name, name_) != 0)
      return false;
    constexpr ElfW(Half) kNotTheDefault = 0x8000;
    void* const address = reinterpret_cast<void*>(object_.base + symbol.st_value);
    if (object_.versions == nullptr || (object_.versions[index] & kNotTheDefault) == 0) {
      found_ = address;
      return true;
    }
    other_ = address;
    ++others_;
    return false;
  }
  void* Found() const { return found_ != nullptr ? found_ : others_ == 1 ? other_ : nullptr; }

 private:
  const Object& object_;
  const char* const name_;
  void* found_ = nullptr;
  void* other_ = nullptr;
  int others_ = 0;
};

uint32_t GnuHash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

uint32_t SysvHash(const char* name) {
  uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    hash ^= (hash >> 24) & 0xf0;
  }
  return hash & 0x0fffffff;
}

// Header {buckets, first symbol in the table, words of the filter, shift}, filter, buckets, chains:
// a chain's words are the hashes, the lowest bit ends it.
void LookByGnuHash(const Object& object, const char* name, Search* search) {
  const uint32_t bucket_count = object.gnu_hash[0];
  const uint32_t first = object.gnu_hash[1];
  const auto* const filter = reinterpret_cast<const ElfW(Addr)*>(object.gnu_hash + 4);
  const auto* const buckets = reinterpret_cast<const uint32_t*>(filter + object.gnu_hash[2]);
  if (bucket_count == 0) return;
  const uint32_t hash = GnuHash(name);
  uint32_t index = buckets[hash % bucket_count];
  if (index < first) return;
  const uint32_t* const chain = buckets + bucket_count - first;  // by the symbol's index
  for (;; ++index) {
    if ((chain[index] | 1) == (hash | 1) && search->Look(index)) return;
    if ((chain[index] & 1) != 0) return;
  }
}

// {buckets, symbols}, buckets, chains of indices; 0 ends one.
void LookBySysvHash(const Object& object, const char* name, Search* search) {
  const uint32_t bucket_count = object.hash[0];
  if (bucket_count == 0) return;
  const uint32_t* const buckets = object.hash + 2;
  const uint32_t* const chain = buckets + bucket_count;
  for (uint32_t index = buckets[SysvHash(name) % bucket_count]; index != 0; index = chain[index]) {
    if (search->Look(index)) return;
  }
}

void* DefinitionIn(const link_map* map, const char* name) {
  const Object object = Read(map);
  if (object.symbols == nullptr || object.strings == nullptr) return nullptr;
  Search search(object, name);
  if (object.gnu_hash != nullptr) {
    LookByGnuHash(object, name, &search);
  } else if (object.hash != nullptr) {
    LookBySysvHash(object, name, &search);
  }
  return search.Found();
}

const link_map* FirstObject() {
  if (&_r_debug != nullptr) return _r_debug.r_map;
  return &_dl_debug_addr == nullptr ? nullptr : _dl_debug_addr->r_map;
}

}  // namespace

void* NextDefinition(const char* name) {
  const link_map* const first = FirstObject();
  const link_map* own = first;
  while (own != nullptr && own->l_ld != _DYNAMIC) own = own->l_next;
  if (own == nullptr) return nullptr;
  for (const link_map* map = own->l_next; map != nullptr; map = map->l_next) {
    if (void* const found = DefinitionIn(map, name)) return found;
  }
  // A library that was opened, not preloaded, stands behind libc.
  for (const link_map* map = first; map != own; map = map->l_next) {
    if (void* const found = DefinitionIn(map, name)) return found;
  }
  return nullptr;
}

}  // namespace xenloop
