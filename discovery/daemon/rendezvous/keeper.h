// A process that does nothing but hold descriptors which must not be closed as long as this guest
// runs (suspended.cc). It outlives the daemon, whoever ends that one: systemd's descriptor store
// does not
// (`systemctl stop` empties it, and then the kernel's fault is one of the first process: the guest
// ends). It is this program again, under a name that begins with @: the last round of a shutdown
// passes over such a one, so that it holds until the machine is off.
#pragma once

namespace xenloop {

class Keeper {
 public:
  explicit Keeper(const char* program) : program_(program) {}
  ~Keeper();  // the process stays
  Keeper(const Keeper&) = delete;

  // A copy of it stays open. False: it could not be given to the process.
  bool Keep(int descriptor);

 private:
  bool Start();

  const char* const program_;
  int socket_ = -1;
};

inline constexpr char kKeeperName[] = "@xenloopd-keeper";
// What a process of that name is to do; never returns.
[[noreturn]] void HoldDescriptors();

}  // namespace xenloop
