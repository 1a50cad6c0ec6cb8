// What the root of a hostile guest may do to a program of another guest: he is the lawful other end
// of one of its connections, has our sources, and his daemon believes him.
//
//   hostile_probe talk ADDRESS PORT ATTACK   connects to `stream_fork serve PORT`, meets its agent,
//   and
//       attacks. What comes of the attack, and the connection's own bytes (which must go on by TCP
//       after all that is refused), is printed and checked.
//   hostile_probe scribble PID SECONDS SEED  writes nonsense wherever that process of his own guest
//       shares memory with another: indices, seals, sizes, data. Also for his daemon's links.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "channel/xen/xen_transport.h"
#include "discovery/protocol/control.h"

using namespace xenloop;

namespace {

constexpr uint64_t kCapacity = 64 << 10;
constexpr uint32_t kNoReference = 0x7ffffff;  // nothing was ever granted under it
constexpr size_t kMessage = 1000;             // of stream_fork
constexpr uint32_t kWarm = 60;

[[noreturn]] void Die(const std::string& what) {
  fprintf(stderr, "hostile_probe: %s: %s\n", what.c_str(), strerror(errno));
  exit(1);
}
double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// ---- the connection ----

int Connect(const char* address, int port, Tuple* tuple) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_storage own = {}, there = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(there);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address, &v4.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&there), sizeof v4) != 0) Die("connect");
  socklen_t length = sizeof own;
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length);
  ToEndpoint(own, &tuple->local);
  ToEndpoint(there, &tuple->peer);
  const timeval patience{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

uint32_t next_message = 0;
bool Exchange(int fd, uint32_t count) {
  uint8_t message[kMessage], answer[kMessage];
  for (const uint32_t end = next_message + count; next_message < end; ++next_message) {
    memset(message, static_cast<int>(next_message % 251), sizeof message);
    memcpy(message, &next_message, sizeof next_message);
    if (send(fd, message, sizeof message, MSG_NOSIGNAL) != kMessage) return false;
    if (recv(fd, answer, sizeof answer, MSG_WAITALL) != kMessage) return false;
    if (memcmp(message, answer, sizeof message) != 0) return false;
  }
  return true;
}

// ---- the talk of two agents, by the daemons ----

struct Talk {
  int fd = -1;
  uint32_t domid = 0;
  Tuple tuple;
  Doorbell bell;
};

// Type of the answer, 0 at the end of the talk.
uint32_t Hear(const Talk& talk, ControlMessage* message, int* fds = nullptr,
              int patience_ms = 3000) {
  pollfd wait{talk.fd, POLLIN, 0};
  if (poll(&wait, 1, patience_ms) != 1) return ~0u;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kXenDescriptors)];
  iovec iov{message, sizeof *message};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (recvmsg(talk.fd, &header, 0) != sizeof *message) return 0;
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && fds != nullptr)
    memcpy(fds, CMSG_DATA(rights), sizeof(int) * kXenDescriptors);
  return static_cast<uint32_t>(message->type);
}
void Say(const Talk& talk, const ControlMessage& message) {
  send(talk.fd, &message, sizeof message, MSG_NOSIGNAL);
}
ControlMessage Hello(const Ticket& ticket) {
  ControlMessage hello;
  hello.type = ControlType::kHello;
  hello.agent_id = 0x6861636b;
  memcpy(hello.words, ticket.words, sizeof hello.words);
  return hello;
}
ControlMessage Offer(const Talk& talk, const Ticket& ticket) {
  ControlMessage offer;
  offer.type = ControlType::kOffer;
  offer.sender_slot = 3;
  offer.sender_generation = 4;
  offer.tuple = Reversed(talk.tuple);
  memcpy(offer.words, ticket.words, sizeof offer.words);
  return offer;
}

// Finds the agent that holds the other end, as an agent of ours would.
bool Seek(Talk* talk) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, "/run/xenloop/daemon.sock");
  talk->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(talk->fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Die("daemon");
  ControlMessage message;
  message.type = ControlType::kSeek;
  message.tuple = Reversed(talk->tuple);
  Say(*talk, message);
  int fds[kXenDescriptors] = {-1, -1, -1};
  if (Hear(*talk, &message, fds) != static_cast<uint32_t>(ControlType::kBridge)) {
    close(talk->fd);
    return false;
  }
  talk->domid = message.domid;
  UseXenDescriptors(fds);
  StartXenTransport(KernelXenCalls(), GrantLimitPages());
  return true;
}

// The talk up to the two HELLOs, all in order.
void Introduce(Talk* talk) {
  Ticket ticket;
  ticket.peer = talk->domid;
  if (XenTransport().create_doorbell(&talk->bell, &ticket) != 0) Die("doorbell");
  Say(*talk, Hello(ticket));
  ControlMessage answer;
  if (Hear(*talk, &answer) != static_cast<uint32_t>(ControlType::kHello)) Die("no HELLO");
  ticket = Ticket{};
  ticket.peer = talk->domid;
  memcpy(ticket.words, answer.words, sizeof answer.words);
  if (XenTransport().map_doorbell(&ticket, &talk->bell) != 0) Die("the peer's doorbell");
}

FifoMapping MakeFifo(const Talk& talk, Ticket* ticket) {
  FifoMapping mapping;
  ticket->peer = talk.domid;
  if (XenTransport().create_fifo(kCapacity, &mapping, ticket) != 0) Die("create_fifo");
  return mapping;
}

std::mt19937_64 engine(7);

void Noise(volatile uint8_t* at, size_t length) {
  for (size_t i = 0; i < length; ++i) at[i] = static_cast<uint8_t>(engine());
}

// An index that no honest end would write.
uint64_t Absurd(uint64_t now) {
  switch (engine() % 8) {
    case 0:
      return ~0ull;
    case 1:
      return 1;
    case 2:
      return now ^ 1;
    case 3:
      return now + (kCapacity << 2);
    case 4:
      return now - 2 * (engine() % 4096);
    case 5:
      return 1ull << (engine() % 64);
    case 6:
      return now + 2 * (engine() % 4096);
    default:
      return engine();
  }
}

// Both FIFOs of a joined stream, ours and the victim's, for so long; every write is rung.
void WriteAbsurdities(const Talk& talk, const Fifo& mine, const Fifo& theirs, double seconds) {
  for (const double end = Now() + seconds; Now() < end;) {
    for (const Fifo* fifo : {&mine, &theirs}) {
      FifoHeader* header = fifo->header;
      header->producer = Absurd(header->producer);
      header->consumer = Absurd(header->consumer);
      header->switch_offset = engine() % 3 == 0 ? engine() : header->switch_offset + engine() % 9;
      header->up = static_cast<uint32_t>(engine());
      header->consumer_ready = static_cast<uint32_t>(engine());
      header->consumer_waiting = static_cast<uint32_t>(engine());
      header->producer_waiting = static_cast<uint32_t>(engine());
      if (engine() % 4 == 0) Noise(reinterpret_cast<uint8_t*>(&header->magic), 32);
    }
    Noise(mine.data, 64);
    RingAnyway(talk.bell);
    usleep(engine() % 2000);
  }
}

// What must be refused. True: it was, or the talk was ended for it.
bool IsRefused(const Talk& talk) {
  ControlMessage answer;
  const uint32_t type = Hear(talk, &answer);
  printf("answer %s\n", type == 0     ? "the end of the talk"
                        : type == ~0u ? "none"
                                      : std::to_string(type).c_str());
  return type == 0 || type == static_cast<uint32_t>(ControlType::kRefuse);
}

bool AttackHello(Talk* talk, const std::string& attack) {
  Ticket ticket;
  ticket.peer = talk->domid;
  if (XenTransport().create_doorbell(&talk->bell, &ticket) != 0) Die("doorbell");
  if (attack == "hello-page") ticket.words[0] = kNoReference;
  if (attack == "hello-port") ticket.words[1] = 1000;
  if (attack == "hello-noise") ticket.words[0] = engine(), ticket.words[1] = engine();
  Say(*talk, Hello(ticket));
  return IsRefused(*talk);
}

bool AttackOffer(const Talk& talk, const std::string& attack) {
  Ticket ticket;
  FifoMapping mine = MakeFifo(talk, &ticket);
  FifoHeader* header = mine.fifo.header;
  if (attack == "offer-reference") ticket.words[0] = kNoReference;
  if (attack == "offer-references")
    Noise(mine.fifo.data, 4 * kMaxXenFifoPages < 3584 ? 4 * kMaxXenFifoPages : 3584);
  if (attack == "offer-noise") Noise(static_cast<uint8_t*>(mine.memory), 4096);
  if (attack == "offer-magic") header->magic ^= 1;
  if (attack == "offer-identity") ++header->identity;
  if (attack == "offer-capacity") header->capacity_bytes = 1ull << 40;
  if (attack == "offer-odd") header->capacity_bytes = 12345;
  if (attack == "offer-pages") ticket.words[1] = 1ull << 40;
  if (attack == "offer-few") ticket.words[1] = 2;
  Say(talk, Offer(talk, ticket));
  const bool refused = IsRefused(talk);
  XenTransport().release_fifo(&mine);
  return refused;
}

// Packets of the right size and magic, but of any type and about slots that are not ours.
void SayNoise(const Talk& talk) {
  for (int i = 0; i < 50; ++i) {
    ControlMessage message;
    Noise(reinterpret_cast<uint8_t*>(&message), sizeof message);
    message.magic = kControlMagic;
    message.version = kControlVersion;
    constexpr ControlType kTypes[] = {ControlType::kJoin, ControlType::kSealed,
                                      ControlType::kRefuse};
    message.type = kTypes[engine() % 3];
    if (engine() % 2 == 0) message.receiver_slot %= 8, message.receiver_generation %= 64;
    Say(talk, message);
  }
}

// An offer in order, and its answer; false: it is not taken.
bool Join(const Talk& talk, FifoMapping* mine, FifoMapping* theirs) {
  Ticket ticket;
  *mine = MakeFifo(talk, &ticket);
  Say(talk, Offer(talk, ticket));
  ControlMessage answer;
  if (Hear(talk, &answer) != static_cast<uint32_t>(ControlType::kJoin)) return false;
  Ticket other;
  other.peer = talk.domid;
  memcpy(other.words, answer.words, sizeof answer.words);
  return XenTransport().map_fifo(&other, theirs) == 0;
}

int RunTalk(const char* address, int port, const std::string& attack) {
  Talk talk;
  const int fd = Connect(address, port, &talk.tuple);
  bool known = false;
  for (int i = 0; i < 50 && !known; ++i) {  // until the victim's agent has published it
    if (!Exchange(fd, kWarm)) Die("the connection, before anything was done to it");
    known = Seek(&talk);
    if (!known) usleep(100000);
  }
  if (!known) Die("the daemon finds nobody behind the connection");
  if (attack.rfind("hello", 0) == 0) {
    if (!AttackHello(&talk, attack)) Die(attack + " was not refused");
  } else {
    Introduce(&talk);
    FifoMapping mine, theirs;
    if (attack == "packets") {
      SayNoise(talk);
    } else if (attack == "ring") {
      uint64_t rings = 0;
      for (const double end = Now() + 4; Now() < end; ++rings) RingAnyway(talk.bell);
      printf("%lu rings\n", rings);
    } else if (attack == "indices" || attack == "revoke") {
      if (!Join(talk, &mine, &theirs)) Die("a good offer is not taken");
      if (attack == "indices") {
        WriteAbsurdities(talk, mine.fifo, theirs.fifo, 3);
      } else {
        // All at once, while the other end uses it.
        XenTransport().release_fifo(&mine);
        XenTransport().release_doorbell(&talk.bell);
      }
      puts("joined");
      return 0;  // that connection is ours to break
    } else if (!AttackOffer(talk, attack)) {
      Die(attack + " was not refused");
    }
  }
  close(talk.fd);
  if (!Exchange(fd, kWarm)) Die("after " + attack + " the connection does not go on");
  printf("%u messages, all right\n", next_message);
  return 0;
}

int Scribble(int pid, double seconds, uint64_t seed) {
  engine.seed(seed);
  const std::string place = "/proc/" + std::to_string(pid);
  const int memory = open((place + "/mem").c_str(), O_RDWR);
  if (memory < 0) Die(place);
  uint64_t written = 0;
  uint64_t failed = 0;
  for (const double end = Now() + seconds; Now() < end;) {
    // What is shared changes all the time: a new list for each lot.
    std::vector<std::pair<uint64_t, uint64_t>> shared;
    std::ifstream maps(place + "/maps");
    for (std::string line; std::getline(maps, line);) {
      uint64_t from = 0, to = 0;
      char rights[8] = "";
      if (line.find("/dev/xen/gnt") == std::string::npos) continue;
      if (sscanf(line.c_str(), "%lx-%lx %7s", &from, &to, rights) == 3 && rights[1] == 'w')
        shared.emplace_back(from, to);
    }
    for (int i = 0; i < 200 && !shared.empty(); ++i) {
      const auto& [from, to] = shared[engine() % shared.size()];
      static constexpr uint64_t kWords[] = {0, 8, 16, 64, 72, 128, 192, 256, 264};
      const bool header = engine() % 4 != 0;
      const uint64_t at =
          header ? from + kWords[engine() % 9] : from + engine() % (to - from) / 8 * 8;
      uint64_t now = 0;
      if (pread(memory, &now, 8, static_cast<off_t>(at)) != 8) now = 0;
      const uint64_t value = header ? Absurd(now) : engine();
      if (pwrite(memory, &value, 8, static_cast<off_t>(at)) == 8)
        ++written;
      else
        ++failed;
    }
    usleep(2000);
    if (kill(pid, 0) != 0) break;
  }
  printf("%lu words of nonsense%s\n", written, failed > 0 ? ", some could not be written" : "");
  return written > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc == 5 ? argv[1] : "";
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (verb == "talk") return RunTalk(argv[2], atoi(argv[3]), argv[4]);
  if (verb == "scribble")
    return Scribble(atoi(argv[2]), atof(argv[3]), strtoull(argv[4], nullptr, 10));
  return 2;
}
