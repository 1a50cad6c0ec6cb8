// The one door to Xen: what the transport asks of the kernel's drivers gntalloc, gntdev and evtchn.
// A table of functions, so that tests can put a twin without Xen in its place (tests/contract/
// fake_xen.h). Results are 0 (or a port), or -errno.
//
// The drivers are asked directly and not by Xen's libraries: README.md, "Xen's own libraries".
#pragma once

#include <cstddef>
#include <cstdint>

namespace xenloop {

enum class Access : uint8_t { kRead, kWrite };

struct XenCalls {
  // Makes pages of ours that domain `domid` may map (`access`: what it may do), and maps them at
  // `at` (a page-aligned hole that the caller has reserved). `references` gets one number a page;
  // `handle` is for unshare.
  int (*share)(uint32_t domid, uint32_t pages, Access access, void* at, uint32_t* references,
               uint64_t* handle);
  // Ends a share. The pages live on until the other domain has unmapped them.
  void (*unshare)(void* at, uint32_t pages, uint64_t handle);
  // Maps pages that domain `domid` shares with us.
  int (*map)(uint32_t domid, const uint32_t* references, uint32_t pages, Access access, void* at,
             uint64_t* handle);
  void (*unmap)(void* at, uint32_t pages, uint64_t handle);

  // What the kernel does for us when we cannot any more (kill -9): zeroes this byte of a share's
  // first page when the share ends; rings a port's other end when a mapping ends.
  int (*clear_when_unshared)(uint64_t handle, uint32_t byte);
  int (*ring_when_unmapped)(uint64_t handle, uint32_t port);

  int (*bind_unbound)(uint32_t domid);  // a new port that `domid` may bind to
  int (*bind_interdomain)(uint32_t domid, uint32_t remote_port);
  void (*unbind)(uint32_t port);
  // Rings the other end of a port of ours, by the descriptor that was the port's when it was bound:
  // any thread, also when the next life of this guest has begun (UseXenDescriptors).
  int (*ring_descriptor)(uint32_t port);
  void (*ring)(int descriptor, uint32_t port);

  int (*next_event)();  // a port that has been rung (silent until unmasked), or -EAGAIN
  void (*unmask)(uint32_t port);
};

// The descriptors of the drivers, in this order.
inline constexpr int kXenDescriptors = 3;
enum XenDescriptor { kGntalloc, kGntdev, kEvtchn };
extern const char* const kXenDeviceNames[kXenDescriptors];

// The real ones. They use these descriptors (of this process) from now on.
const XenCalls& KernelXenCalls();
void UseXenDescriptors(const int (&fds)[kXenDescriptors]);
// True on a Xen guest.
bool RunsOnXen();
// Pages that all processes of this guest together may share out; 0 if unknown.
uint32_t GrantLimitPages();

}  // namespace xenloop
