// One half of a transfer between two separately started processes, for ends in different network
// namespaces (two_namespaces.sh) or under different users. No gtest: prints, and exits 0 or 1.

#pragma once

namespace conformance {

constexpr const char* kRoleUsage =
    "--role=server|client --address=ADDRESS --port=PORT [--bytes=N] [--seconds=N] | --role=heir "
    "--fd=N|--channel=N --from=N --bytes=N [--shared=1]";

int RunRole(int argc, char** argv);

}  // namespace conformance
