// Tickets of the local transport: descriptors of the wrong kind, size, seals and mode, with headers
// of any content. Whatever a peer sends, the answer is an error or a FIFO that lies within what is
// mapped; no descriptor is left open, none of ours is closed.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/local/local_transport.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/guarded_fifo.h"

namespace xenloop::fuzz {
namespace {

constexpr size_t kPage = 4096;

// A memfd with a header that is sound, a little wrong or arbitrary.
int HostileMemory(Input& input) {
  const int fd = memfd_create("hostile", MFD_ALLOW_SEALING);
  XENLOOP_REQUIRE(fd >= 0);
  static constexpr size_t kSizes[] = {
      0, 1, 511, 512, kPage, kPage + 512, 2 * kPage, 3 * kPage, kMostBells * kLineBytes, 68 << 20};
  size_t size = kSizes[input.Below(10)];
  if (input.OneIn(4)) size = input.Short();
  XENLOOP_REQUIRE(ftruncate(fd, static_cast<off_t>(size)) == 0);
  alignas(64) uint8_t header[sizeof(FifoHeader)] = {};
  auto* fields = reinterpret_cast<FifoHeader*>(header);
  fields->magic = kFifoMagic;
  fields->version = kFifoVersion;
  fields->capacity_bytes = uint64_t{1} << (8 + input.Below(24));
  for (uint32_t i = input.Below(4); i > 0; --i) HostileWrite(input, fields, kMinFifoBytes);
  if (input.OneIn(4)) input.Take(header + offsetof(FifoHeader, magic), 16);
  const size_t n = size < sizeof header ? size : sizeof header;
  XENLOOP_REQUIRE(pwrite(fd, header, n, 0) == static_cast<ssize_t>(n));
  int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  if (input.OneIn(4)) seals = input.Below(32);  // SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE
  fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

// Something that a peer may pass instead. The other ends of pairs are closed at once.
int HostileDescriptor(Input& input) {
  int pair[2] = {-1, -1};
  switch (input.Below(10)) {
    case 0:
      return -1;
    case 1:
      return 1 << 20;  // a number that is not open
    case 2:
      return open("/dev/zero", O_RDWR);
    case 3:
      return open("/", O_RDONLY | O_DIRECTORY);
    case 4:
      XENLOOP_REQUIRE(pipe(pair) == 0);
      break;
    case 5:
      XENLOOP_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
      break;
    case 6:
      return eventfd(0, input.OneIn(2) ? EFD_NONBLOCK : 0);
    case 7:
      return eventfd(0, EFD_NONBLOCK);
    default:
      return HostileMemory(input);
  }
  const int kept = input.Below(2) == 0 ? 0 : 1;
  close(pair[1 - kept]);
  return pair[kept];
}

void MapFifo(Input& input, Ticket ticket) {
  FifoMapping mapping;
  const int error = LocalTransport().map_fifo(&ticket, &mapping);
  XENLOOP_REQUIRE(ticket.fds[0] == -1 && ticket.fds[1] == -1);
  XENLOOP_REQUIRE((error == 0) == static_cast<bool>(mapping.fifo) && error <= 0);
  if (error != 0) {
    XENLOOP_REQUIRE(mapping.memory == nullptr);
    return;
  }
  const Fifo& fifo = mapping.fifo;
  XENLOOP_REQUIRE(FifoMemoryBytes(fifo.capacity_bytes) <= mapping.memory_bytes);
  // Every byte of it is there: the last one of the ring, and what a few operations touch.
  fifo.data[fifo.capacity_bytes - 1] = 1;
  uint64_t known_consumer = 0;
  uint8_t buffer[3000] = {};
  const iovec iov{buffer, sizeof buffer};
  for (uint32_t i = input.Below(6); i > 0; --i) {
    HostileWrite(input, fifo.header, fifo.capacity_bytes);
    IovCursor source(&iov, 1);
    fifo.Produce(source, known_consumer, 0);
    IovCursor destination(&iov, 1);
    fifo.Consume(&destination, sizeof buffer, input.OneIn(2));
  }
  LocalTransport().discard_data(mapping);
  LocalTransport().release_fifo(&mapping);
}

void MapDoorbell(Ticket ticket) {
  Doorbell doorbell;
  const int error = LocalTransport().map_doorbell(&ticket, &doorbell);
  XENLOOP_REQUIRE(ticket.fds[0] == -1 && ticket.fds[1] == -1);
  XENLOOP_REQUIRE((error == 0) == (doorbell.page != nullptr) && error <= 0);
  XENLOOP_REQUIRE((error == 0) == (doorbell.fd >= 0));
  RingDoorbell(doorbell);  // must neither block nor raise a signal
  LocalTransport().release_doorbell(&doorbell);
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop;
  using namespace xenloop::fuzz;
  Input input(bytes, size);
  const int open_before = OpenDescriptors();
  for (int i = 0; i < 8 && !input.Empty(); ++i) {
    Ticket ticket;
    const bool doorbell = input.OneIn(2);
    for (int& fd : ticket.fds) fd = HostileDescriptor(input);
    if (doorbell) {
      MapDoorbell(ticket);
    } else {
      MapFifo(input, ticket);
    }
    XENLOOP_REQUIRE(OpenDescriptors() == open_before);
  }
  return 0;
}
