// The maps, and five instructions for each; see sockmap.h.
#include "bench/sockmap.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "bench/link.h"

namespace xenloop::bench {
namespace {

// A value of eight bytes, so that a look-up is allowed: it gives the socket's cookie.
constexpr uint32_t kKeyBytes = sizeof(uint32_t);
constexpr uint32_t kValueBytes = sizeof(uint64_t);

int Bpf(bpf_cmd command, bpf_attr* attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, attributes, sizeof(*attributes)));
}

uint64_t Pointer(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

int MakeMap() {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_SOCKMAP;
  attributes.key_size = kKeyBytes;
  attributes.value_size = kValueBytes;
  attributes.max_entries = 1;
  const int map = Bpf(BPF_MAP_CREATE, &attributes);
  // The kernel makes them close-on-exec; the workers shall inherit them.
  if (map >= 0) (void)fcntl(map, F_SETFD, 0);
  return map;
}

// return bpf_msg_redirect_map(message, target, 0, BPF_F_INGRESS)
int LoadRedirect(int target) {
  const bpf_insn program[] = {
      {BPF_LD | BPF_DW, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0, target},  // BPF_IMM is 0
      {},  // the second half of the 64-bit constant
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 0},
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, BPF_F_INGRESS},
      {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_msg_redirect_map},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SK_MSG;
  attributes.insns = Pointer(program);
  attributes.insn_cnt = sizeof(program) / sizeof(program[0]);
  attributes.license = Pointer("GPL");
  return Bpf(BPF_PROG_LOAD, &attributes);
}

// Sends of the sockets in `from` go into the socket in `to`. The map keeps the program alive.
int Redirect(int from, int to) {
  const int program = LoadRedirect(to);
  if (program < 0) return -1;
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(from);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = BPF_SK_MSG_VERDICT;
  const int attached = Bpf(BPF_PROG_ATTACH, &attributes);
  const int error = errno;
  close(program);
  errno = error;
  return attached;
}

}  // namespace

absl::StatusOr<Sockmaps> MakeSockmaps() {
  Sockmaps maps;
  maps.server_map = MakeMap();
  if (maps.server_map >= 0) maps.client_map = MakeMap();
  if (maps.client_map >= 0 && Redirect(maps.server_map, maps.client_map) == 0 &&
      Redirect(maps.client_map, maps.server_map) == 0) {
    return maps;
  }
  const int error = errno;
  CloseSockmaps(maps);
  return absl::ErrnoToStatus(error, "the kernel forbids BPF maps of sockets");
}

void CloseSockmaps(const Sockmaps& maps) {
  if (maps.server_map >= 0) close(maps.server_map);
  if (maps.client_map >= 0) close(maps.client_map);
}

void JoinSockmap(int own_map, int peer_map, int fd) {
  const uint32_t key = 0;
  uint64_t value = static_cast<uint64_t>(fd);
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(own_map);
  attributes.key = Pointer(&key);
  attributes.value = Pointer(&value);
  if (Bpf(BPF_MAP_UPDATE_ELEM, &attributes) != 0) Die("a socket into its BPF map");
  attributes.map_fd = static_cast<uint32_t>(peer_map);
  while (Bpf(BPF_MAP_LOOKUP_ELEM, &attributes) != 0) {
    if (errno != ENOENT) Die("the peer's BPF map");
    sched_yield();
  }
}

}  // namespace xenloop::bench
