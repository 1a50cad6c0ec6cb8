// What is the same over every transport. See transport.h.
#include "channel/transport.h"

#include <errno.h>

#include "channel/base/sys.h"

namespace xenloop {

void ReleaseFifo(FifoMapping* mapping) {
  if (mapping->transport != nullptr) return mapping->transport->release_fifo(mapping);
  if (mapping->memory != nullptr) {
    sys::Call(SYS_munmap, reinterpret_cast<long>(mapping->memory),
              static_cast<long>(mapping->memory_bytes));
  }
  *mapping = FifoMapping{};
}

int KeepPrivately(FifoMapping* mapping) {
  if (mapping->memory == nullptr) return -EINVAL;
  if (mapping->transport == nullptr) return 0;
  if (const int error = mapping->transport->keep_privately(mapping); error != 0) return error;
  mapping->transport = nullptr;
  mapping->fifo.foreign = false;
  mapping->handles[0] = mapping->handles[1] = 0;
  return 0;
}

namespace {
template <class Ring>
void RingForLine(const DoorbellPage& line, uint64_t* rung, Ring ring) {
  // seq_cst: pairs with the sleeper's count before its last look at the FIFOs.
  if (line.sleepers.load(std::memory_order_seq_cst) == 0) return;
  // Read before the ring: who goes to sleep after that is not rung by it.
  const uint64_t changes = line.changes.load(std::memory_order_seq_cst);
  if (__atomic_load_n(rung, __ATOMIC_ACQUIRE) == changes) return;
  ring();
  // Written behind the ring: nobody relies on one that has not been made.
  __atomic_store_n(rung, changes, __ATOMIC_RELEASE);
}
}  // namespace

void RingDoorbell(const Doorbell& doorbell, bool certain) {
  if (doorbell.page == nullptr) return;
  if (certain) return RingAnyway(doorbell);
  RingForLine(*doorbell.page, &doorbell.rung, [&] { RingAnyway(doorbell); });
}

void RingBell(const Doorbell& doorbell, Bell* bell, uint32_t number) {
  if (number == kAnyBell || number >= doorbell.lines || doorbell.page == nullptr)
    return RingDoorbell(doorbell);
  const DoorbellPage& line = *LineOf(doorbell.page, number);
  // acquire: pairs with whoever has made the bell known here.
  if (bell == nullptr || __atomic_load_n(&bell->fd, __ATOMIC_ACQUIRE) <= 0) {
    if (line.sleepers.load(std::memory_order_seq_cst) != 0) RingDoorbell(doorbell);
    return;
  }
  RingForLine(line, &bell->rung, [&] { RingBellAnyway(doorbell, *bell); });
}

void RingBellAnyway(const Doorbell& doorbell, const Bell& bell) {
  Doorbell one = doorbell;
  one.fd = __atomic_load_n(&bell.fd, __ATOMIC_ACQUIRE);
  RingAnyway(one.fd > 0 ? one : doorbell);
}

void RingAnyway(const Doorbell& doorbell) {
  if (doorbell.ring != nullptr) doorbell.ring(doorbell);
}

}  // namespace xenloop
