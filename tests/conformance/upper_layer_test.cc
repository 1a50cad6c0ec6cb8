// Sockets that get something on top of TCP inside the kernel: a place in a BPF map of sockets,
// whose program may send their bytes elsewhere, and kernel TLS. Neither sees what goes by FIFO.

#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

int Bpf(bpf_cmd command, const bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof(attributes)));
}

// Key: a number or anything; value: a socket.
class SocketMap {
 public:
  explicit SocketMap(bpf_map_type type) : fd_(Create(type)), error_(errno) {}
  int get() const { return fd_.get(); }
  int error() const { return error_; }

  Outcome Put(uint32_t key, int socket) {
    const auto value = static_cast<uint64_t>(socket);
    bpf_attr attributes{};
    attributes.map_fd = static_cast<uint32_t>(fd_.get());
    attributes.key = reinterpret_cast<uint64_t>(&key);
    attributes.value = reinterpret_cast<uint64_t>(&value);
    return Call(Bpf(BPF_MAP_UPDATE_ELEM, attributes));
  }
  Outcome Remove(uint32_t key) {
    bpf_attr attributes{};
    attributes.map_fd = static_cast<uint32_t>(fd_.get());
    attributes.key = reinterpret_cast<uint64_t>(&key);
    return Call(Bpf(BPF_MAP_DELETE_ELEM, attributes));
  }

 private:
  static int Create(bpf_map_type type) {
    bpf_attr attributes{};
    attributes.map_type = type;
    attributes.key_size = sizeof(uint32_t);
    attributes.value_size = sizeof(uint64_t);
    attributes.max_entries = 4;
    return Bpf(BPF_MAP_CREATE, attributes);
  }

  FileDescriptor fd_;
  int error_;
};

bpf_insn Instruction(int code, int to, int from, int offset, int32_t constant) {
  bpf_insn made{};
  made.code = static_cast<uint8_t>(code);
  made.dst_reg = static_cast<uint8_t>(to & 15);
  made.src_reg = static_cast<uint8_t>(from & 15);
  made.off = static_cast<int16_t>(offset);
  made.imm = constant;
  return made;
}

// What comes for the socket with this port goes out by socket 1 of the map, all else by socket 0.
FileDescriptor LoadRedirection(int map, int port) {
  const bpf_insn program[] = {
      Instruction(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, offsetof(__sk_buff, local_port),
                  0),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 0),
      Instruction(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 1, port),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 1),
      // NOLINTNEXTLINE(misc-redundant-expression): two of them are 0
      Instruction(BPF_LD | static_cast<int>(BPF_DW) | BPF_IMM, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0,
                  map),
      Instruction(0, 0, 0, 0, 0),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, 0),
      Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_redirect_map),
      Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SK_SKB;
  attributes.insns = reinterpret_cast<uint64_t>(program);
  attributes.insn_cnt = sizeof(program) / sizeof(program[0]);
  attributes.license = reinterpret_cast<uint64_t>("GPL");
  return FileDescriptor(Bpf(BPF_PROG_LOAD, attributes));
}

Outcome Attach(int program, int map) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(map);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = BPF_SK_SKB_STREAM_VERDICT;
  return Call(Bpf(BPF_PROG_ATTACH, attributes));
}

class SocketMapTest : public PairTest {};
INSTANTIATE_TEST_SUITE_P(, SocketMapTest, AllVariants(), VariantName);

TEST_P(SocketMapTest, WithoutAProgramNothingChanges) {
  for (const bpf_map_type type : {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}) {
    const auto another = AnotherPair();
    ASSERT_NE(another, nullptr);
    SocketMap map(type);
    if (map.get() < 0) GTEST_SKIP() << "no maps of sockets: " << strerrorname_np(map.error());
    another->ExpectBothWaysWork();
    another->peer().Send(700);
    ASSERT_TRUE(WaitForBytes(another->fd(), 700));
    ASSERT_EQ(map.Put(0, another->fd()), Done(0));
    another->Receive(700);  // what came before is still there
    another->ExpectBothWaysWork(5000);
    MarkedPoint(another->fd());
    another->ExpectBothWaysWork(5000);
    ASSERT_EQ(map.Remove(0), Done(0));
    another->ExpectBothWaysWork(5000);
  }
}

TEST_P(SocketMapTest, ARedirectionConnectsThePeers) {
  const auto another = AnotherPair();
  ASSERT_NE(another, nullptr);
  SocketMap map(BPF_MAP_TYPE_SOCKMAP);
  if (map.get() < 0) GTEST_SKIP() << "no maps of sockets: " << strerrorname_np(map.error());
  const FileDescriptor program = LoadRedirection(map.get(), LocalName(fd()).port());
  if (program.get() < 0) GTEST_SKIP() << "no such programs: " << strerrorname_np(errno);
  ASSERT_EQ(Attach(program.get(), map.get()), Done(0));
  pair().ExpectBothWaysWork();
  another->ExpectBothWaysWork();
  ASSERT_EQ(map.Put(0, fd()), Done(0));
  ASSERT_EQ(map.Put(1, another->fd()), Done(0));
  // This process moves no byte from now on.
  for (int round = 0; round < 30; ++round) {
    const std::string text = std::to_string(round) + std::string(1000, 'x');
    peer().SendText("here" + text);
    another->peer().ReceiveText("here" + text);
    another->peer().SendText("there" + text);
    peer().ReceiveText("there" + text);
    Mark();
    if (round == 10) another->peer().Do(Op::kMark);
  }
  EXPECT_TRUE(StaysUnreadable(fd()));
  EXPECT_TRUE(StaysUnreadable(another->fd()));
}

// With keys: what one end encrypts the other decrypts.
TEST(KernelTlsTest, WithKeys) {
  const FileDescriptor listener = ListenOn(Loopback(AF_INET));
  const Address name = LocalName(listener.get());
  const FileDescriptor here(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Call(connect(here.get(), name.get(), name.length)), Done(0));
  const FileDescriptor there(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_GE(there.get(), 0);
  ASSERT_TRUE(UpgradeIfWanted(here.get()));
  ByteStream sent(kSeedToPeer), received(kSeedToPeer);
  ASSERT_EQ(SendBytes(here.get(), &sent, 100).bytes, 100u);
  ASSERT_EQ(ReceiveBytes(there.get(), &received, 100).bytes, 100u);
  for (const int fd : {here.get(), there.get()}) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4) != 0)
      GTEST_SKIP() << "no kernel TLS: " << strerrorname_np(errno);
  }
  tls12_crypto_info_aes_gcm_128 keys{};
  keys.info.version = TLS_1_2_VERSION;
  keys.info.cipher_type = TLS_CIPHER_AES_GCM_128;
  memset(keys.key, 'k', sizeof(keys.key));
  memset(keys.salt, 's', sizeof(keys.salt));
  ASSERT_EQ(Call(setsockopt(here.get(), SOL_TLS, TLS_TX, &keys, sizeof(keys))), Done(0));
  ASSERT_EQ(Call(setsockopt(there.get(), SOL_TLS, TLS_RX, &keys, sizeof(keys))), Done(0));
  for (int round = 0; round < 10; ++round) {
    ASSERT_EQ(SendBytes(here.get(), &sent, 20000).bytes, 20000u);
    ASSERT_EQ(ReceiveBytes(there.get(), &received, 20000).bytes, 20000u);
    MarkedPoint(here.get());
  }
}

}  // namespace
}  // namespace conformance
