// A program that locks itself in, or changes what a thread of it may do or see. What the kernel
// does to one thread only must not leave the agent behind outside, and what it does to all must not
// meet it: so the agent's thread ends first.
#pragma once

namespace xenloop {

// A system call filter (seccomp) is about to be installed: from here on this library makes no call
// of its own. Sockets go back to TCP for good and are forgotten, the agent and all descriptors of
// ours are gone when this returns, statistics are written.
void BeforeSandbox();

// PR_SET_NO_NEW_PRIVS: what a program without privileges must do before it installs a filter,
// perhaps by a call that we cannot see. As above, until a new connection finds that none has come;
// epoll sets are remembered for that, which costs no call.
void BeforeNoNewPrivileges();

// unshare, setns, capset, landlock, a raw setuid: the kernel wants a single thread, or changes the
// calling one only. The agent ends; connections are upgraded anew later, by one that was started
// behind the change. Of descriptors: it may be BeforeOwnDescriptors that comes next.
void BeforeThreadChange(bool of_descriptors);
void AfterThreadChange();

// unshare(CLONE_FILES), clone without CLONE_FILES: a thread is about to have numbers of its own for
// descriptors, and there is one table of ours. The whole process stays on TCP, as in a sandbox.
void BeforeOtherDescriptors();
// The same, unless the calling thread is the only one: it keeps its descriptors then. Between the
// two calls above. True: this process is on TCP for good.
bool BeforeOwnDescriptors();

}  // namespace xenloop
