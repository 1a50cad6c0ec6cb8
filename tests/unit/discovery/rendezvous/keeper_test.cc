// The process that holds descriptors after the daemon's end: the real one, started by a daemon that
// ends.
#include "discovery/daemon/rendezvous/keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

// The process of the keeper's name that holds the pipe of this number; 0: none yet.
pid_t HolderOf(const std::string& pipe) {
  pid_t found = 0;
  DIR* const all = opendir("/proc");
  while (const dirent* entry = readdir(all)) {
    const std::string process = "/proc/" + std::string(entry->d_name);
    std::ifstream file(process + "/cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.c_str() != std::string(kKeeperName)) continue;
    for (int fd = 0; fd < 16; ++fd) {
      char name[64] = "";
      if (readlink((process + "/fd/" + std::to_string(fd)).c_str(), name, sizeof name - 1) > 0 &&
          name == pipe) {
        found = static_cast<pid_t>(std::atoi(entry->d_name));
      }
    }
  }
  closedir(all);
  return found;
}

TEST(KeeperTest, DescriptorsOutliveTheDaemonAndSignals) {
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const pid_t daemon = fork();
  if (daemon == 0) {
    Keeper keeper(XENLOOPD);
    _exit(keeper.Keep(pipe_ends[1]) && keeper.Keep(pipe_ends[1]) ? 0 : 1);
  }
  char name[64] = "";
  ASSERT_GT(
      readlink(("/proc/self/fd/" + std::to_string(pipe_ends[1])).c_str(), name, sizeof name - 1),
      0);
  close(pipe_ends[1]);
  int status = -1;
  waitpid(daemon, &status, 0);
  ASSERT_EQ(status, 0);
  pid_t keeper = 0;
  while (keeper == 0) keeper = HolderOf(name);
  kill(keeper, SIGTERM);
  kill(keeper, SIGHUP);
  pollfd end = {pipe_ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 200), 0) << "the last descriptor of the pipe was closed";
  kill(keeper, SIGKILL);
  EXPECT_EQ(poll(&end, 1, -1), 1);
  EXPECT_EQ(end.revents, POLLHUP);
  close(pipe_ends[0]);
}

}  // namespace
}  // namespace xenloop
