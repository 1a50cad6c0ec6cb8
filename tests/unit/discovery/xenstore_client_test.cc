// XenStore by libxenstore: a client against a thread that plays xenstored, well-behaved or not.
#include "discovery/daemon/xenstore/xenstore_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

struct Header {
  uint32_t type, request, transaction, length;
};

class XenStoreClientTest : public testing::Test {
 protected:
  XenStoreClientTest() {
    path_ = testing::TempDir() + "xenstored-" + std::to_string(getpid());
    unlink(path_.c_str());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 4), 0);
    setenv("XENSTORED_PATH", path_.c_str(), 1);
    Connect();
  }
  ~XenStoreClientTest() override {
    if (thread_.joinable()) thread_.join();
    client_.reset();
    CloseServer();
    close(listener_);
    unlink(path_.c_str());
  }
  void Connect(std::chrono::milliseconds patience = std::chrono::seconds(60)) {
    if (thread_.joinable()) thread_.join();
    client_.reset();
    CloseServer();
    absl::StatusOr<std::unique_ptr<XenStoreClient>> client = XenStoreClient::Open(patience);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    server_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  }
  void CloseServer() {
    if (server_ >= 0) close(server_);
    server_ = -1;
  }
  bool ReadAll(void* to, size_t length) {
    return length == 0 || recv(server_, to, length, MSG_WAITALL) == static_cast<ssize_t>(length);
  }
  // The server takes one request, keeps it, and does as it is told.
  void Serve(std::function<void(const Header&)> answer) {
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([this, answer = std::move(answer)] {
      Header header = {};
      if (!ReadAll(&header, sizeof header)) return;
      request_ = std::string(header.length, '\0');
      if (ReadAll(request_.data(), header.length)) answer(header);
    });
  }
  // As a rule a program watches something: then libxenstore reads by a thread of its own.
  void Watch() {
    Serve([this](const Header& asked) { Send(4, asked.request, std::string("OK\0", 3)); });
    ASSERT_TRUE(client_->Watch("data/x").ok());
  }
  // What a loop does that waits for the store.
  absl::Status AwaitEvents(int count) {
    for (int seen = 0; seen < count;) {
      pollfd wait = {client_->descriptor(), POLLIN, 0};
      poll(&wait, 1, -1);
      const absl::StatusOr<int> taken = client_->TakeEvents();
      if (!taken.ok()) return taken.status();
      seen += *taken;
    }
    return absl::OkStatus();
  }
  void Send(uint32_t type, uint32_t request, const std::string& payload) {
    const Header header = {type, request, 0, static_cast<uint32_t>(payload.size())};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += payload;
    for (const char byte : bytes) {  // in the smallest pieces
      ASSERT_EQ(write(server_, &byte, 1), 1);
    }
  }

  std::string path_;
  int listener_ = -1;
  std::unique_ptr<XenStoreClient> client_;
  int server_ = -1;
  std::string request_;
  std::thread thread_;
};

TEST_F(XenStoreClientTest, ValuesAndNamesArrive) {
  Serve([this](const Header& asked) { Send(2, asked.request, "7"); });
  EXPECT_EQ(*client_->Read("domid"), "7");
  EXPECT_EQ(request_, std::string("domid\0", 6));
  Serve([this](const Header& asked) { Send(1, asked.request, std::string("a\0bc\0", 5)); });
  EXPECT_THAT(*client_->List("data"), testing::ElementsAre("a", "bc"));
  Serve([this](const Header& asked) { Send(11, asked.request, std::string("OK\0", 3)); });
  EXPECT_TRUE(client_->Write("data/x", "value").ok());
  EXPECT_EQ(request_, std::string("data/x\0value", 12));
  Serve([this](const Header& asked) { Send(14, asked.request, std::string("OK\0", 3)); });
  EXPECT_TRUE(client_->SetPermissions("data/x", {"n1", "r2"}).ok());
  EXPECT_EQ(request_, std::string("data/x\0n1\0r2\0", 13));
}

TEST_F(XenStoreClientTest, ErrorsKeepTheirMeaning) {
  const auto error = [this](const std::string& name) {
    Serve([this, name](const Header& asked) { Send(16, asked.request, name + '\0'); });
    return client_->Write("data/x", "");
  };
  EXPECT_TRUE(absl::IsNotFound(error("ENOENT")));
  EXPECT_TRUE(absl::IsPermissionDenied(error("EACCES")));
  EXPECT_TRUE(absl::IsResourceExhausted(error("ENOSPC")));
  EXPECT_TRUE(absl::IsResourceExhausted(error("E2BIG")));
  EXPECT_TRUE(absl::IsInternal(error("EINVAL")));
  Serve([this](const Header& asked) { Send(16, asked.request, std::string("ENOENT\0", 7)); });
  EXPECT_TRUE(client_->Remove("data/x").ok()) << "absent is as good as removed";
}

TEST_F(XenStoreClientTest, EventsBetweenAnswersAreKept) {
  Watch();
  Serve([this](const Header& asked) {
    Send(15, 0, std::string("data/x\0data/x\0", 14));
    Send(2, asked.request, "value");
    Send(15, 0, std::string("data/x\0data/x\0", 14));
  });
  EXPECT_EQ(*client_->Read("data/x"), "value");
  EXPECT_TRUE(AwaitEvents(2).ok());
  EXPECT_EQ(*client_->TakeEvents(), 0);
}

TEST_F(XenStoreClientTest, LossIsNoticedByRequestsAndByEvents) {
  for (const bool watching : {false, true}) {
    Connect();
    if (watching) Watch();
    Serve([this](const Header&) { CloseServer(); });
    EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status())) << watching;
    EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
    EXPECT_TRUE(absl::IsUnavailable(client_->TakeEvents().status()));
  }
}

TEST_F(XenStoreClientTest, LossWhileIdleWakesWhoeverWaits) {
  Watch();
  thread_.join();
  CloseServer();
  EXPECT_TRUE(absl::IsUnavailable(AwaitEvents(1)));
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
}

TEST_F(XenStoreClientTest, ARefusalInTheWordsOfALossIsNone) {
  Watch();
  Serve([this](const Header& asked) { Send(16, asked.request, std::string("EINVAL\0", 7)); });
  EXPECT_TRUE(absl::IsInternal(client_->Write("data/x", "")));
  Serve([this](const Header& asked) { Send(2, asked.request, "still there"); });
  EXPECT_EQ(*client_->Read("data/x"), "still there");
}

// A store that takes requests and says nothing costs a wait, not the daemon; there is one such wait
// at a time, and when the answer comes after all everything goes on.
TEST_F(XenStoreClientTest, WhoDoesNotAnswerIsGivenUp) {
  Connect(std::chrono::milliseconds(50));
  Watch();
  Header unanswered = {};
  Serve([&](const Header& asked) { unanswered = asked; });
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
  EXPECT_TRUE(absl::IsUnavailable(client_->TakeEvents().status()));
  EXPECT_TRUE(absl::IsUnavailable(XenStoreClient::Open().status()));
  thread_.join();
  Send(2, unanswered.request, "late");
  client_.reset();
  absl::StatusOr<std::unique_ptr<XenStoreClient>> again = XenStoreClient::Open();
  while (!again.ok()) {
    poll(nullptr, 0, 1);
    again = XenStoreClient::Open();
  }
  client_ = *std::move(again);
  CloseServer();
  server_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  Serve([this](const Header& asked) { Send(2, asked.request, "in time"); });
  EXPECT_EQ(*client_->Read("data/x"), "in time");
}

TEST_F(XenStoreClientTest, ImpossibleLengthEndsTheConnection) {
  Serve([this](const Header& asked) {
    const Header header = {2, asked.request, 0, 1000000};
    ASSERT_EQ(write(server_, &header, sizeof header), static_cast<ssize_t>(sizeof header));
  });
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
}

TEST_F(XenStoreClientTest, TooLongARequestIsNotSent) {
  EXPECT_TRUE(absl::IsResourceExhausted(client_->Write("data/x", std::string(5000, 'x'))));
}

}  // namespace
}  // namespace xenloop
