// Transport between the guests of one Xen host: a FIFO is memory that its producer grants to the
// consumer's domain, a doorbell an event channel between two processes beside a granted page that
// says whether anybody sleeps. Only the agent's thread (or a daemon's) calls what is here; ringing
// is transport.h's RingDoorbell.
//
// The header page is granted for writing, the data pages for reading only. The references of the
// data pages do not fit into a ticket: they lie in the header page, behind the header, where later
// the first data go.
#pragma once

#include "channel/transport.h"
#include "channel/xen/xen_calls.h"

namespace xenloop {

inline constexpr uint32_t kMaxXenFifoPages = 1 + (4096 - 512) / 4;
inline constexpr uint64_t kMaxXenFifoBytes = 2ull << 20;
inline constexpr uint64_t kLeastXenFifoBytes = 64ull << 10;  // less is not worth a doorbell

struct XenBudget {
  uint32_t limit_pages = 0;  // of the whole guest, as the kernel is configured
  uint32_t share_pages = 0;  // what this process allows itself
  uint32_t used_pages = 0;   // of it
  uint32_t ports = 0;        // event channels of this process
};

// This guest was suspended without notice: what it had granted is granted to nobody any more. Talks
// that begin from now on get pages of their own.
void ForgetXenGrants();

// A ticket's `peer` is a domid.
const Transport& XenTransport();
void StartXenTransport(const XenCalls& calls, uint32_t limit_pages);
// In a forked child: forgets everything without touching it.
void ForgetXenTransport();
XenBudget CurrentXenBudget();

// What is behind the count in a sleepers' page of ours: 1, and 0 once its owner has gone; the
// kernel of its guest sees to that. Such a change is rung as well.
struct XenSleepersPage {
  DoorbellPage page;
  std::atomic<uint8_t> alive;
};
// The owner of the page that this doorbell rings has gone; false where that cannot be told.
bool XenOwnerIsDead(const Doorbell& doorbell);
uint32_t XenPortOf(const Doorbell& doorbell);  // 0: none
// A doorbell without pages, for daemons: binds to a port that the other end has made.
int BindDoorbell(uint32_t domid, uint32_t remote_port, Doorbell* doorbell);

// The events of this process: a port that was rung, or -EAGAIN. It is silent until told otherwise.
int NextXenEvent();
void UnmaskXenEvent(uint32_t port);

}  // namespace xenloop
