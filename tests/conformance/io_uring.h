// An io_uring as a program without a library for it would make one, entered by syscall().
#pragma once

#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <utility>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {

inline constexpr unsigned kEntries = 8;
inline constexpr uint32_t kNoArray = 1U << 16;  // IORING_SETUP_NO_SQARRAY, Linux 6.6

class Ring {
 public:
  explicit Ring(uint32_t flags = 0) {
    parameters_.flags = flags;
    fd_ = FileDescriptor(static_cast<int>(syscall(SYS_io_uring_setup, kEntries, &parameters_)));
    if (fd_.get() < 0) return;
    queue_ = Map(parameters_.sq_off.array + kEntries * sizeof(unsigned), IORING_OFF_SQ_RING);
    done_ = Map(parameters_.cq_off.cqes + parameters_.cq_entries * sizeof(io_uring_cqe),
                IORING_OFF_CQ_RING);
    entries_ = static_cast<io_uring_sqe*>(Map(kEntries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    for (unsigned i = 0; i < kEntries && (flags & kNoArray) == 0; ++i)
      At(queue_, parameters_.sq_off.array)[i] = i;
  }
  ~Ring() {
    for (const auto& [memory, length] : maps_) munmap(memory, length);
  }
  bool ok() const { return fd_.get() >= 0; }
  int fd() const { return fd_.get(); }

  // The next entry, which counts from now on; the caller fills it.
  io_uring_sqe* Prepare(uint8_t operation, int fd, uint64_t name = 0) {
    unsigned* const tail = At(queue_, parameters_.sq_off.tail);
    io_uring_sqe* const entry = &entries_[*tail & (kEntries - 1)];
    *entry = io_uring_sqe{};
    entry->opcode = operation;
    entry->fd = fd;
    entry->user_data = name;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    return entry;
  }
  void PrepareControl(int set, int operation, int fd, epoll_event* event, uint64_t name = 0) {
    io_uring_sqe* const entry = Prepare(IORING_OP_EPOLL_CTL, set, name);
    entry->off = static_cast<uint64_t>(fd);
    entry->len = static_cast<uint32_t>(operation);
    entry->addr = reinterpret_cast<uint64_t>(event);
  }
  Outcome Enter(unsigned submit, unsigned wait = 0) {
    return Call(syscall(SYS_io_uring_enter, fd_.get(), submit, wait,
                        wait != 0 ? IORING_ENTER_GETEVENTS : 0, nullptr, 0));
  }
  // The results by name that there are.
  std::map<uint64_t, int> Results() {
    std::map<uint64_t, int> results;
    unsigned* const head = At(done_, parameters_.cq_off.head);
    const auto* const all =
        reinterpret_cast<io_uring_cqe*>(static_cast<char*>(done_) + parameters_.cq_off.cqes);
    while (*head != __atomic_load_n(At(done_, parameters_.cq_off.tail), __ATOMIC_ACQUIRE)) {
      const io_uring_cqe& result = all[*head & *At(done_, parameters_.cq_off.ring_mask)];
      results[result.user_data] = result.res;
      __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    }
    return results;
  }
  // Submits what is prepared, one entry, and waits for its end.
  int Result() {
    if (Enter(1, 1).value != 1) return -EIO;
    const std::map<uint64_t, int> results = Results();
    return results.size() == 1 ? results.begin()->second : -EIO;
  }
  int Do(uint8_t operation, int fd, void* buffer, unsigned length, int flags = 0,
         uint8_t entry_flags = 0) {
    io_uring_sqe* const entry = Prepare(operation, fd);
    entry->addr = reinterpret_cast<uint64_t>(buffer);
    entry->len = length;
    entry->msg_flags = static_cast<uint32_t>(flags);
    entry->flags = entry_flags;
    return Result();
  }
  int Control(int set, int operation, int fd, uint32_t events, uint64_t data = 0) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    PrepareControl(set, operation, fd, &event);
    return Result();
  }

 private:
  void* Map(size_t length, off_t offset) {
    void* const memory =
        mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), offset);
    EXPECT_NE(memory, MAP_FAILED);
    maps_.push_back({memory, length});
    return memory;
  }
  static unsigned* At(void* base, unsigned offset) {
    return reinterpret_cast<unsigned*>(static_cast<char*>(base) + offset);
  }

  io_uring_params parameters_{};
  FileDescriptor fd_;
  void *queue_ = nullptr, *done_ = nullptr;
  io_uring_sqe* entries_ = nullptr;
  std::vector<std::pair<void*, size_t>> maps_;
};

}  // namespace conformance
