// See xenstore_client.h.
#include "discovery/daemon/xenstore/xenstore_client.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <xenstore.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "discovery/daemon/xenstore/loaded_library.h"

namespace xenloop {
namespace {

constexpr timespec kHeartbeat = {1, 0};

// The same name with Xen 4.17 (Debian 12) and 4.20 (13).
constexpr char kLibrary[] = "libxenstore.so.4";

struct Library {
  decltype(&xs_open) open;
  decltype(&xs_close) close;
  decltype(&xs_fileno) fileno;
  decltype(&xs_check_watch) check_watch;
  decltype(&xs_read) read;
  decltype(&xs_directory) directory;
  decltype(&xs_write) write;
  decltype(&xs_rm) remove;
  decltype(&xs_set_permissions) set_permissions;
  decltype(&xs_watch) watch;
  decltype(&xs_unwatch) unwatch;
};

const Library* LoadLibrary() {
  static Library library;
  static const bool complete = [] {
    const LoadedLibrary loaded(kLibrary);
    return loaded.Find("xs_open", &library.open) && loaded.Find("xs_close", &library.close) &&
           loaded.Find("xs_fileno", &library.fileno) &&
           loaded.Find("xs_check_watch", &library.check_watch) &&
           loaded.Find("xs_read", &library.read) &&
           loaded.Find("xs_directory", &library.directory) &&
           loaded.Find("xs_write", &library.write) && loaded.Find("xs_rm", &library.remove) &&
           loaded.Find("xs_set_permissions", &library.set_permissions) &&
           loaded.Find("xs_watch", &library.watch) && loaded.Find("xs_unwatch", &library.unwatch);
  }();
  return complete ? &library : nullptr;
}

// Talkers whose request was given up. While one waits, another would wait with it.
std::atomic<int> unanswered{0};

}  // namespace

struct XenStoreClient::Answer {
  const Library& library;
  xs_handle* store;
  int error = 0;  // an errno
  std::string text;

  void Failed() { error = errno != 0 ? errno : EIO; }
  void Take(bool worked) {
    if (!worked) Failed();
  }
};

// The thread that makes requests, one after the other. Whoever gives one up leaves the talker alone
// with it (Abandon): it closes the connection when the answer comes after all.
class XenStoreClient::Talker : public std::enable_shared_from_this<Talker> {
 public:
  Talker(const Library& library, std::chrono::milliseconds patience)
      : library_(library), patience_(patience) {}

  void Start() {
    // Signals are the main thread's, and a broken connection must not end the process.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([self = shared_from_this()] { self->Serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // False: no answer in time.
  bool Ask(std::function<void(Answer*)> request, Answer* answer) {
    std::unique_lock lock(mutex_);
    request_ = std::move(request);
    waiting_ = true;
    changed_.notify_all();
    if (!changed_.wait_for(lock, patience_, [this] { return !waiting_; })) {
      abandoned_ = true;
      ++unanswered;
      thread_.detach();
      return false;
    }
    answer->error = error_;
    answer->text = std::move(text_);
    return true;
  }

  void End() {
    {
      const std::lock_guard lock(mutex_);
      if (abandoned_) return;
      ended_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  // Of a talker that was not abandoned, between its requests.
  xs_handle* store() const { return store_; }
  const Library& library() const { return library_; }

 private:
  void Serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return waiting_ || ended_; });
      if (ended_) break;
      lock.unlock();
      Answer answer{library_, store_, 0, {}};
      errno = 0;
      request_(&answer);
      lock.lock();
      store_ = answer.store;
      error_ = answer.error;
      text_ = std::move(answer.text);
      waiting_ = false;
      changed_.notify_all();
      if (abandoned_) break;
    }
    if (store_ != nullptr) library_.close(store_);
    if (abandoned_) --unanswered;
  }

  const Library& library_;
  const std::chrono::milliseconds patience_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void(Answer*)> request_;
  xs_handle* store_ = nullptr;
  int error_ = 0;
  std::string text_;
  bool waiting_ = false;
  bool ended_ = false;
  bool abandoned_ = false;
};

XenStoreClient::XenStoreClient() = default;

absl::StatusOr<std::unique_ptr<XenStoreClient>> XenStoreClient::Open(
    std::chrono::milliseconds patience) {
  const Library* const library = LoadLibrary();
  if (library == nullptr) {
    return absl::UnavailableError(absl::StrCat("no ", kLibrary, " (apt install libxenstore4)"));
  }
  if (unanswered > 0) return absl::UnavailableError("XenStore does not answer");
  std::unique_ptr<XenStoreClient> client(new XenStoreClient);
  client->talker_ = std::make_shared<Talker>(*library, patience);
  client->talker_->Start();
  const absl::Status opened = client
                                  ->Ask("open",
                                        [](Answer* answer) {
                                          answer->store = answer->library.open(0);
                                          answer->Take(answer->store != nullptr);
                                        })
                                  .status();
  if (!opened.ok()) {
    return absl::UnavailableError(absl::StrCat(
        "no XenStore: neither xenstored's socket nor /dev/xen/xenbus (", opened.message(), ")"));
  }
  const int events = library->fileno(client->talker_->store());
  client->heartbeat_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  client->descriptor_ = epoll_create1(EPOLL_CLOEXEC);
  const itimerspec beat = {kHeartbeat, kHeartbeat};
  epoll_event wanted = {EPOLLIN, {}};
  if (events < 0 || timerfd_settime(client->heartbeat_, 0, &beat, nullptr) != 0 ||
      epoll_ctl(client->descriptor_, EPOLL_CTL_ADD, events, &wanted) != 0 ||
      epoll_ctl(client->descriptor_, EPOLL_CTL_ADD, client->heartbeat_, &wanted) != 0) {
    return absl::UnavailableError(absl::StrCat("XenStore: ", strerror(errno)));
  }
  return client;
}

XenStoreClient::~XenStoreClient() {
  if (talker_ != nullptr) talker_->End();
  if (heartbeat_ >= 0) close(heartbeat_);
  if (descriptor_ >= 0) close(descriptor_);
}

bool XenStoreClient::CountEvents() {
  if (lost_) return false;
  const Library& library = talker_->library();
  for (;;) {
    char** const event = library.check_watch(talker_->store());
    if (event == nullptr) break;
    std::free(event);
    ++events_;
  }
  lost_ = errno != EAGAIN;
  return !lost_;
}

absl::StatusOr<std::string> XenStoreClient::StatusOf(int error, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", strerror(error));
  if (talker_->store() != nullptr && !CountEvents()) {
    return absl::UnavailableError(absl::StrCat("XenStore: the connection is gone (", message, ")"));
  }
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case E2BIG:
    case EBUSY:
      return absl::ResourceExhaustedError(message);
    case EIO:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::string> XenStoreClient::Ask(const std::string& path,
                                                std::function<void(Answer*)> request) {
  if (lost_) return absl::UnavailableError("XenStore: the connection is gone");
  Answer answer{talker_->library(), nullptr, 0, {}};
  if (!talker_->Ask(std::move(request), &answer)) {
    lost_ = true;
    return absl::UnavailableError(absl::StrCat("XenStore does not answer: ", path));
  }
  if (answer.error != 0) return StatusOf(answer.error, path);
  return std::move(answer.text);
}

absl::StatusOr<std::string> XenStoreClient::Read(const std::string& path) {
  return Ask(path, [path](Answer* answer) {
    unsigned length = 0;
    void* const value = answer->library.read(answer->store, XBT_NULL, path.c_str(), &length);
    answer->Take(value != nullptr);
    if (value != nullptr) answer->text.assign(static_cast<char*>(value), length);
    std::free(value);
  });
}

absl::StatusOr<std::vector<std::string>> XenStoreClient::List(const std::string& path) {
  const auto names = std::make_shared<std::vector<std::string>>();
  const absl::StatusOr<std::string> done = Ask(path, [path, names](Answer* answer) {
    unsigned count = 0;
    char** const list = answer->library.directory(answer->store, XBT_NULL, path.c_str(), &count);
    answer->Take(list != nullptr);
    if (list != nullptr) names->assign(list, list + count);
    std::free(list);
  });
  if (!done.ok()) return done.status();
  return std::move(*names);
}

absl::Status XenStoreClient::Write(const std::string& path, const std::string& value) {
  return Ask(path,
             [path, value](Answer* answer) {
               answer->Take(answer->library.write(answer->store, XBT_NULL, path.c_str(),
                                                  value.data(),
                                                  static_cast<unsigned>(value.size())));
             })
      .status();
}

absl::Status XenStoreClient::Remove(const std::string& path) {
  const absl::Status status =
      Ask(path, [path](Answer* answer) {
        answer->Take(answer->library.remove(answer->store, XBT_NULL, path.c_str()));
      }).status();
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status XenStoreClient::SetPermissions(const std::string& path,
                                            const std::vector<std::string>& permissions) {
  std::vector<xs_permissions> list;
  for (const std::string& permission : permissions) {
    const char* const letters = "nrwb";
    const unsigned kinds[] = {XS_PERM_NONE, XS_PERM_READ, XS_PERM_WRITE,
                              XS_PERM_READ | XS_PERM_WRITE};
    const char* const letter = permission.empty() ? nullptr : strchr(letters, permission[0]);
    xs_permissions entry = {};
    if (letter == nullptr || !absl::SimpleAtoi(permission.substr(1), &entry.id))
      return absl::InternalError(absl::StrCat("no permission: ", permission));
    entry.perms = kinds[letter - letters];
    list.push_back(entry);
  }
  return Ask(path,
             [path, list](Answer* answer) {
               std::vector<xs_permissions> entries = list;
               answer->Take(answer->library.set_permissions(answer->store, XBT_NULL, path.c_str(),
                                                            entries.data(),
                                                            static_cast<unsigned>(entries.size())));
             })
      .status();
}

absl::Status XenStoreClient::Watch(const std::string& path) {
  return Ask(path,
             [path](Answer* answer) {
               answer->Take(answer->library.watch(answer->store, path.c_str(), path.c_str()));
             })
      .status();
}

absl::Status XenStoreClient::Unwatch(const std::string& path) {
  return Ask(path,
             [path](Answer* answer) {
               answer->Take(answer->library.unwatch(answer->store, path.c_str(), path.c_str()));
             })
      .status();
}

absl::StatusOr<int> XenStoreClient::TakeEvents() {
  uint64_t beats = 0;
  static_cast<void>(!read(heartbeat_, &beats, sizeof beats));
  if (!CountEvents()) return absl::UnavailableError("XenStore: the connection is gone");
  return std::exchange(events_, 0);
}

}  // namespace xenloop
