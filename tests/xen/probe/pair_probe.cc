// Our transport at one end, Xen's own libraries at the other: that both speak the same protocol
// with the kernel and Xen. One end produces kTotal bytes and waits for room, the other consumes
// them and waits for data; every byte is checked.
//
//   pair_probe ours-produce PEER            prints a ticket: REFERENCE PAGES IDENTITY PORT
//   pair_probe library-consume PEER TICKET
//   pair_probe library-produce PEER         prints a ticket
//   pair_probe ours-consume PEER TICKET
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

#include "channel/xen/xen_transport.h"

using namespace xenloop;

namespace {

constexpr uint64_t kTotal = 8 << 20;
constexpr uint64_t kCapacity = 64 << 10;
constexpr uint32_t kPages = 1 + (kFifoDataOffset + kCapacity - 1) / 4096;
constexpr int kPatienceMs = 20000;

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "pair_probe: %s: %s\n", what, strerror(errno));
  exit(1);
}
uint8_t ByteAt(uint64_t at) { return static_cast<uint8_t>(at * 7 + at / 251); }

// What a waiting end needs of either kind.
struct Line {
  int descriptor;
  void (*hear)();
  void (*ring)();
};

Doorbell bell;
xenevtchn_handle* events = nullptr;
uint32_t library_port = 0;

void HearOurs() {
  for (int port = NextXenEvent(); port >= 0; port = NextXenEvent())
    UnmaskXenEvent(static_cast<uint32_t>(port));
}
void RingOurs() { RingAnyway(bell); }
void HearLibrary() {
  const int port = xenevtchn_pending(events);
  if (port < 0 || xenevtchn_unmask(events, static_cast<evtchn_port_t>(port)) != 0) Die("pending");
}
void RingLibrary() {
  if (xenevtchn_notify(events, library_port) != 0) Die("notify");
}

void Wait(const Line& line) {
  pollfd entry{line.descriptor, POLLIN, 0};
  if (poll(&entry, 1, kPatienceMs) != 1) Die("a ring was lost");
  line.hear();
}

void Produce(const Fifo& fifo, const Line& line) {
  // The references of the data pages lie where the first data go: not before the consumer has them.
  Wait(line);
  std::vector<uint8_t> bytes(9000);
  uint64_t known = 0;
  for (uint64_t at = 0; at < kTotal;) {
    const size_t length = std::min<uint64_t>(1 + at % bytes.size(), kTotal - at);
    for (size_t i = 0; i < length; ++i) bytes[i] = ByteAt(at + i);
    const iovec all{bytes.data(), length};
    IovCursor source(&all, 1);
    const FifoResult result = fifo.Produce(source, known, 0);
    if (result.state != FifoState::kOpen) Die("the FIFO ended");
    at += result.bytes;
    if (WakeSleepers(fifo.header->consumer_waiting, /*once=*/false, /*foreign=*/true) != 0)
      line.ring();
    if (result.bytes > 0) continue;
    RequestDoorbell(fifo.header->producer_waiting);
    if (fifo.FreeBytes() == 0) Wait(line);
  }
  // The pages must stay until all is read.
  while (fifo.AvailableBytes() > 0) usleep(1000);
}

void Consume(const Fifo& fifo, const Line& line) {
  line.ring();  // "joined"
  std::vector<uint8_t> bytes(7001);
  for (uint64_t at = 0; at < kTotal;) {
    const iovec room{bytes.data(), bytes.size()};
    IovCursor destination(&room, 1);
    const FifoResult result = fifo.Consume(&destination, 1 + at % bytes.size(), false);
    if (result.state != FifoState::kOpen) Die("the FIFO ended");
    for (size_t i = 0; i < result.bytes; ++i, ++at) {
      if (bytes[i] != ByteAt(at)) {
        fprintf(stderr, "byte %lu is wrong\n", at);
        exit(1);
      }
    }
    if (WakeSleepers(fifo.header->producer_waiting, /*once=*/true, /*foreign=*/true) != 0)
      line.ring();
    if (result.bytes > 0) continue;
    ArmFutex(fifo.header->consumer_waiting);
    if (fifo.AvailableBytes() == 0) Wait(line);
  }
  printf("%lu bytes\n", kTotal);
}

void Print(const Ticket& ticket, uint32_t port) {
  printf("%lu %lu %lu %u\n", ticket.words[0], ticket.words[1], ticket.words[2], port);
  fflush(stdout);
}

Line StartOurs() {
  int fds[kXenDescriptors];
  for (int i = 0; i < kXenDescriptors; ++i) {
    fds[i] = open(kXenDeviceNames[i], O_RDWR | O_CLOEXEC | (i == kEvtchn ? O_NONBLOCK : 0));
    if (fds[i] < 0) Die(kXenDeviceNames[i]);
  }
  UseXenDescriptors(fds);
  StartXenTransport(KernelXenCalls(), GrantLimitPages());
  return Line{fds[kEvtchn], HearOurs, RingOurs};
}
Line StartLibrary() {
  events = xenevtchn_open(nullptr, 0);
  if (events == nullptr) Die("xenevtchn_open");
  return Line{xenevtchn_fd(events), HearLibrary, RingLibrary};
}

int OursProduce(uint32_t peer) {
  const Line line = StartOurs();
  Ticket ticket, bell_ticket;
  ticket.peer = bell_ticket.peer = peer;
  FifoMapping mapping;
  if ((errno = -XenTransport().create_fifo(kCapacity, &mapping, &ticket)) != 0) Die("create_fifo");
  if ((errno = -XenTransport().create_doorbell(&bell, &bell_ticket)) != 0) Die("create_doorbell");
  Print(ticket, XenPortOf(bell));
  Produce(mapping.fifo, line);
  XenTransport().release_fifo(&mapping);
  return 0;
}

int OursConsume(uint32_t peer, Ticket ticket, uint32_t port) {
  const Line line = StartOurs();
  ticket.peer = peer;
  FifoMapping mapping;
  if ((errno = -XenTransport().map_fifo(&ticket, &mapping)) != 0) Die("map_fifo");
  if ((errno = -BindDoorbell(peer, port, &bell)) != 0) Die("bind");
  Consume(mapping.fifo, line);
  XenTransport().release_fifo(&mapping);
  return 0;
}

int LibraryProduce(uint32_t peer) {
  const Line line = StartLibrary();
  xengntshr_handle* share = xengntshr_open(nullptr, 0);
  uint32_t references[kPages];
  void* memory = share == nullptr
                     ? nullptr
                     : xengntshr_share_pages(share, peer, kPages, references, /*writable=*/1);
  if (memory == nullptr) Die("xengntshr_share_pages");
  memset(memory, 0, 4096);
  const Fifo fifo = Fifo::Initialise(memory, kCapacity);
  fifo.header->identity = 4711;
  memcpy(fifo.data, references + 1, (kPages - 1) * sizeof references[0]);
  const int port = xenevtchn_bind_unbound_port(events, peer);
  if (port <= 0) Die("xenevtchn_bind_unbound_port");
  library_port = static_cast<uint32_t>(port);
  Ticket ticket;
  ticket.words[0] = references[0];
  ticket.words[1] = kPages;
  ticket.words[2] = 4711;
  Print(ticket, library_port);
  Produce(fifo, line);
  return 0;
}

int LibraryConsume(uint32_t peer, const Ticket& ticket, uint32_t port) {
  const Line line = StartLibrary();
  xengnttab_handle* table = xengnttab_open(nullptr, 0);
  if (table == nullptr) Die("xengnttab_open");
  const auto header = static_cast<uint32_t>(ticket.words[0]);
  void* first = xengnttab_map_grant_ref(table, peer, header, PROT_READ | PROT_WRITE);
  if (first == nullptr || ticket.words[1] != kPages) Die("header page");
  uint32_t references[kPages] = {header};
  memcpy(references + 1, static_cast<char*>(first) + kFifoDataOffset,
         (kPages - 1) * sizeof references[0]);
  // The data pages cannot be mapped for writing: that is part of the protocol.
  if (xengnttab_map_grant_ref(table, peer, references[1], PROT_READ | PROT_WRITE) != nullptr) {
    fprintf(stderr, "a data page could be mapped for writing\n");
    return 1;
  }
  void* all = xengnttab_map_domain_grant_refs(table, kPages, peer, references, PROT_READ);
  if (all == nullptr) Die("data pages");
  Fifo fifo = Fifo::Adopt(all, kPages * 4096ul);
  if (!fifo || fifo.header->identity != ticket.words[2]) Die("header");
  fifo.header = static_cast<FifoHeader*>(first);
  const int bound = xenevtchn_bind_interdomain(events, peer, port);
  if (bound <= 0) Die("xenevtchn_bind_interdomain");
  library_port = static_cast<uint32_t>(bound);
  Consume(fifo, line);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int i) { return i < argc ? strtoull(argv[i], nullptr, 10) : 0; };
  const std::string verb = argc > 2 ? argv[1] : "";
  const auto peer = static_cast<uint32_t>(number(2));
  Ticket ticket;
  for (int i = 0; i < 3; ++i) ticket.words[i] = number(3 + i);
  const auto port = static_cast<uint32_t>(number(6));
  if (verb == "ours-produce") return OursProduce(peer);
  if (verb == "library-produce") return LibraryProduce(peer);
  if (verb == "ours-consume" && argc == 7) return OursConsume(peer, ticket, port);
  if (verb == "library-consume" && argc == 7) return LibraryConsume(peer, ticket, port);
  return 2;
}
