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

void RingDoorbell(const Doorbell& doorbell, bool certain) {
  if (doorbell.page == nullptr) return;
  if (certain) return RingAnyway(doorbell);
  // seq_cst: pairs with the sleeper's count before its last look at the FIFOs.
  if (doorbell.page->sleepers.load(std::memory_order_seq_cst) == 0) return;
  // Read before the ring: who goes to sleep after that is not rung by it.
  const uint64_t changes = doorbell.page->changes.load(std::memory_order_seq_cst);
  if (__atomic_load_n(&doorbell.rung, __ATOMIC_ACQUIRE) == changes) return;
  RingAnyway(doorbell);
  // Written behind the ring: nobody relies on one that has not been made.
  __atomic_store_n(&doorbell.rung, changes, __ATOMIC_RELEASE);
}

void RingAnyway(const Doorbell& doorbell) {
  if (doorbell.ring != nullptr) doorbell.ring(doorbell);
}

}  // namespace xenloop
