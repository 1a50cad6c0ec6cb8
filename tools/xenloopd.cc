// xenloopd will find the coresident guests of a Xen host and carry their tickets. This version has
// no Xen transport, so the program only says so: starting it would do nothing.

#include <cstdio>
#include <cstring>

namespace {

constexpr char kHelp[] = R"(NAME
    xenloopd - find coresident guests of a Xen host (not in this version)

SYNOPSIS
    xenloopd --help
    xenloopd --version

DESCRIPTION
    Between the guests of one Xen host, libxenloop is to use memory that one
    guest grants to another. Somebody in each guest must then watch XenStore:
    which guests are on this host, which MAC addresses are theirs, when one
    migrates away. That is what xenloopd is for.

    This version of libxenloop contains neither the Xen transport nor this
    discovery. Started without --help or --version, xenloopd prints a message
    and exits with status 2.

    Processes and containers of one kernel need no daemon: see xenloop(1).
)";

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0)) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (argc == 2 && (std::strcmp(argv[1], "--version") == 0 || std::strcmp(argv[1], "-V") == 0)) {
    std::printf("xenloopd %s (no Xen transport in this version)\n", XENLOOP_VERSION);
    return 0;
  }
  std::fputs(
      "xenloopd: this version of libxenloop has no Xen transport; there is nothing for a daemon "
      "to do.\n"
      "xenloopd: programs on one machine need none: start them with `xenloop run`.\n",
      stderr);
  return 2;
}
