"""What layers.py checks: who may include whom, what stands in one place only, how long files may be."""

import re

PRODUCT = ("preload", "channel", "discovery", "tools")
WITH_TESTS = PRODUCT + ("bench", "tests")
SOURCES = (".h", ".cc", ".c", ".S", ".def")

# What a folder outside preload/ may include besides its own files: folders (a folder is not its
# subfolders) and single files. Nothing of preload/ but for what stands here.
ALLOWED = {
    "channel/base": [],
    "channel": ["channel/base"],
    # A transport sees the interface of transports, and neither streams nor the other transport.
    "channel/local": ["channel/base", "channel/transport.h"],
    "channel/xen": ["channel/base", "channel/transport.h"],
    "discovery": ["channel/base", "discovery/protocol"],
    "discovery/protocol": ["channel/base"],
    "discovery/daemon/xenstore": ["discovery"],
    "discovery/daemon": ["discovery", "discovery/daemon/xenstore"],
    # Daemons join a FIFO for the processes of two guests (bridge.h), so they know Xen's transport.
    "discovery/daemon/rendezvous": ["discovery", "discovery/protocol", "discovery/daemon/xenstore",
                                    "channel/transport.h", "channel/xen"],
    "tools": ["preload/settings", "discovery", "discovery/protocol", "discovery/daemon",
              "discovery/daemon/xenstore", "discovery/daemon/rendezvous"],
}
# Every room of preload/ may include the rooms below it in README.md's order, and these.
BELOW_PRELOAD = ["channel", "channel/base", "discovery", "discovery/protocol"]
# The agent chooses the transport, so it alone sees the transports; Xen's is seen by agent_xen.cc (Only "xen-transport").
TRANSPORTS_SEEN_BY = {"preload/agent": ["channel/xen", "channel/local"]}
# Facts for programs, not for the library: what these may include of other projects.
FOREIGN = {"": ("absl/base/thread_annotations.h",),  # macros only, so also for the library
           "discovery/daemon": ("absl/",), "tools": ("absl/",)}


class Only:
    """A pattern that stands nowhere but in `places` (a folder ends with /). `planted`: what must be found."""

    def __init__(self, name, pattern, places, planted, within=PRODUCT, says=""):
        self.name, self.pattern, self.places = name, re.compile(pattern), tuple(places)
        self.planted, self.within, self.says = planted, within, says or name

    def Permits(self, path):
        return any(path == p or (p.endswith("/") and path.startswith(p)) for p in self.places)


LIBRARY = ("preload", "channel", "discovery")
DAEMON = "discovery/daemon/"  # a program of its own, like tools/

ONLY = [
    Only("libc-symbol", r'\bXENLOOP_(EXPORT|ALIAS)\b|visibility\("default"\)',
         ["preload/abi/", "preload/libc/export.h"],
         ("preload/socket/send.cc", "XENLOOP_EXPORT int listen(int fd, int backlog) { return 0; }"),
         says="libc's names are defined in preload/abi/"),
    Only("errno", r"(?<![\w.>])errno\s*(=(?!=)|\+\+|[-+|&]=)|__errno_location",
         ["preload/libc/errno.h", DAEMON, "tools/"],
         ("preload/ready/poll.cc", "void Planted() { errno = 5; }"),
         says="errno is set in preload/libc/errno.h"),
    #   loaded_library.h        xenloopd and xenloop, which also start where Xen's libraries are not installed
    Only("dlsym", r"\bdlv?sym\s*\(|\bdlopen\s*\(", ["discovery/daemon/xenstore/loaded_library.h"],
         ("preload/process/init.cc", 'void* planted = dlsym(nullptr, "read");'),
         says="libc's functions are looked up by preload/libc/symbols.cc, Xen's by loaded_library.h"),
    # A spawned program is found as execvp finds it, by the PATH of that moment. The settings come
    # from the environment that the constructor is given.
    Only("getenv", r"\b(secure_)?getenv\s*\(|\benviron\b",
         ["preload/process/inheritance.cc", DAEMON, "tools/"],
         ("preload/settings/config.cc", 'const char* planted = getenv("XENLOOP_LOG");'),
         says="the environment is read in one place"),
    # One place would be wait.cc. Narrower, since not all sleeps are data calls:
    #   kernel_wait.cc, select.cc   a readiness call sleeps in the kernel, with all its descriptors
    #   self.h                   takes a lock of its own frame, to read who holds it
    #   abi/                     passes a call of the program's through
    #   lock.h, xen_calls.cc     give way for some microseconds to whoever holds the word or the page
    #   readiness.cc, lent_bell.cc, shadow.h, datagram_side.cc   look, with a time-out of zero
    #   fallback.cc, receive_kernel.cc  wait a bounded time for bytes that are on their way to TCP (D-7)
    #   agent/                   a thread of our own
    #   program_memory.cc        wakes nobody, to see whether a page can be written
    #   test_points.cc           tests only
    Only("blocking-call",
         r"\bSYS_(futex|nanosleep|clock_nanosleep|ppoll|poll|select|pselect6|epoll_p?wait2?)\b"
         r"|\bFutexWait\s*\(|\breal::(p?poll|p?select|epoll_p?wait2?|nanosleep|usleep)\b"
         r"|\b(Nap|usleep|nanosleep|pthread_mutex_lock|pthread_cond_wait|sem_wait)\s*\(",
         ["preload/side/wait.cc", "preload/side/self.h", "preload/ready/kernel_wait.cc", "preload/ready/select.cc",
          "preload/abi/", "preload/libc/real.cc", "preload/libc/program_memory.cc", "channel/base/sys.h", "channel/base/time.h", "channel/base/lock.h",
          "channel/xen/xen_calls.cc", "preload/ready/readiness.cc", "preload/ready/lent_bell.cc",
          "preload/side/shadow.h", "preload/side/fallback.cc", "preload/socket/receive_kernel.cc",
          "preload/agent/", "preload/side/datagram_side.cc", "preload/socket/datagram_transfer.cc", "preload/socket/test_points.cc", DAEMON, "tools/"],
         ("preload/socket/send.cc", "void Planted() { sys::FutexWait(nullptr, 0, nullptr); }"),
         says="calls that block stand in preload/side/wait.cc and where tests/layers says"),
    # One place cannot be: FIFOs, routes and sides are words that threads and processes share. But
    # the facade, the settings, the protocol, daemons and tools have none, except for the two ends
    # of the peer table.
    Only("memory-order", r"\bmemory_order_|\b__ATOMIC_",
         ["channel/", "preload/process/", "preload/socket/", "preload/agent/", "preload/ready/",
          "preload/side/", "preload/libc/real.cc", "preload/libc/real.h", "preload/libc/program_memory.cc",
          "preload/libc/threads.cc",
          "discovery/peer_table.cc", "discovery/daemon/peer_table_writer.cc"],
         ("preload/abi/abi_file.cc",
          "int Planted(std::atomic<int>& word) { return word.load(std::memory_order_relaxed); }"),
         says="orders of memory are no matter of this folder"),
    Only("xen-header", r"#\s*include\s*<xen", ["channel/xen/xen_calls.cc",
                                               "discovery/daemon/xenstore/xenstore_client.cc",
                                               "discovery/daemon/rendezvous/event_channels.cc"],
         ("preload/agent/agent_xen.cc", "#include <xen/grant_table.h>"),
         says="Xen's headers are included in channel/xen/xen_calls.cc, libraries' in xenstore_client.cc and event_channels.cc"),
    # Daemons join the FIFOs of two guests' processes.
    Only("xen-transport", r'#\s*include\s*"channel/xen/', ["preload/agent/agent_xen.cc", "channel/xen/", DAEMON],
         ("preload/agent/agent_stream.cc", '#include "channel/xen/xen_transport.h"'),
         says="Xen's transport is a matter of agent_xen.cc and the daemons"),
    # In Dom0 `xenloop quiesce` and its like (move_command.cc) writes the domains' pages itself.
    Only("xenstore", r'\bxs_\w+\s*\(|"/?(local/domain|data/xenloop)',
         ["discovery/daemon/", "tools/move_command.cc"],
         ("discovery/registry.cc", 'const char* const kPlanted = "/local/domain/0";'),
         says="XenStore is a matter of discovery/daemon/"),
    Only("log-line",
         r"(?<!:)(?<!\w)(std::)?(printf|fprintf|fputs|puts|perror|syslog|fopen|fwrite)\s*\("
         r"|std::c(out|err)\b|\bSTD(ERR|OUT)_FILENO\b|\bAppendLine\s*\(",
         ["preload/side/log.cc", "preload/side/log.h", "preload/side/stats.cc", "preload/abi/abi_new.cc", DAEMON, "tools/"],
         ("preload/agent/agent.cc", 'void Planted() { fprintf(stderr, "hello"); }'),
         says="lines are written by preload/side/log.cc"),
    # channel/ carries bytes: whose they are is not its business.
    Only("socket-in-channel", r"\bsockaddr\w*\b|\b(send|recv)(msg|from|to)?\s*\(|\breal::",
         [], ("channel/send_stream.h", "inline int Planted(const sockaddr* a) { return 0; }"),
         within=("channel",), says="channel/ knows no addresses and no socket calls"),
]

# Long-lived mutable globals: all of them, by file. One place would be one struct; but a word that
# only one file touches is better off in that file. A new one is a decision: it needs a line here,
# and an answer to what a forked child does with it.
GLOBALS = {
    "channel/base/abandon.h": "innermost_",
    "channel/base/descriptor.h": "low_numbers",  # nothing is under way in a child
    "channel/xen/xen_calls.cc": "descriptors generation",
    "channel/xen/xen_transport.cc": "calls budget next_identity sleeper_pages sleeper_page_count",
    "preload/agent/agent.cc": "agent",
    "preload/agent/agent_bells.cc": "told",  # each agent begins with its talks
    "preload/agent/agent_xen.cc": "xen",
    "preload/libc/program_memory.cc": "known_pages believing nobody_waits",
    "preload/libc/real.cc": "table preloads preload_count callers caller_count",
    "preload/libc/threads.cc": "create set_stack_size test_cancel register_cancel unregister_cancel"
                               " unwind_next single_threaded",
    "preload/process/handlers.cc": "of_signal interrupts",  # a child inherits the actions as well
    "preload/process/inheritance.cc": "at_exec",
    "preload/side/leaving.cc": "attempt",
    "preload/process/init.cc": "process_state cached_tid",
    "preload/ready/datagram_epoll.cc": "watch_lock all_watches watches_end",  # a child begins without any
    "preload/ready/epoll.cc": "blocks lowest_free",
    "preload/ready/epoll_convert.cc": "text",  # scratch space, under registrations_lock
    "preload/ready/epoll_lazy.cc": "marked marks",  # under registrations_lock
    "preload/ready/epoll_registrations.cc": "registrations_lock in_doubt of_side registrations"
                                            " used_registrations first_free tag_base",
    "preload/ready/epoll_inherited.cc": "starts makes_child ever_inherited",  # a child has started nothing
    "preload/ready/epoll_shared.cc": "words_of_block",  # a child makes its own
    "preload/ready/epoll_wait.cc": "next_token",
    "preload/ready/lent_bell.cc": "first_bells blocks last_lent",
    "preload/settings/config.cc": "current",
    "preload/side/confinement.cc": "looks looked",  # prepared for the child that is about to be
    "preload/side/bells.cc": "makes own lent held_of_peers",  # forgotten, as the doorbell is
    "preload/side/bulletin.cc": "bulletin",
    "preload/side/datagram_counts.cc": "counts_lock closed",  # a child forgets them
    "preload/side/datagram_side.cc": "datagrams_due sides",  # likewise
    "preload/side/fd_table.cc": "low_ far_ end_",
    "preload/side/fd_table.h": "low_ far_ end_",
    "preload/side/bare_wait.h": "outermost_ forbidden_",  # its thread goes on in the child
    "preload/side/interruption.cc": "handler_counts planted_signal",  # its thread goes on in the child
    "preload/side/lent_memory.cc": "pieces lent",
    "preload/side/log.cc": "program",
    "preload/side/own_doorbell.cc": "agent_shared",
    "preload/side/parked.cc": "parked parks_something",  # a child forgets it
    "preload/side/side.cc": "arena",
    "preload/side/stats.cc":
        "fallbacks connections upgraded tcp_sent tcp_received fifo_sent fifo_received written never_upgraded",
    "preload/socket/submissions.cc": "queues",  # the mappings are shared memory, in a child as well
    "preload/side/wait.cc": "shared_history crowded_waits",
    "preload/side/forked_holders.cc": "left_since look_at",  # when to look: a child finds none of its own
    "preload/side/unseen_holders.cc": "left_some",  # a look too many in a child finds none
}

LONGEST_IN_PRELOAD = 450
LONGEST_FUNCTION = 60
NINE_OF_TEN_IN_PRELOAD = 300
