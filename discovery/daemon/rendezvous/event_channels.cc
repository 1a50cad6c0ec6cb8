// See event_channels.h.
#include "discovery/daemon/rendezvous/event_channels.h"

#include <errno.h>
#include <xenevtchn.h>

#include <map>

#include "discovery/daemon/xenstore/loaded_library.h"

namespace xenloop {
namespace {

struct Library {
  decltype(&xenevtchn_fdopen) fdopen;
  decltype(&xenevtchn_notify) notify;
  decltype(&xenevtchn_bind_unbound_port) bind_unbound_port;
  decltype(&xenevtchn_bind_interdomain) bind_interdomain;
  decltype(&xenevtchn_unbind) unbind;
  decltype(&xenevtchn_pending) pending;
  decltype(&xenevtchn_unmask) unmask;
};

const Library* LoadLibrary() {
  static Library library;
  static const bool complete = [] {
    const LoadedLibrary loaded("libxenevtchn.so.1");
    return loaded.Find("xenevtchn_fdopen", &library.fdopen) &&
           loaded.Find("xenevtchn_notify", &library.notify) &&
           loaded.Find("xenevtchn_bind_unbound_port", &library.bind_unbound_port) &&
           loaded.Find("xenevtchn_bind_interdomain", &library.bind_interdomain) &&
           loaded.Find("xenevtchn_unbind", &library.unbind) &&
           loaded.Find("xenevtchn_pending", &library.pending) &&
           loaded.Find("xenevtchn_unmask", &library.unmask);
  }();
  return complete ? &library : nullptr;
}

// By descriptor, the present one and those of former lives. None is ever closed here: to close the
// last descriptor of a port that was bound before a suspension is a fault of the kernel
// (suspended.cc), and whose descriptor it is, the rendezvous knows.
std::map<int, xenevtchn_handle*> handles;
int present = -1;

template <typename Function, typename... Arguments>
int Call(int descriptor, Function Library::*function, Arguments... arguments) {
  const auto found = handles.find(descriptor);
  if (found == handles.end() || found->second == nullptr) return -ENOMEM;
  const int result = (LoadLibrary()->*function)(found->second, arguments...);
  return result < 0 ? -errno : result;
}

int BindUnbound(uint32_t domid) { return Call(present, &Library::bind_unbound_port, domid); }
int BindInterdomain(uint32_t domid, uint32_t remote_port) {
  return Call(present, &Library::bind_interdomain, domid, remote_port);
}
void Unbind(uint32_t port) { Call(present, &Library::unbind, port); }
int RingDescriptor(uint32_t) { return present; }
void Ring(int descriptor, uint32_t port) { Call(descriptor, &Library::notify, port); }
int NextEvent() { return Call(present, &Library::pending); }
void Unmask(uint32_t port) { Call(present, &Library::unmask, port); }

}  // namespace

const XenCalls* DaemonXenCalls() {
  if (LoadLibrary() == nullptr) return nullptr;
  static const XenCalls calls = [] {
    XenCalls made = KernelXenCalls();
    made.bind_unbound = BindUnbound;
    made.bind_interdomain = BindInterdomain;
    made.unbind = Unbind;
    made.ring_descriptor = RingDescriptor;
    made.ring = Ring;
    made.next_event = NextEvent;
    made.unmask = Unmask;
    return made;
  }();
  return &calls;
}

void UseDaemonXenDescriptors(const int (&descriptors)[kXenDescriptors]) {
  UseXenDescriptors(descriptors);
  if (LoadLibrary() == nullptr) return;
  present = descriptors[kEvtchn];
  handles[present] = LoadLibrary()->fdopen(nullptr, present, 0);
}

}  // namespace xenloop
