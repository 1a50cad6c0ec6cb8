// xenloopd's main(): options, signals, the log, the word to systemd. The work is in
// discovery/daemon/.

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "discovery/daemon/discovery_daemon.h"
#include "discovery/daemon/rendezvous/keeper.h"
#include "discovery/daemon/rendezvous/rendezvous.h"
#include "discovery/daemon/xenstore/xenstore_client.h"
#include "discovery/protocol/descriptors.h"
#include "tools/agent_address.h"
#include "tools/agent_client.h"

ABSL_FLAG(bool, dom0, false, "collate the guests that take part, and tell them of each other");
ABSL_FLAG(bool, peers, false, "print the peers that are known, and end");
ABSL_FLAG(uint16_t, position_port, xenloop::kPositionPort,
          "UDP, between daemons, after a suspension without notice; 0: none");
ABSL_FLAG(std::string, directory, "/run/xenloop", "where the table of peers is");

namespace xenloop {
namespace {

constexpr char kHelp[] = R"(NAME
    xenloopd - find the coresident guests of a Xen host

SYNOPSIS
    xenloopd [--directory=DIR] [--position_port=PORT]
    xenloopd --dom0 [--directory=DIR] [--position_port=PORT]
    xenloopd --peers [--directory=DIR]
    xenloopd --help | --version

DESCRIPTION
    Runs in every guest that takes part, and with --dom0 in Dom0, as root,
    best started by systemd (xenloopd.service, xenloopd-dom0.service).

    In a guest it says in XenStore that the guest takes part, reads which
    other guests on this host do and which network cards are theirs, and
    keeps the table of peers, DIR/peers: whose is which address, by the
    guest's own neighbour table. Programs under libxenloop read that table
    without a system call. In Dom0 it watches which guests take part and
    tells each of them of the others, and keeps a table for Dom0's own
    programs.

    --dom0             this is Dom0
    --directory=DIR    instead of /run/xenloop
    --peers            print the table (address, domid, generation), and end
                       with status 1 if there is none

    --position_port=PORT
                       UDP port (18009), the same in all guests: here a guest
                       that was saved or moved without notice asks its peers,
                       wherever they are by then, how far they have read. Such
                       streams are reset if it is closed (0 closes it)

    Needs libxenstore4 and libxenevtchn1, and says so where they are missing.
    On a machine without Xen, xenloopd says so and ends with status 2.
    Processes and containers of one kernel need no daemon: see xenloop(1).

FILES
    /run/xenloop/peers   the table; root's, readable for all
)";

constexpr int kExitNotHere = 2;

void Log(const std::string& line) { std::fprintf(stderr, "xenloopd: %s\n", line.c_str()); }

// sd_notify(3), without its library; with a descriptor for systemd to keep, if there is one.
void TellSystemd(const char* state, int descriptor = -1) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address = {};
  if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  iovec text{const_cast<char*>(state), std::strlen(state)};
  DescriptorRoom<1> room;
  msghdr message = {};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  room.Put(&descriptor, descriptor >= 0 ? 1 : 0, &message);
  if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
    Log(absl::StrCat("systemd's socket: ", strerror(errno)));
  close(fd);
}

int PrintPeers(const std::string& table_path) {
  PeerTable table;
  if (const int error = table.Open(table_path.c_str(), geteuid()); error != 0) {
    std::fprintf(stderr, "xenloopd: %s: %s\n", table_path.c_str(), strerror(-error));
    return 1;
  }
  std::vector<PeerTableRow> rows(kPeerTableCapacity);
  rows.resize(table.Snapshot(rows.data(), rows.size()));
  for (const PeerTableRow& row : rows) {
    Address address;
    memcpy(address.data(), row.address, address.size());
    std::printf("%s %u %u\n", FormatAddress(address).c_str(), row.peer.domid, row.peer.generation);
  }
  return 0;
}

// Readable when it is time to end. Blocked before any thread is made, so for all of them.
int StopDescriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

// A guest has come: connections that were there before need not wait until their programs' next
// attempts. Agents of this network namespace; others find it by themselves.
void TellProgramsToLook() {
  tools::AgentPlaces places;
  tools::AskAgents(tools::FindAgents(places, geteuid()), "LOOK\n", tools::AskLimits());
}

// Each talk between programs of two guests costs descriptors here.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int Serve(bool dom0, const std::string& directory) {
  const int stop = StopDescriptor();
  RaiseDescriptorLimit();
  {
    const absl::StatusOr<std::unique_ptr<XenStoreClient>> probe = XenStoreClient::Open();
    if (!probe.ok() && access("/proc/xen", F_OK) != 0 && access("/dev/xen", F_OK) != 0) {
      Log("this is no Xen guest; programs on one machine need no daemon: `xenloop run`");
      return kExitNotHere;
    }
  }
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    Log(absl::StrCat(directory, ": ", strerror(errno)));
    return 1;
  }
  DaemonPlaces places;
  places.table = directory + "/peers";
  const auto open_store = []() -> absl::StatusOr<std::unique_ptr<XenStore>> {
    absl::StatusOr<std::unique_ptr<XenStoreClient>> client = XenStoreClient::Open();
    if (!client.ok()) return client.status();
    return std::unique_ptr<XenStore>(*std::move(client));
  };
  places.open_store = open_store;
  places.log = Log;
  places.ready = [] { TellSystemd("READY=1"); };
  DiscoveryDaemon daemon(dom0, std::move(places));
  if (daemon.Open() != 0) return 1;
  RendezvousPlaces meeting;
  meeting.directory = directory;
  meeting.position_port = absl::GetFlag(FLAGS_position_port);
  meeting.open_store = open_store;
  meeting.log = Log;
  // Not polled: systemd would close a port that reports an error.
  meeting.keep = [keeper = std::make_shared<Keeper>("/proc/self/exe")](int descriptor) {
    if (!keeper->Keep(descriptor)) Log(absl::StrCat("no keeper: ", strerror(errno)));
    TellSystemd("FDSTORE=1\nFDPOLL=0\nFDNAME=suspended", descriptor);
  };
  meeting.look = [] { std::thread(TellProgramsToLook).detach(); };
  if (const absl::Status status = StartRendezvous(std::move(meeting)); !status.ok()) {
    // Peers can be known without it; programs stay on TCP.
    Log(absl::StrCat("no rendezvous: ", status.message()));
  }
  while (daemon.Turn(stop, std::chrono::minutes(1))) {
  }
  TellSystemd("STOPPING=1");
  daemon.Withdraw();
  return 0;
}

int Main(int argc, char** argv) {
  if (argc > 0 && std::strcmp(argv[0], kKeeperName) == 0) HoldDescriptors();
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (std::strcmp(argv[i], "--version") == 0 || std::strcmp(argv[i], "-V") == 0) {
      std::printf("xenloopd %s\n", XENLOOP_VERSION);
      return 0;
    }
  }
  if (absl::ParseCommandLine(argc, argv).size() > 1) {
    std::fprintf(stderr, "xenloopd: takes no operands; see xenloopd --help\n");
    return kExitNotHere;
  }
  const std::string directory = absl::GetFlag(FLAGS_directory);
  if (absl::GetFlag(FLAGS_peers)) return PrintPeers(directory + "/peers");
  return Serve(absl::GetFlag(FLAGS_dom0), directory);
}

}  // namespace
}  // namespace xenloop

int main(int argc, char** argv) { return xenloop::Main(argc, argv); }
