// io_uring, entered by syscall(): what a program has put into a submission queue is read before the
// kernel reads it, and means what the same call would mean. epoll_ctl on a followed descriptor is
// carried out by us, a close is told to us, whatever else touches a followed socket sends it back
// to TCP first; all other entries pass. A ring whose entries cannot be read in time (a thread of
// the kernel takes them, or the layout is not known) sends the whole process to TCP.
//
// A program that enters its rings by inline system calls is not noticed (D-12).
#pragma once

#include <cstdint>

namespace xenloop {

struct SubmissionQueue;

void SubmissionsSetUp(int fd, const void* parameters);  // after io_uring_setup
// Before io_uring_enter. What of its `count` has been submitted here, because the kernel's answer
// to it was needed before the next entry; `ended`: the call has come to its end with that, or
// -errno.
struct Submitted {
  uint32_t count = 0;
  bool ended = false;
  int error = 0;
};
Submitted BeforeSubmissions(int fd, uint32_t count, uint32_t flags);
void BeforeRingRegister(uint32_t operation, const void* argument, uint32_t count);

// For fd_life.cc.
void SubmissionsDuplicated(SubmissionQueue* queue);
void SubmissionsClosed(SubmissionQueue* queue);

}  // namespace xenloop
