// A Xen without Xen: the calls that the transport makes, played by one process (and those that it
// forks) with memfds and eventfds. It keeps the rules that a peer can break: who may map what, for
// reading or writing; how many pages there are; which port may be bound by whom.
#pragma once

#include "channel/transport.h"
#include "channel/xen/xen_calls.h"

namespace xenloop {

// Who is whose peer: domain 0 its own, so that both ends of a test can live in it; 1 that of 2.
inline constexpr uint32_t kFakeDomid = 0;
inline constexpr uint32_t kFakeLimitPages = 8192;

const XenCalls& FakeXenCalls();
uint32_t FakePagesShared();  // still granted, or mapped by the other end
uint32_t FakePagesMapped();
uint32_t FakePortsBound();
int FakeHeard(const Doorbell& bell);  // becomes readable when the bell is rung
// The next share (after `successes` more) fails with this error. 0: never.
void FailNextShare(int successes, int error);

// What is granted to this domain reads as all ones from now on, as after it was suspended
// unprepared.
void FakeCutOff(uint32_t domid);

// XenTransport() started on the fake.
const Transport& FakeXenTransport();

}  // namespace xenloop
