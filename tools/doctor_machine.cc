// The doctor's checks of the machine: library, loader, runtime directory and what the kernel must
// give us; see doctor.h.

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/doctor.h"
#include "tools/elf_file.h"
#include "tools/environment.h"
#include "tools/library_path.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kLeastFreeBytes = 1u << 20;
constexpr uint64_t kFewDescriptors = 1024;
constexpr uint64_t kTooFewDescriptors = 64;
constexpr int kLoaderPatienceMs = 5000;

// What the loader and the library print when a harmless program is started with `library`:
// nothing, if it is in order. A crash or a hang is told in words.
std::string ComplaintOfLoader(const std::string& library) {
  const char* const harmless = access("/bin/true", X_OK) == 0 ? "/bin/true" : "/usr/bin/true";
  int output[2];
  if (access(harmless, X_OK) != 0 || pipe2(output, O_CLOEXEC) != 0) return "";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
  std::string name = harmless;
  std::string preload = absl::StrCat("LD_PRELOAD=", library);
  char* arguments[] = {name.data(), nullptr};
  char* environment[] = {preload.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawn(&child, harmless, &actions, nullptr, arguments, environment);
  posix_spawn_file_actions_destroy(&actions);
  close(output[1]);
  std::string complaint;
  bool hangs = false;
  if (error == 0) {
    char buffer[512];
    for (;;) {
      pollfd polled = {output[0], POLLIN, 0};
      if (poll(&polled, 1, kLoaderPatienceMs) == 0) {
        hangs = true;
        kill(child, SIGKILL);
        break;
      }
      const ssize_t got = read(output[0], buffer, sizeof(buffer));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      if (complaint.size() < 1024) complaint.append(buffer, static_cast<size_t>(got));
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (hangs) {
      complaint = "a program started with it hangs";
    } else if (WIFSIGNALED(status)) {
      complaint = absl::StrCat("a program started with it dies: ", strsignal(WTERMSIG(status)));
    }
  }
  close(output[0]);
  return Printable(complaint, 300);
}

// Who is not the owner can read the file and pass through its directories.
bool OthersCanRead(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0 || (status.st_mode & S_IROTH) == 0) return false;
  for (fs::path directory = fs::path(path).parent_path();; directory = directory.parent_path()) {
    if (stat(directory.c_str(), &status) != 0 || (status.st_mode & S_IXOTH) == 0) return false;
    if (directory == directory.root_path()) return true;
  }
}

// Is there room to make files? Adds a problem if not.
void CheckRoom(const std::string& directory, Findings* findings) {
  struct statvfs room;
  if (statvfs(directory.c_str(), &room) != 0) return;
  if ((room.f_flag & ST_RDONLY) != 0) {
    findings->Problem(absl::StrCat(directory, " is on a file system mounted read-only"),
                      "mount it writable, or set XENLOOP_RUNTIME_DIR to a writable directory");
  } else if (uint64_t{room.f_bavail} * room.f_frsize < kLeastFreeBytes ||
             (room.f_files > 0 && room.f_favail == 0)) {
    findings->Problem(absl::StrCat(directory, " is full: connections stay on TCP"),
                      absl::StrCat("delete what is not needed there (df ", directory, ")"));
  }
}

bool MayWrite(const struct stat& directory, uid_t uid) {
  if (uid == 0) return true;
  if (directory.st_uid == uid) return (directory.st_mode & S_IWUSR) != 0;
  return (directory.st_mode & (S_IWOTH | S_IWGRP)) != 0;  // the group: given the benefit of doubt
}

// The file in it by which the processes of a user find each other.
bool CheckHints(const std::string& own, uid_t uid, Findings* findings) {
  const std::string hints = own + "/hints";
  struct stat status;
  if (lstat(hints.c_str(), &status) != 0) return true;  // made on first use
  if (S_ISREG(status.st_mode) && status.st_uid == uid && (status.st_mode & S_IRUSR) != 0 &&
      (status.st_mode & S_IWUSR) != 0) {
    return true;
  }
  findings->Problem(absl::StrCat(hints, " is not a writable file of user ", uid),
                    absl::StrCat("find out who put it there, then remove it: rm ", hints));
  return false;
}

// DIR/xenloop-<uid>, which the library makes when it first needs it.
void CheckUserDirectory(const std::string& runtime, const struct stat& runtime_status, uid_t uid,
                        Findings* findings) {
  const std::string own = absl::StrCat(runtime, "/xenloop-", uid);
  struct stat status;
  if (lstat(own.c_str(), &status) != 0) {
    if (errno != ENOENT) {
      findings->Problem(absl::StrCat(own, ": ", std::strerror(errno)),
                        absl::StrCat("make ", runtime, " accessible to user ", uid));
    } else if (!MayWrite(runtime_status, uid)) {
      findings->Problem(
          absl::StrCat("runtime directory ", runtime, " is not writable for user ", uid),
          absl::StrCat("chmod 1777 ", runtime));
    } else {
      findings->Fine(absl::StrCat("runtime directory ", own, " will be made on first use"));
    }
    return;
  }
  if (!S_ISDIR(status.st_mode)) {
    findings->Problem(absl::StrCat(own, " is not a directory"),
                      absl::StrCat("find out who put it there, then remove it: rm ", own));
  } else if (status.st_uid != uid) {
    findings->Problem(absl::StrCat("runtime directory ", own, " belongs to user ", status.st_uid,
                                   ", not to ", uid, ": it is not used"),
                      absl::StrCat("find out who made it, then, as root: rm -r ", own));
  } else if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    findings->Problem(absl::StrCat("runtime directory ", own, " can be written by other users"),
                      absl::StrCat("chmod 755 ", own));
  } else if ((status.st_mode & S_IRWXU) != S_IRWXU) {
    findings->Problem(absl::StrCat("runtime directory ", own, " is not writable for its owner"),
                      absl::StrCat("chmod 755 ", own));
  } else if (CheckHints(own, uid, findings)) {
    findings->Fine(absl::StrCat("runtime directory ", own));
  }
}

}  // namespace

void CheckAddressSpace(uint64_t soft_limit, Findings* findings) {
  if (soft_limit >= uint64_t{2} << 30) return;
  findings->Problem(
      absl::StrCat(
          "its address space is limited to ", soft_limit >> 20,
          " MiB: below 2048 MiB everything stays on TCP, to leave the room to the program"),
      "raise the limit: ulimit -v, or LimitAS= in the systemd unit");
}

void CheckLibrary(const DoctorPlaces& places, Findings* findings) {
  const absl::StatusOr<std::string> library = FindLibrary(places.library_candidates);
  if (!library.ok()) {
    findings->Problem(std::string(library.status().message()), "install libxenloop, or build it");
    return;
  }
  const absl::StatusOr<ElfFile> elf = ReadElf(*library);
  if (!elf.ok()) {
    findings->Problem(absl::StrCat("library ", elf.status().message()), "install libxenloop again");
    return;
  }
  if (!elf->is_64_bit || elf->machine != OwnMachine()) {
    findings->Problem(absl::StrCat("library ", *library, " is made for another kind of machine"),
                      "install the libxenloop of this architecture");
    return;
  }
  if (const absl::StatusOr<std::string> value = PrependPreload(*library, ""); !value.ok()) {
    findings->Problem(std::string(value.status().message()), "");
    return;
  }
  if (const std::string complaint = ComplaintOfLoader(*library); !complaint.empty()) {
    findings->Problem(absl::StrCat("library ", *library, " cannot be preloaded: ", complaint),
                      "install libxenloop again; it needs glibc and nothing else");
    return;
  }
  findings->Fine(absl::StrCat("library ", *library, " can be preloaded"));
  if (!OthersCanRead(*library)) {
    findings->Note(
        "other users cannot read the library: their programs print an error of ld.so "
        "when started with it",
        "install it below a directory that everybody may enter (/usr/local)");
  }
}

void CheckPreloadFile(const DoctorPlaces& places, Findings* findings) {
  const absl::StatusOr<std::string> text = ReadSmallFile(places.preload_file, 64 * 1024);
  if (absl::IsNotFound(text.status())) {
    findings->Fine(absl::StrCat("no ", places.preload_file,
                                ": the library is loaded only where it is asked for"));
    return;
  }
  if (!text.ok()) {
    findings->Note(std::string(text.status().message()));
    return;
  }
  const absl::StatusOr<std::string> library = FindLibrary(places.library_candidates);
  bool ours = false;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    for (const std::string& written : PreloadEntries(line.substr(0, line.find('#')))) {
      const std::string entry = ExpandLib(written);
      const std::string shown = Printable(entry, 200);
      std::error_code error;
      if (absl::StartsWith(entry, "/") && !fs::exists(entry, error)) {
        findings->Problem(absl::StrCat(places.preload_file, " names ", shown,
                                       ", which does not exist: every program complains"),
                          absl::StrCat("remove it from ", places.preload_file));
      }
      if (!NamesLibrary(entry)) continue;
      ours = true;
      if (library.ok() && entry != *library) {
        findings->Note(
            absl::StrCat(places.preload_file, " names ", shown, ", this tool uses ", *library),
            "two versions of the library understand each other only if they agree on "
            "the protocol: use one");
      }
    }
  }
  if (ours) {
    findings->Fine(absl::StrCat(places.preload_file, " loads the library into every program"));
  }
}

void CheckRuntimeDirectory(const DoctorPlaces& places, const ProgramSurroundings& program,
                           Findings* findings) {
  const std::string realm = RealmDirectory(program.environment, program.root + places.config);
  const std::string runtime = program.root + (realm.empty() ? places.shared_memory : realm);
  struct stat status;
  if (stat(runtime.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    findings->Problem(absl::StrCat("runtime directory ", runtime, " does not exist"),
                      realm.empty() ? absl::StrCat("mount a tmpfs there: mount -t tmpfs -o "
                                                   "mode=1777 tmpfs ",
                                                   runtime)
                                    : absl::StrCat("mkdir -m 1777 ", runtime));
    return;
  }
  const size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  const size_t socket_path = realm.size() + absl::StrCat("/xenloop-", program.uid).size() +
                             sizeof("/0123456789abcdef.sock") - 1;
  if (!realm.empty() && socket_path > longest) {
    findings->Problem(absl::StrCat("runtime directory ", Printable(runtime, 200),
                                   " has too long a name for a socket in it"),
                      "choose a shorter one");
    return;
  }
  if ((status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0) {
    findings->Problem(absl::StrCat("anybody can remove anybody's files in ", runtime),
                      absl::StrCat("chmod 1777 ", runtime));
  }
  CheckRoom(runtime, findings);
  CheckUserDirectory(runtime, status, program.uid, findings);
}

void CheckArchitecture(uint16_t machine, uint64_t page_bytes, Findings* findings) {
  if (page_bytes != kPageBytes) {
    findings->Problem(absl::StrCat("the kernel's pages have ", page_bytes,
                                   " bytes: the library is made for 4096 and has not been tried "
                                   "with others"),
                      "boot a kernel with pages of 4 KiB, or do without the library");
  }
  if (machine == EM_X86_64) return;
  findings->Note(
      "the library has been tried on this architecture under an emulator only: not between guests "
      "of Xen, and not with programs that keep something in the top byte of an address (HWASan)",
      "leave it out for such programs; if a program misbehaves, XENLOOP=off and a report");
}

void CheckKernelObjects(Findings* findings) {
  const int memory = memfd_create("xenloop-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  bool works = memory >= 0 && ftruncate(memory, 1 << 20) == 0;
  if (works) {
    void* mapped = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    works = mapped != MAP_FAILED;
    if (works) munmap(mapped, 1 << 20);
  }
  if (!works) {
    findings->Problem(
        absl::StrCat("no shared memory from the kernel (memfd_create): ", std::strerror(errno)),
        "look at the limits of memory (ulimit -v, cgroup memory.max), "
        "vm.memfd_noexec, and seccomp filters of the container");
  }
  if (memory >= 0) close(memory);
  int doorbell[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, doorbell) != 0) {
    findings->Problem(
        absl::StrCat("no doorbell from the kernel (socketpair): ", std::strerror(errno)),
        "look at `ulimit -n`, fs.file-max and seccomp filters of the container");
    return;
  }
  const bool rings = shutdown(doorbell[0], SHUT_RD) == 0;
  for (const int fd : doorbell) close(fd);
  if (!rings) {
    findings->Problem(absl::StrCat("a doorbell cannot be rung (shutdown): ", std::strerror(errno)),
                      "look at seccomp filters and security modules of the container");
    return;
  }
  if (works) findings->Fine("the kernel gives shared memory (memfd) and doorbells (socketpair)");
}

void CheckDescriptorLimit(uint64_t soft_limit, Findings* findings) {
  if (soft_limit <= kTooFewDescriptors) {
    findings->Problem(absl::StrCat("only ", soft_limit,
                                   " descriptors are allowed (ulimit -n): "
                                   "shared memory will find none free"),
                      "raise it: ulimit -n 4096, or LimitNOFILE= in the systemd unit");
  } else if (soft_limit < kFewDescriptors) {
    findings->Note(absl::StrCat("only ", soft_limit, " descriptors are allowed (ulimit -n)"),
                   "a program with many connections needs more: ulimit -n 4096");
  }
}

}  // namespace xenloop::tools
