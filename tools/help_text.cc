// The texts of --help; see help_text.h.

#include "tools/help_text.h"

namespace xenloop::tools {
namespace {

constexpr char kOverview[] = R"(NAME
    xenloop - let unmodified programs on one machine talk through shared memory

SYNOPSIS
    xenloop run [--stats [--json]] [--] PROGRAM [ARGUMENT...]
    xenloop stat [--json] [--watch [--interval=SECONDS]]
    xenloop doctor [--json] [PROGRAM | PID]
    xenloop off
    xenloop on
    xenloop leave
    xenloop arrive
    xenloop help [COMMAND]
    xenloop --version

DESCRIPTION
    When both ends of a TCP connection run on this machine with the library
    libxenloop.so, its bytes go through shared memory instead of TCP. Whatever
    is not possible that way stays, or goes back to, TCP, and the programs see
    no difference but the time it takes.

COMMANDS
    run      start a program with the library
    stat     show the live streams of this machine and their routes
    doctor   why a program is or is not accelerated, and what to do
    off, on  put all streams back on TCP; let them use shared memory again
    quiesce, release, migrate, save, suspend, restore
             before and after a Xen guest moves; for Dom0
    leave, arrive   before and after a network namespace moves to another realm

    `xenloop COMMAND --help` says more about each.

EXAMPLES
    xenloop run redis-server --port 6379
    xenloop run --stats redis-benchmark -t get -q
    xenloop stat --watch
)";

constexpr char kRun[] = R"(NAME
    xenloop run - start a program with the library

SYNOPSIS
    xenloop run [--stats [--json]] [--] PROGRAM [ARGUMENT...]

DESCRIPTION
    Puts libxenloop.so in front of LD_PRELOAD, sets XENLOOP=on, and becomes
    PROGRAM. Its children inherit both. Both ends of a connection need the
    library: start the server and the client this way. Options stand before
    PROGRAM; everything after it belongs to it.

    The library is looked for in ../lib beside the tool, then where it was
    installed.

OPTIONS
    --stats   Wait for PROGRAM, passing signals on to it, then print what its
              processes report to standard error: connections, how many were
              upgraded, bytes by route, and why connections were on TCP. A
              process that was killed, or that outlives PROGRAM, reports
              nothing.
    --json    With --stats: print one line of JSON instead of a table.

EXIT STATUS
    That of PROGRAM; 128 + N if signal N ended it (with --stats; without it
    PROGRAM takes the tool's place, and the signal is the caller's to see).
    125  xenloop itself failed (no library, no temporary file)
    126  PROGRAM cannot be executed
    127  PROGRAM was not found
)";

constexpr char kStat[] = R"(NAME
    xenloop stat - show the live streams of this machine

SYNOPSIS
    xenloop stat [--json] [--watch [--interval=SECONDS]]

DESCRIPTION
    Asks the agent of every process that has one (yours; as root, everybody's)
    and prints one line for each end of a connection:

    PROGRAM PID FD      the process and its descriptor
    LOCAL PEER          addresses
    PEER-PID            the process at the other end, if known
    ROUTE               local (shared memory) or tcp; send/receive if they differ
    FIFO-OUT FIFO-IN    bytes through shared memory
    TCP-OUT TCP-IN      bytes through TCP
    REASON              why it is on TCP, or why it last fell back

    The agents of this network namespace are found in /proc/net/unix; those of
    a realm (several namespaces joined by the administrator) in the directory
    XENLOOP_RUNTIME_DIR, or runtime_dir of /etc/xenloop.conf. An agent that
    does not answer in time, or answers nonsense, becomes a note below the
    table.

OPTIONS
    --json              Print JSON: processes, their streams, and notes.
    --watch             Again every second, with a column RATE, until Ctrl-C;
                        with --json one line of JSON each time.
    --interval=SECONDS  With --watch: another pause; 0.1 at least.

EXIT STATUS
    0, also if there is no stream.
)";

constexpr char kDoctor[] = R"(NAME
    xenloop doctor - why is a program accelerated or not, and what to do

SYNOPSIS
    xenloop doctor [--json] [PROGRAM | PID]

DESCRIPTION
    Without operand: looks at the library, /etc/ld.so.preload,
    /etc/xenloop.conf, the environment, the runtime directory, and what the
    kernel allows.

    PROGRAM: these, and whether the executable can take a preloaded library:
    static, setuid, file capabilities, 32-bit, not glibc, Go.

    PID: the same for a running process as it really is: is the library in it,
    does its agent answer, and where is each of its streams, and why.
    A program whose name is a number is given with a path: ./123.

    Each line begins with ok, note or PROBLEM; what to do stands below, after
    an arrow. Nothing is changed.

OPTIONS
    --json   The same as JSON, with what somebody else needs to know to help:
             versions, limits, namespaces, sandbox, realm, settings and rules,
             agents and their reasons, Xen. No command lines, no variables but
             LD_PRELOAD and our own, no names or addresses of machines.

EXIT STATUS
    0  no problem
    1  a problem was found
    2  wrong usage
)";

constexpr char kSwitch[] = R"(NAME
    xenloop off, xenloop on - leave shared memory; return to it

SYNOPSIS
    xenloop off
    xenloop on

DESCRIPTION
    `off` tells the agents of all running programs that you may command (yours;
    as root, everybody's) to put their streams back on TCP and to leave them
    there. The connections go on; no byte is lost. `on` lets them use shared
    memory again.

    As root both are for the whole machine: programs that are started while it
    is switched off stay on TCP, too, until `on`. As an ordinary user they
    concern the processes that have an agent now; for later ones set
    XENLOOP=off.

EXIT STATUS
    0  every agent obeyed, or there was none
    1  an agent did not obey or did not answer; it is named
)";

constexpr char kRealmMove[] = R"(NAME
    xenloop leave, xenloop arrive - move a network namespace to another realm

SYNOPSIS
    xenloop leave
    xenloop arrive

DESCRIPTION
    For containers that are moved between realms (see XENLOOP_RUNTIME_DIR in
    xenloop(1)), and for trying on one machine what happens when a Xen guest
    migrates. Run it in the container's network namespace.

    `leave` tells the programs in this network namespace to put their streams
    back on TCP, to let go of all shared memory, and to meet nobody until
    `arrive`. When it ends with 0 they have.

    `arrive` tells them to look where the name of their realm's directory
    leads now, and to look for peers at once. It finds the programs where they
    were: give it the former realm's directory as XENLOOP_RUNTIME_DIR.

    Xen guests: see `xenloop quiesce --help`.

EXIT STATUS
    0  every agent obeyed, or there was none
    1  an agent did not obey or did not answer; it is named
)";

constexpr char kMove[] = R"(NAME
    xenloop quiesce, xenloop release, xenloop migrate, ... - move a Xen guest

SYNOPSIS (in Dom0)
    xenloop quiesce [--timeout=SECONDS] [--force] DOMAIN
    xenloop release DOMAIN
    xenloop migrate [--timeout=SECONDS] [--force] [XL-OPTION...] DOMAIN HOST
    xenloop save    [--timeout=SECONDS] [--force] [XL-OPTION...] DOMAIN FILE
    xenloop suspend [--timeout=SECONDS] [--force] [XL-OPTION...] DOMAIN
    xenloop restore [XL-OPTION...] FILE

DESCRIPTION
    A guest must not be moved, saved or suspended while it shares memory with
    others. `quiesce` tells its xenloopd to prepare: every program in it, and
    every peer's program that talks to it, goes back to TCP and lets go of all
    shared memory and event channels. It waits until the guest says that it is
    ready. If that takes longer than the time-out (10 s), it names the
    processes that have not answered, and leaves everything as it was.
    DOMAIN is a name or a number.

    `release` is for a guest that was not moved after all. A guest that has
    arrived elsewhere needs none: its streams return to shared memory, to the
    peers that are there, by themselves.

    `migrate`, `save` and `suspend` are quiesce, then `xl` of that name with
    the arguments as they are, then release if xl fails. (After `xl resume` of
    a suspended guest, say release.) `restore` is `xl restore`.

    --timeout=SECONDS  wait longer, or less
    --force            go on although the guest is not ready

ENVIRONMENT
    XENLOOP_XL  the program to call instead of xl

EXIT STATUS
    that of xl; 1 if the guest was not ready, 3 if there is no such guest
)";

}  // namespace

const char* HelpText(absl::string_view command) {
  if (command == "run") return kRun;
  if (command == "stat") return kStat;
  if (command == "doctor") return kDoctor;
  if (command == "off" || command == "on") return kSwitch;
  if (command == "leave" || command == "arrive") return kRealmMove;
  for (const char* move : {"quiesce", "release", "migrate", "save", "suspend", "restore"}) {
    if (command == move) return kMove;
  }
  return kOverview;
}

}  // namespace xenloop::tools
