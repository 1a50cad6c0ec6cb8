// The agent against another agent that breaks every rule: packets of any size and content with any
// descriptors, in any order, for two real sides (both ends of one TCP connection of this process),
// with a hostile header in every FIFO that it maps. The agent runs on this thread. Whatever it is
// told: no bad access, no wait, and when the sides are closed and the talk is over, no descriptor
// is left.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel/local/local_transport.h"
#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/settings/config.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/interruption.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/socket/socket.h"
#include "preload/socket/transfer.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/guarded_fifo.h"

namespace xenloop::fuzz {
namespace {

constexpr uint32_t kTalk = 0;
constexpr uint64_t kCapacity = 4096;
constexpr uint64_t kIdentity = 0x71d;

// A network of our own where we may make one: thousands of connections a second would leave the
// machine's without ports. Elsewhere (a replay by an ordinary user) the machine's will do.
void LeaveTheMachinesNetwork() {
  if (unshare(CLONE_NEWNET) != 0) return;
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq loopback = {};
  strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  XENLOOP_REQUIRE(ioctl(fd, SIOCSIFFLAGS, &loopback) == 0);
  close(fd);
  const int setting = open("/proc/sys/net/ipv4/tcp_max_tw_buckets", O_WRONLY | O_CLOEXEC);
  if (setting < 0) return;
  static_cast<void>(!write(setting, "0", 1));  // no connection lingers in TIME_WAIT
  close(setting);
}

// As Prepare() of agent_start.cc does it, but for the thread, the listener and the registry.
void StartAgent() {
  LeaveTheMachinesNetwork();
  agent.uid = geteuid();
  agent.id = 1;
  XENLOOP_REQUIRE(MapAgentMemory());
  agent.epoll_fd = MakePrivate(epoll_create1(EPOLL_CLOEXEC));
  agent_shared.poke_fd.store(MakePrivate(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  Ticket ticket;
  XENLOOP_REQUIRE(LocalTransport().create_doorbell(&agent_shared.doorbell, &ticket) == 0);
  agent_shared.doorbell.fd = MakePrivate(ticket.fds[0]);
  agent.page_fd = MakePrivate(ticket.fds[1]);
  MakeCommonBell(LocalTransport());
  agent_shared.tid.store(CurrentTid());
  agent_shared.started.store(2);
}

class Run {
 public:
  explicit Run(Input& input) : input_(input) {
    OpenTalk();
    Connect();
  }
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  void Step();

 private:
  void OpenTalk();
  void Connect();
  void SendPacket();
  void DrainTalk();
  void UseSides();
  void WorkOfTheAgent();
  ControlMessage Message();
  int HostileMemory();

  Input& input_;
  int talk_ = -1;  // our end of it: the hostile agent's
  int sockets_[2] = {-1, -1};
  Side* sides_[2] = {nullptr, nullptr};
  FifoHeader* last_fifo_ = nullptr;  // the one that was offered last, mapped by the hostile agent
};

void Run::OpenTalk() {
  int pair[2];
  XENLOOP_REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  talk_ = pair[0];
  const int little = 4096;  // so that answers have to wait
  setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
  Talk& talk = agent.talks[kTalk];
  talk = Talk{};
  ForgetToldBells(kTalk);
  talk.fd = MakePrivate(pair[1]);
  talk.in_use = true;
  talk.transport = &LocalTransport();
  talk.fifo_bytes = GetConfig().fifo_bytes;
  talk.uid = geteuid() + (input_.OneIn(8) ? 1 : 0);
  talk.agent_id = input_.OneIn(2) ? 7 : 0;  // did we call it, or did it call us?
}

void Run::Connect() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  XENLOOP_REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&name), length) == 0);
  XENLOOP_REQUIRE(listen(listener, 1) == 0);
  XENLOOP_REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length) == 0);
  sockets_[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SocketCreated(sockets_[0], AF_INET, SOCK_STREAM, 0);
  const int connected = connect(sockets_[0], reinterpret_cast<sockaddr*>(&name), length);
  XENLOOP_REQUIRE(connected == 0 || errno == EINTR);  // the fuzzer's clock; it goes on regardless
  SocketConnected(sockets_[0]);
  do {
    sockets_[1] = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  } while (sockets_[1] < 0 && errno == EINTR);
  XENLOOP_REQUIRE(sockets_[1] >= 0);
  SocketAccepted(sockets_[1], AF_INET);
  close(listener);
  // No port is kept after the close: there are only so many.
  const linger at_once{1, 0};
  for (int i = 0; i < 2; ++i) {
    setsockopt(sockets_[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    sides_[i] = FindSide(sockets_[i]);
    XENLOOP_REQUIRE(sides_[i] != nullptr);
    WantUpgrade(sides_[i]);
  }
  WorkOfTheAgent();
}

// A FIFO as it should be, or nearly. It stays mapped here, so that its header can be written later.
int Run::HostileMemory() {
  const size_t size = input_.OneIn(8) ? input_.Short() : FifoMemoryBytes(kCapacity);
  const int fd = memfd_create("hostile", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  XENLOOP_REQUIRE(ftruncate(fd, static_cast<off_t>(size)) == 0);
  if (size >= FifoMemoryBytes(kCapacity)) {
    if (last_fifo_ != nullptr) munmap(last_fifo_, FifoMemoryBytes(kCapacity));
    void* memory =
        mmap(nullptr, FifoMemoryBytes(kCapacity), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    XENLOOP_REQUIRE(memory != MAP_FAILED);
    last_fifo_ = Fifo::Initialise(memory, kCapacity).header;
    last_fifo_->consumer_ready.store(1);
    last_fifo_->identity = kIdentity;
    for (uint32_t i = input_.Below(4); i > 0; --i) HostileWrite(input_, last_fifo_, kCapacity);
  }
  fcntl(fd, F_ADD_SEALS, input_.OneIn(16) ? F_SEAL_GROW : F_SEAL_SHRINK | F_SEAL_GROW);
  return fd;
}

ControlMessage Run::Message() {
  ControlMessage message;
  message.type = static_cast<ControlType>(input_.Below(18));
  message.refusal = input_.Byte();
  message.agent_id = input_.Byte();
  message.netns_cookie = input_.OneIn(8) ? 1 : agent.netns_cookie;
  const Side* side = sides_[input_.Below(2)];
  const uint32_t slot = SlotOf(side);
  message.tuple = agent.sides[slot].tuple;
  message.receiver_slot = slot;
  message.receiver_generation = side->generation.load();
  message.sender_slot = input_.Byte();
  message.sender_generation = input_.Byte();
  if (input_.OneIn(8)) message.receiver_slot = static_cast<uint32_t>(input_.Word());
  if (input_.OneIn(8)) message.receiver_generation ^= input_.Byte();
  if (input_.OneIn(8)) input_.Take(&message.tuple, sizeof message.tuple);
  message.words[0] = kIdentity;
  message.words[1] = input_.Word();
  if (message.type == ControlType::kBell) message.words[0] = message.sender_slot * 5;
  if (input_.OneIn(16)) input_.Take(&message, sizeof message);
  return message;
}

void Run::SendPacket() {
  static constexpr const char* kQuestions[] = {"STAT\n", "OFF\n", "ON\n", "\n", "STAT", "X\n"};
  uint8_t packet[200] = {};
  size_t length = sizeof(ControlMessage);
  if (input_.OneIn(8)) {
    const char* question = kQuestions[input_.Below(6)];
    length = strlen(question);
    memcpy(packet, question, length);
  } else {
    const ControlMessage message = Message();
    memcpy(packet, &message, sizeof message);
    if (input_.OneIn(16)) length = input_.Below(sizeof packet + 1);
  }
  int fds[6];
  size_t count = 0;
  switch (input_.Below(6)) {
    case 0:
    case 1:
      fds[count++] = HostileMemory();
      break;
    case 2: {  // what a HELLO brings
      fds[count++] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      fds[count++] = memfd_create("page", MFD_ALLOW_SEALING | MFD_CLOEXEC);
      XENLOOP_REQUIRE(ftruncate(fds[1], kMostBells * kLineBytes) == 0);
      fcntl(fds[1], F_ADD_SEALS, F_SEAL_SHRINK);
      break;
    }
    case 3:
      for (uint32_t n = input_.Below(7); count < n;) {
        fds[count++] = input_.OneIn(2) ? open("/dev/zero", O_RDONLY | O_CLOEXEC) : HostileMemory();
      }
      break;
    default:
      break;
  }
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof fds)] = {};
  iovec iov{packet, length};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (count > 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
  }
  sendmsg(talk_, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  for (size_t i = 0; i < count; ++i) close(fds[i]);
}

// Reads what the agent says; its descriptors are closed with the packets.
void Run::DrainTalk() {
  uint8_t packet[4096];
  while (recv(talk_, packet, sizeof packet, MSG_DONTWAIT) > 0) {
  }
}

void Run::UseSides() {
  const uint32_t which = input_.Below(2);
  const int fd = sockets_[which];
  Side* side = sides_[which];
  uint8_t buffer[2000] = {};
  const iovec iov{buffer, 1 + input_.Short() % sizeof buffer};
  int message_flags = 0;
  switch (input_.Below(6)) {
    case 0:
      Send(fd, side, &iov, 1, MSG_DONTWAIT | MSG_NOSIGNAL, Interruption());
      break;
    case 1:
      Receive(fd, side, &iov, 1, MSG_DONTWAIT | (input_.OneIn(4) ? MSG_PEEK : 0), &message_flags,
              Interruption());
      break;
    case 2:  // what TCP carries
      if (EnterKernelSend(side)) {
        LeaveKernelSend(side, send(fd, buffer, iov.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL));
      }
      break;
    case 3:
      FallBack(fd, side, Reason::kMarkedPoint);
      break;
    case 4:
      shutdown(fd, input_.Below(3));
      break;
    default:
      WantUpgrade(side);
  }
}

// One turn of the agent's loop, with the sets' bits and events in its own order.
void Run::WorkOfTheAgent() {
  epoll_event events[8];
  const int n = epoll_wait(agent.epoll_fd, events, 8, 0);
  for (int i = 0; i < n; ++i) {
    const uint64_t tag = events[i].data.u64;
    if (static_cast<WatchKind>(tag >> 60) == WatchKind::kShadow) {
      ShadowEvent(tag & 0xffffff, static_cast<uint32_t>(tag >> 24), events[i].events);
    }
  }
  for (uint32_t slot = 0; slot < 64; ++slot) {
    const uint64_t bit = uint64_t{1} << slot;
    if ((Arena()->service.words[0].fetch_and(~bit) & bit) != 0) ServiceSide(slot);
    if ((Arena()->wanted.words[0].fetch_and(~bit) & bit) != 0) ConsiderSide(slot);
  }
  if (agent.talks[kTalk].in_use && agent.talks[kTalk].full) GoOnSending(kTalk);
  DeliverPost();
}

void Run::Step() {
  switch (input_.Below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      SendPacket();
      if (input_.OneIn(4)) break;
      [[fallthrough]];
    case 4:
      TalkEvent(kTalk, EPOLLIN);
      break;
    case 5:
      UseSides();
      break;
    case 6:
      if (last_fifo_ != nullptr) HostileWrite(input_, last_fifo_, kCapacity);
      break;
    case 7: {  // a side that waits for this talk's HELLO, so that it makes an offer
      const uint32_t slot = SlotOf(sides_[input_.Below(2)]);
      AgentSide& note = agent.sides[slot];
      Talk& talk = agent.talks[kTalk];
      if (note.stage != Stage::kPublished || !talk.in_use || talk.fd < 0) break;
      note.talk = kTalk;
      ++talk.sides;
      note.stage = Stage::kWaiting;
      if (talk.ready) TalkReady(kTalk);
      break;
    }
    case 8:
      WorkOfTheAgent();
      break;
    default:
      if (input_.OneIn(8)) TalkEvent(kTalk, EPOLLHUP);
      DrainTalk();
      ReclaimIdleMemory(0);
  }
}

Run::~Run() {
  for (const int fd : sockets_) {
    XENLOOP_REQUIRE(BeforeClose(fd) == 0);
    close(fd);
  }
  agent_shared.refused_for_now.store(Switch::kOn);
  if (agent.talks[kTalk].in_use) TalkGone(kTalk);
  close(talk_);
  for (int i = 0; i < 4; ++i) WorkOfTheAgent();
  if (last_fifo_ != nullptr) munmap(last_fifo_, FifoMemoryBytes(kCapacity));
  XENLOOP_REQUIRE(!agent.talks[kTalk].in_use);
  XENLOOP_REQUIRE(agent.talks[kTalk].first_unsent == 0);
  for (uint32_t slot = 0; slot < 64; ++slot) {
    XENLOOP_REQUIRE(agent.sides[slot].mine.memory == nullptr);
    XENLOOP_REQUIRE(agent.sides[slot].theirs.memory == nullptr);
  }
  XENLOOP_REQUIRE(Arena()->used.words[0].load() == 0);
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop;
  using namespace xenloop::fuzz;
  static const bool started = (StartAgent(), true);
  static_cast<void>(started);
  Input input(bytes, size);
  const int open_before = OpenDescriptors();
  {
    Run run(input);
    for (int step = 0; step < 60 && !input.Empty(); ++step) run.Step();
  }
  XENLOOP_REQUIRE(OpenDescriptors() == open_before);
  return 0;
}
