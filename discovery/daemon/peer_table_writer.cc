// See peer_table_writer.h.
#include "discovery/daemon/peer_table_writer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace xenloop {
namespace {

// Release: no such store becomes visible before the odd sequence; pairs with the reader's kContent.
constexpr std::memory_order kContent = std::memory_order_release;

}  // namespace

int PeerTableWriter::Open(const std::string& path) {
  Close();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (fd < 0) return -errno;
  struct stat about = {};
  int error = 0;
  const bool seen = fstat(fd, &about) == 0;
  if (seen && (!S_ISREG(about.st_mode) || about.st_uid != geteuid())) {
    error = -EPERM;
  } else if (!seen || fchmod(fd, 0644) != 0 ||                        // whatever the umask
             (about.st_size < static_cast<off_t>(kPeerTableBytes) &&  // it never shrinks
              ftruncate(fd, static_cast<off_t>(kPeerTableBytes)) != 0)) {
    error = -errno;
  }
  void* memory = MAP_FAILED;
  if (error == 0) {
    memory = mmap(nullptr, kPeerTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) error = -errno;
  }
  close(fd);
  if (error != 0) return error;

  header_ = static_cast<PeerTableHeader*>(memory);
  const bool known = header_->magic.load(std::memory_order_acquire) == kPeerTableMagic &&
                     header_->version.load(std::memory_order_relaxed) == kPeerTableVersion;
  uint64_t sequence = known ? header_->sequence.load(std::memory_order_relaxed) : 0;
  sequence |= 1;  // a former daemon may have died half-way
  header_->sequence.store(sequence, std::memory_order_relaxed);
  header_->capacity.store(kPeerTableCapacity, std::memory_order_relaxed);
  header_->count.store(0, kContent);
  header_->own_domid.store(kNoDomid, std::memory_order_relaxed);
  header_->version.store(kPeerTableVersion, std::memory_order_relaxed);
  header_->sequence.store(sequence + 1, std::memory_order_release);
  // Release: pairs with the acquire in PeerTable::Open.
  header_->magic.store(kPeerTableMagic, std::memory_order_release);
  // Generations of the former daemon are never used again: each Replace() took one sequence at
  // least.
  last_generation_ = static_cast<uint32_t>(sequence);
  return 0;
}

void PeerTableWriter::Close() {
  if (header_ == nullptr) return;
  Replace({});
  munmap(header_, kPeerTableBytes);
  header_ = nullptr;
  generations_.clear();
}

bool PeerTableWriter::Replace(const PeerMap& peers) {
  if (header_ == nullptr || peers == current_) return false;
  // One generation for all that this change brings.
  const uint32_t generation = ++last_generation_;
  std::map<Address, uint32_t> generations;
  for (const auto& [address, name] : peers) {
    const auto former = current_.find(address);
    const bool same = former != current_.end() && former->second == name;
    generations[address] = same ? generations_[address] : generation;
  }
  current_ = peers;
  generations_ = std::move(generations);

  const uint64_t sequence = header_->sequence.load(std::memory_order_relaxed);
  header_->sequence.store(sequence + 1, std::memory_order_relaxed);
  uint32_t count = 0;
  for (const auto& [address, name] : current_) {
    if (count == kPeerTableCapacity) break;
    PeerTableEntry& entry = header_->entries()[count++];
    uint64_t words[2];
    memcpy(words, address.data(), 16);
    entry.address[0].store(words[0], kContent);
    entry.address[1].store(words[1], kContent);
    entry.domid.store(name.domid, kContent);
    entry.generation.store(generations_[address], kContent);
  }
  header_->count.store(count, kContent);
  // Release: pairs with the acquire in PeerTable::Find.
  header_->sequence.store(sequence + 2, std::memory_order_release);
  return true;
}

void PeerTableWriter::SetOwnDomid(uint32_t domid) {
  if (header_ != nullptr) header_->own_domid.store(domid, std::memory_order_relaxed);
}

std::string FormatAddress(const Address& address) {
  static constexpr char kMapped[] = "::ffff:";
  char printed[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, address.data(), printed, sizeof printed);
  const bool v4 = strncmp(printed, kMapped, sizeof kMapped - 1) == 0 && strchr(printed, '.');
  return v4 ? printed + sizeof kMapped - 1 : printed;
}

std::string PeerTableWriter::ToString() const {
  std::string text;
  for (const auto& [address, name] : current_) {
    if (!text.empty()) text += ' ';
    text += FormatAddress(address) + "=" + std::to_string(name.domid);
  }
  return text.empty() ? "none" : text;
}

}  // namespace xenloop
