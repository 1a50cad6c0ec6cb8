// The registry on a hints file that somebody has garbled or cut short: an answer has no more ids
// than there is room for, no id is 0, and what has just been published is found.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "discovery/registry.h"
#include "tests/fuzz/input.h"

namespace xenloop::fuzz {
namespace {

constexpr size_t kBucketBytes = 64;  // four entries of hash and agent id
constexpr uint64_t kBuckets = 16384;

// The directory of the run; removed at its end.
class Place {
 public:
  Place() {
    XENLOOP_REQUIRE(mkdtemp(base_.data()) != nullptr);
    Reason reason = Reason::kNone;
    XENLOOP_REQUIRE(registry_.Open(base_.c_str(), getuid(), &reason) == 0);
    const std::string path = base_ + "/xenloop-" + std::to_string(getuid()) + "/hints";
    fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
    XENLOOP_REQUIRE(fd_ >= 0);
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(base_, ignored);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  Registry& registry() { return registry_; }
  int fd() const { return fd_; }

 private:
  std::string base_ = std::filesystem::temp_directory_path() / "registry-fuzz-XXXXXX";
  Registry registry_;
  int fd_ = -1;
};

void Step(Input& input, Place& place) {
  // Few different hashes, so that they meet: three buckets, four hashes each.
  const uint64_t hash = input.Below(3) + (input.Below(4) * kBuckets << 20);
  uint64_t ids[6];
  for (uint64_t& id : ids) id = 4711;
  switch (input.Below(4)) {
    case 0: {  // garbles a bucket
      uint8_t bucket[kBucketBytes] = {};
      const size_t n = input.Take(bucket, input.Below(kBucketBytes + 1));
      const off_t at = static_cast<off_t>(input.Below(3) * kBucketBytes + input.Below(16));
      XENLOOP_REQUIRE(pwrite(place.fd(), bucket, n, at) == static_cast<ssize_t>(n));
      break;
    }
    case 1:
      XENLOOP_REQUIRE(ftruncate(place.fd(), input.Below(4 * kBucketBytes)) == 0);
      break;
    case 2: {
      const uint64_t id = 1 + input.Byte();
      XENLOOP_REQUIRE(place.registry().Publish(hash, id) == 0);
      const size_t found = place.registry().Lookup(getuid(), hash, ids, 4);
      bool there = false;
      for (size_t i = 0; i < found && i < 4; ++i) there = there || ids[i] == id;
      XENLOOP_REQUIRE(there);
      break;
    }
    default: {
      const size_t capacity = input.Below(6);
      const uid_t uid = input.OneIn(4) ? getuid() + 1 : getuid();
      const size_t found = place.registry().Lookup(uid, hash, ids, capacity);
      XENLOOP_REQUIRE(found <= capacity && (found == 0 || uid == getuid()));
      for (size_t i = 0; i < 6; ++i) XENLOOP_REQUIRE(i < found ? ids[i] != 0 : ids[i] == 4711);
    }
  }
}

// The address of an agent: within its structure, and ended.
void CheckAddress(Input& input) {
  char base[128] = {};
  input.Take(base, input.Below(sizeof base));
  sockaddr_un address;
  const socklen_t length =
      AgentAddress(base, static_cast<uid_t>(input.Word()), input.Word(), &address);
  XENLOOP_REQUIRE(length <= sizeof address);
  if (length == 0 || base[0] == '\0') return;
  XENLOOP_REQUIRE(strnlen(address.sun_path, sizeof address.sun_path) < sizeof address.sun_path);
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop::fuzz;
  static Place place;
  XENLOOP_REQUIRE(ftruncate(place.fd(), 0) == 0);
  Input input(bytes, size);
  CheckAddress(input);
  for (int step = 0; step < 60 && !input.Empty(); ++step) Step(input, place);
  return 0;
}
