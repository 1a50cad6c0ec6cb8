// See submissions.h.
#include "preload/socket/submissions.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>

#include "channel/base/sys.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/epoll.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/self.h"
#include "preload/socket/passing.h"
#include "preload/socket/socket.h"

namespace xenloop {

// Our own mapping of what the program shares with the kernel. Constant while `users` is not 0.
struct alignas(64) SubmissionQueue {  // aligned: the descriptor table keeps a tag in the low bits
  std::atomic<uint32_t> users;        // descriptors, and threads that look; 0: a free place
  uint32_t mask;
  size_t stride;
  char* indices;
  size_t indices_length;
  char* entries;
  size_t entries_length;
  uint32_t head_at, tail_at;
  uint32_t array_at;  // 0: there is none, entry follows entry
};

namespace {

// Newer than the headers of some build machines.
constexpr uint32_t kNoArray = 1 << 16;  // IORING_SETUP_NO_SQARRAY
// The others change nothing about the place and the form of an entry, nor who takes it and when.
constexpr uint32_t kUnderstood = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ |
                                 IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL |
                                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                 IORING_SETUP_SQE128 | IORING_SETUP_CQE32 |
                                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | kNoArray;

constexpr size_t kMostQueues = 256;
SubmissionQueue queues[kMostQueues];

uint32_t Load(const char* at) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(at), __ATOMIC_ACQUIRE);
}

// Each byte once: what the program changes meanwhile is not seen any more.
io_uring_sqe Copy(const char* place) {
  union {
    uint64_t words[8];
    io_uring_sqe entry;
  } copy;
  static_assert(sizeof copy.words == sizeof copy.entry);
  for (size_t i = 0; i < 8; ++i)
    copy.words[i] = __atomic_load_n(reinterpret_cast<const uint64_t*>(place) + i, __ATOMIC_RELAXED);
  return copy.entry;
}

char* Map(int fd, size_t length, int protection, uint64_t offset) {
  const long memory = sys::Call(SYS_mmap, 0, static_cast<long>(length), protection, MAP_SHARED, fd,
                                static_cast<long>(offset));
  return memory < 0 && memory > -4096 ? nullptr : reinterpret_cast<char*>(memory);
}

void Unmap(char* memory, size_t length) {
  // In a sandbox it stays: to give it back would be a call of ours.
  if (memory != nullptr && process_state.ready)
    sys::Call(SYS_munmap, sys::Word(memory), static_cast<long>(length));
}

SubmissionQueue* FreePlace() {
  for (SubmissionQueue& queue : queues) {
    uint32_t free = 0;
    if (queue.users.compare_exchange_strong(free, 1, std::memory_order_acq_rel)) return &queue;
  }
  return nullptr;
}

void LetGo(SubmissionQueue* queue) {
  // Before the count falls: whoever takes the free place next writes them.
  char* const indices = queue->indices;
  char* const entries = queue->entries;
  const size_t indices_length = queue->indices_length;
  const size_t entries_length = queue->entries_length;
  if (queue->users.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  Unmap(indices, indices_length);
  Unmap(entries, entries_length);
}

// A look at the queue behind `fd`: it stays mapped meanwhile, whoever closes it.
class Look {
 public:
  explicit Look(int fd) : queue_(FdTable::FindSubmissions(fd)) {
    if (queue_ == nullptr) return;
    uint32_t users = queue_->users.load(std::memory_order_acquire);
    while (users != 0 &&
           !queue_->users.compare_exchange_weak(users, users + 1, std::memory_order_acq_rel)) {
    }
    if (users == 0) {
      queue_ = nullptr;
    } else if (FdTable::FindSubmissions(fd) != queue_) {  // closed, and the place used again
      LetGo(queue_);
      queue_ = nullptr;
    }
  }
  ~Look() {
    if (queue_ != nullptr) LetGo(queue_);
  }
  Look(const Look&) = delete;
  Look& operator=(const Look&) = delete;
  const SubmissionQueue* operator->() const { return queue_; }
  explicit operator bool() const { return queue_ != nullptr; }

 private:
  SubmissionQueue* queue_;
};

// ---- what an entry means ----

enum class Then : uint8_t {
  kAsItIs,
  kNothing,  // it is done; the kernel says so
  kRefuse,   // EBADF
  kFirst,    // it has failed, and the kernel shall say so before the next one changes anything
};

// The kernel itself will read, write or wait for it.
void LeaveToKernel(int fd) {
  FallBackToTcp(fd, Reason::kIoUring, TcpFor::kGood);
  if (EpollSet* const set = FindEpollSet(fd)) EpollSetIsWatchedBlindly(set);
}

void LeaveAllToKernel(const int* fds, uint64_t count) {
  if (!MayRead(fds, count * sizeof *fds)) return;  // the kernel refuses it
  for (uint64_t i = 0; i < count; ++i) LeaveToKernel(fds[i]);
}

// Its turn may come later, or never: what fails before it in a chain cancels it. The flags are its
// own and, for its place in a chain, those of the entry before it.
bool MayComeLater(const io_uring_sqe& entry) {
  return (entry.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_IO_DRAIN)) != 0;
}

Then ControlEpoll(const io_uring_sqe& entry) {
  const int epfd = entry.fd;
  const int operation = static_cast<int>(entry.len);
  const int fd = static_cast<int>(entry.off);
  if (FindSide(fd) == nullptr && FindEpollSet(fd) == nullptr) return Then::kAsItIs;
  EpollSet* const set = FindEpollSet(epfd);
  // Or the kernel will refuse it for what it does not expect there.
  const bool is_plain = !MayComeLater(entry) && entry.ioprio == 0 && entry.rw_flags == 0 &&
                        entry.buf_index == 0 && entry.splice_fd_in == 0;
  if (set == nullptr || !is_plain) {
    if (operation != EPOLL_CTL_DEL) EpollUnfollowed(fd);
    return Then::kAsItIs;
  }
  auto* const event = reinterpret_cast<epoll_event*>(entry.addr);
  return EpollControl(epfd, set, operation, fd, event) == 0 ? Then::kNothing : Then::kFirst;
}

Then Meet(const io_uring_sqe& entry) {
  switch (entry.opcode) {
    case IORING_OP_EPOLL_CTL:
      return ControlEpoll(entry);
    case IORING_OP_CLOSE:
      if (entry.file_index != 0 || !CloseConcernsUs(entry.fd)) return Then::kAsItIs;
      if (MayComeLater(entry) && !FdTable::IsPrivate(entry.fd)) break;  // by TCP until then
      return BeforeClose(entry.fd) < 0 ? Then::kRefuse : Then::kAsItIs;
    case IORING_OP_FILES_UPDATE:
      LeaveAllToKernel(reinterpret_cast<const int*>(entry.addr), entry.len);
      return Then::kAsItIs;
    // What stands in `fd` is no descriptor.
    case IORING_OP_SOCKET:
    case IORING_OP_PROVIDE_BUFFERS:
    case IORING_OP_REMOVE_BUFFERS:
      return Then::kAsItIs;
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
      BeforePassing(reinterpret_cast<const msghdr*>(entry.addr));
      break;
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
      if ((entry.splice_flags & SPLICE_F_FD_IN_FIXED) == 0) LeaveToKernel(entry.splice_fd_in);
      break;
    default:
      break;
  }
  // A registered file went by TCP when it was registered.
  if ((entry.flags & IOSQE_FIXED_FILE) == 0) LeaveToKernel(entry.fd);
  return Then::kAsItIs;
}

bool IsFollowing() { return process_state.ready && !process_state.bypassed && !InBorrowedMemory(); }

bool MapQueue(int fd, const io_uring_params& ring, SubmissionQueue* queue) {
  queue->mask = ring.sq_entries - 1;
  queue->stride = sizeof(io_uring_sqe) << ((ring.flags & IORING_SETUP_SQE128) != 0 ? 1 : 0);
  queue->head_at = ring.sq_off.head;
  queue->tail_at = ring.sq_off.tail;
  queue->array_at = (ring.flags & kNoArray) != 0 ? 0 : ring.sq_off.array;
  const size_t last = std::max({ring.sq_off.head, ring.sq_off.tail});
  queue->indices_length =
      std::max(last + sizeof(uint32_t), queue->array_at + ring.sq_entries * sizeof(uint32_t));
  queue->entries_length = ring.sq_entries * queue->stride;
  queue->indices = Map(fd, queue->indices_length, PROT_READ, IORING_OFF_SQ_RING);
  queue->entries = Map(fd, queue->entries_length, PROT_READ | PROT_WRITE, IORING_OFF_SQES);
  return queue->indices != nullptr && queue->entries != nullptr;
}

}  // namespace

void SubmissionsSetUp(int fd, const void* parameters) {
  if (process_state.bypassed || process_state.sandboxed || InBorrowedMemory()) return;
  // The kernel has just filled them.
  const io_uring_params& ring = *static_cast<const io_uring_params*>(parameters);
  if ((ring.flags & IORING_SETUP_SQPOLL) != 0) return Bypassed(Reason::kIoUringPolled);
  const bool understood = process_state.ready && (ring.flags & ~kUnderstood) == 0;
  if (!understood || !FdTable::InRange(fd)) return Bypassed(Reason::kIoUringUnknown);
  if (!FdTable::IsEmpty(fd)) NumberIsNew(fd);
  SubmissionQueue* const queue = FreePlace();
  if (queue == nullptr) return Bypassed(Reason::kIoUringUnknown);
  if (!MapQueue(fd, ring, queue)) {
    LetGo(queue);
    return Bypassed(Reason::kIoUringUnknown);
  }
  FdTable::SetSubmissions(fd, queue);
}

Submitted BeforeSubmissions(int fd, uint32_t count, uint32_t flags) {
  constexpr uint32_t kRegisteredRing = 1 << 4;  // then `fd` is no descriptor
  Submitted submitted;
  if (count == 0 || (flags & kRegisteredRing) != 0 || !IsFollowing()) return submitted;
  const Look queue(fd);
  if (!queue) return submitted;
  const uint32_t head = Load(queue->indices + queue->head_at);
  const uint32_t waiting = Load(queue->indices + queue->tail_at) - head;
  count = std::min({count, waiting, queue->mask + 1});
  uint8_t chained = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t index = (head + i) & queue->mask;
    if (queue->array_at != 0)
      index = Load(queue->indices + queue->array_at + index * sizeof(uint32_t));
    if (index > queue->mask) continue;  // the kernel drops it
    char* const place = queue->entries + index * queue->stride;
    auto* const entry = reinterpret_cast<io_uring_sqe*>(place);
    io_uring_sqe copy = Copy(place);
    const uint8_t links_on = copy.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
    copy.flags |= chained;
    chained = links_on;
    switch (Meet(copy)) {
      case Then::kAsItIs:
        break;
      case Then::kNothing:
        __atomic_store_n(&entry->opcode, static_cast<uint8_t>(IORING_OP_NOP), __ATOMIC_RELAXED);
        break;
      case Then::kRefuse:
        __atomic_store_n(&entry->fd, -1, __ATOMIC_RELAXED);
        break;
      case Then::kFirst: {
        const uint32_t part = i + 1 - submitted.count;
        const long result = sys::Call(SYS_io_uring_enter, fd, part, 0, 0, 0, 0);
        if (result != part) {
          submitted.ended = true;
          submitted.error = submitted.count == 0 && result < 0 ? static_cast<int>(result) : 0;
        }
        if (result > 0) submitted.count += static_cast<uint32_t>(result);
        if (submitted.ended) return submitted;
      }
    }
  }
  return submitted;
}

void BeforeRingRegister(uint32_t operation, const void* argument, uint32_t count) {
  if (!IsFollowing()) return;
  switch (operation) {
    case IORING_REGISTER_FILES:
      return LeaveAllToKernel(static_cast<const int*>(argument), count);
    case IORING_REGISTER_FILES_UPDATE: {
      const auto* const update = static_cast<const io_uring_files_update*>(argument);
      if (MayRead(update, sizeof *update))
        LeaveAllToKernel(reinterpret_cast<const int*>(update->fds), count);
      return;
    }
    case IORING_REGISTER_FILES2: {
      const auto* const files = static_cast<const io_uring_rsrc_register*>(argument);
      if (MayRead(files, sizeof *files))
        LeaveAllToKernel(reinterpret_cast<const int*>(files->data), files->nr);
      return;
    }
    case IORING_REGISTER_FILES_UPDATE2: {
      const auto* const update = static_cast<const io_uring_rsrc_update2*>(argument);
      if (MayRead(update, sizeof *update))
        LeaveAllToKernel(reinterpret_cast<const int*>(update->data), update->nr);
      return;
    }
    // After these a ring is entered by another number, or takes other entries than it seems to.
    case IORING_REGISTER_RING_FDS:
    case IORING_REGISTER_RESTRICTIONS:
      return Bypassed(Reason::kIoUringUnknown);
    default:
      if (operation > IORING_REGISTER_FILE_ALLOC_RANGE) Bypassed(Reason::kIoUringUnknown);
  }
}

void SubmissionsDuplicated(SubmissionQueue* queue) {
  queue->users.fetch_add(1, std::memory_order_acq_rel);
}

void SubmissionsClosed(SubmissionQueue* queue) { LetGo(queue); }

}  // namespace xenloop
