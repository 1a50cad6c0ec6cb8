// select and pselect on followed sockets.
#pragma once

#include <signal.h>
#include <sys/select.h>
#include <time.h>

#include <cstdint>

namespace xenloop {

// Calls `visit` with each descriptor below `count` that stands in one of the sets (null: none).
template <class Visit>
inline void EachSelected(int count, const fd_set* read, const fd_set* write, const fd_set* except,
                         Visit visit) {
  constexpr int kBits = 64;
  // The program's set may be larger than FD_SETSIZE; index its words ourselves.
  const auto word_of = [](const fd_set* set, int i) {
    return set != nullptr ? reinterpret_cast<const uint64_t*>(set)[i] : 0;
  };
  for (int first = 0; first < count; first += kBits) {
    const int i = first / kBits;
    uint64_t word = word_of(read, i) | word_of(write, i) | word_of(except, i);
    if (count - first < kBits) word &= (uint64_t{1} << (count - first)) - 1;
    for (; word != 0; word &= word - 1) visit(first + __builtin_ctzll(word));
  }
}

// As PollIsTheKernels (poll.h).
bool SelectIsTheKernels(int count, const fd_set* read, const fd_set* write, const fd_set* except);
bool SelectConcernsUs(int count, const fd_set* read, const fd_set* write, const fd_set* except);
// As that call, but returns -errno; `timeout` is not changed (`remaining`, if not null, gets what
// select(2) leaves).
enum class SelectName : uint8_t { kSelect, kPselect };
int Select(SelectName name, int count, fd_set* read, fd_set* write, fd_set* except,
           const timespec* timeout, timespec* remaining, const sigset_t* mask);

}  // namespace xenloop
