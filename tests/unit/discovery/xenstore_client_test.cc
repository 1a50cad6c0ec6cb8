// XenStore's wire protocol: a client against a thread that plays xenstored, well-behaved or not.
#include "discovery/daemon/xenstore/xenstore_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

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
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    client_ = std::make_unique<XenStoreClient>(ends[0]);
    server_ = ends[1];
  }
  ~XenStoreClientTest() override {
    if (thread_.joinable()) thread_.join();
    if (server_ >= 0) close(server_);
  }
  // The server takes one request, keeps it, and does as it is told.
  void Serve(std::function<void(const Header&)> answer) {
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([this, answer = std::move(answer)] {
      Header header = {};
      if (read(server_, &header, sizeof header) != sizeof header) return;
      request_ = std::string(header.length, '\0');
      if (read(server_, request_.data(), header.length) != static_cast<ssize_t>(header.length))
        return;
      answer(header);
    });
  }
  void Send(uint32_t type, uint32_t request, const std::string& payload) {
    const Header header = {type, request, 0, static_cast<uint32_t>(payload.size())};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += payload;
    for (const char byte : bytes) {  // in the smallest pieces
      ASSERT_EQ(write(server_, &byte, 1), 1);
    }
  }

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
  Serve([this](const Header& asked) {
    Send(15, 0, std::string("data/x\0data/x\0", 14));
    Send(2, asked.request, "value");
    Send(15, 0, std::string("data/x\0data/x\0", 14));
  });
  EXPECT_EQ(*client_->Read("data/x"), "value");
  thread_.join();
  EXPECT_EQ(*client_->TakeEvents(), 2);
  EXPECT_EQ(*client_->TakeEvents(), 0);
}

TEST_F(XenStoreClientTest, LossIsNoticedByRequestsAndByEvents) {
  Serve([this](const Header&) {
    close(server_);
    server_ = -1;
  });
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
  EXPECT_TRUE(absl::IsUnavailable(client_->Read("data/x").status()));
  EXPECT_TRUE(absl::IsUnavailable(client_->TakeEvents().status()));
}

TEST_F(XenStoreClientTest, LossWhileIdleIsAnEvent) {
  close(server_);
  server_ = -1;
  EXPECT_TRUE(absl::IsUnavailable(client_->TakeEvents().status()));
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
