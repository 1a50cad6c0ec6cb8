// stdio on a connection: its reads and writes are inside libc, so a connection falls back for it;
// what had arrived by another route comes first, and raw calls before and after fit in.

#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/conformance/pair.h"

namespace conformance {
namespace {

class StdioTest : public PairTest {
 protected:
  void TearDown() override {
    for (FILE* file : {in_, out_}) {
      if (file != nullptr) fclose(file);
    }
  }

  // Reading through the socket's number, writing through a duplicate, as most programs do.
  void Open() {
    in_ = fdopen(dup(fd()), "r");
    out_ = fdopen(dup(fd()), "w");
    ASSERT_NE(in_, nullptr);
    ASSERT_NE(out_, nullptr);
  }
  std::string Line() {
    char line[200];
    return fgets(line, sizeof(line), in_) == nullptr ? "(none)" : line;
  }

  FILE* in_ = nullptr;
  FILE* out_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(, StdioTest, AllVariants(), VariantName);

TEST_P(StdioTest, Lines) {
  Open();
  for (int i = 0; i < 20; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    peer().SendText(line);
    EXPECT_EQ(Line(), line);
    fprintf(out_, "answer %d\n", i);
    EXPECT_EQ(fflush(out_), 0);
    peer().ReceiveText("answer " + std::to_string(i) + "\n");
    if (i % 5 == 0) Mark();
  }
}

TEST_P(StdioTest, WhatHadArrivedBeforeComesFirst) {
  peer().SendText("12345first\nsecond\n");
  ASSERT_TRUE(WaitForBytes(fd(), 18));
  char raw[5];
  EXPECT_EQ(Call(read(fd(), raw, 5)), Done(5));
  EXPECT_EQ(std::string(raw, 5), "12345");
  Open();
  EXPECT_EQ(Line(), "first\n");
  EXPECT_EQ(Line(), "second\n");
  peer().SendText("third\n");
  EXPECT_EQ(Line(), "third\n");
}

TEST_P(StdioTest, RawCallsBetween) {
  Open();
  ASSERT_EQ(setvbuf(in_, nullptr, _IONBF, 0), 0);
  ASSERT_EQ(setvbuf(out_, nullptr, _IONBF, 0), 0);
  peer().SendText("abcdef");
  ASSERT_TRUE(WaitForBytes(fd(), 6));
  char raw[2];
  EXPECT_EQ(fgetc(in_), 'a');
  EXPECT_EQ(Call(recv(fd(), raw, 2, 0)), Done(2));
  EXPECT_EQ(std::string(raw, 2), "bc");
  EXPECT_EQ(getc_unlocked(in_), 'd');
  Mark();
  EXPECT_EQ(Call(read(fd(), raw, 2)), Done(2));
  EXPECT_EQ(std::string(raw, 2), "ef");
  EXPECT_EQ(Call(send(fd(), "1", 1, 0)), Done(1));
  EXPECT_EQ(fputc('2', out_), '2');
  EXPECT_EQ(Call(write(fd(), "3", 1)), Done(1));
  EXPECT_EQ(fputs("45", out_), 1);
  peer().ReceiveText("12345");
}

TEST_P(StdioTest, OneStreamForBothDirections) {
  in_ = fdopen(dup(fd()), "r+");
  ASSERT_NE(in_, nullptr);
  peer().SendText("question\n");
  EXPECT_EQ(Line(), "question\n");
  fseek(in_, 0, SEEK_CUR);  // between reading and writing; fails on a socket, and that is right
  fprintf(in_, "answer\n");
  fflush(in_);
  peer().ReceiveText("answer\n");
}

TEST_P(StdioTest, FreadAndFwriteOfMuch) {
  constexpr size_t kBytes = 1000 * 1000;
  Open();
  std::vector<char> bytes(kBytes);
  peer().StartSend(kBytes, {30000, 3});
  EXPECT_EQ(fread(bytes.data(), 1, kBytes, in_), kBytes);
  EXPECT_TRUE(pair().received.Take(bytes.data(), kBytes));
  peer().ExpectMoved(kBytes);
  peer().StartReceive(kBytes, {30000, 3});
  pair().sent.Fill(bytes.data(), kBytes);
  EXPECT_EQ(fwrite(bytes.data(), 1, kBytes, out_), kBytes);
  EXPECT_EQ(fflush(out_), 0);
  pair().sent.Advance(kBytes);
  peer().ExpectMoved(kBytes);
}

TEST_P(StdioTest, FcloseOfTheLastDescriptorEndsTheConnection) {
  FILE* file = fdopen(dup(fd()), "w");
  ASSERT_NE(file, nullptr);
  pair().Close();
  fprintf(file, "unflushed");
  EXPECT_EQ(fclose(file), 0);
  peer().ReceiveText("unflushed");
  peer().ReceiveEndOfStream();
}

TEST_P(StdioTest, EndOfStreamIsEof) {
  Open();
  peer().SendText("last");
  peer().Shutdown(SHUT_WR);
  EXPECT_EQ(Line(), "last");
  EXPECT_EQ(fgetc(in_), EOF);
  EXPECT_NE(feof(in_), 0);
}

TEST_P(StdioTest, FreopenClosesTheConnection) {
  FILE* file = fdopen(dup(fd()), "w");
  ASSERT_NE(file, nullptr);
  pair().Close();
  fprintf(file, "before");
  file = freopen("/dev/null", "w", file);
  ASSERT_NE(file, nullptr);
  peer().ReceiveText("before");
  peer().ReceiveEndOfStream();
  fclose(file);
}

// Nobody opens a stream here: stdin and stdout are there already.
TEST_P(StdioTest, TheSocketBecomesStandardInputAndOutput) {
  fflush(stdout);
  const FileDescriptor input(dup(STDIN_FILENO)), output(dup(STDOUT_FILENO));
  ASSERT_EQ(dup2(fd(), STDIN_FILENO), STDIN_FILENO);
  ASSERT_EQ(dup2(fd(), STDOUT_FILENO), STDOUT_FILENO);
  std::string failure;
  for (int i = 0; i < 5 && failure.empty(); ++i) {
    char line[100];
    const std::string question = "question " + std::to_string(i) + "\n";
    peer().SendText(question);
    if (fgets(line, sizeof(line), stdin) == nullptr || line != question) failure = "fgets";
    if (send(fd(), "an", 2, 0) != 2) failure = "send";
    printf("swer %d", i);
    if (fflush(stdout) != 0) failure = "printf";
    if (write(STDOUT_FILENO, ".\n", 2) != 2) failure = "write";
    peer().ReceiveText("answer " + std::to_string(i) + ".\n");
    MarkedPoint(fd());
  }
  EXPECT_EQ(dup2(output.get(), STDOUT_FILENO), STDOUT_FILENO);
  EXPECT_EQ(dup2(input.get(), STDIN_FILENO), STDIN_FILENO);
  clearerr(stdin);
  EXPECT_EQ(failure, "");
  pair().ExpectBothWaysWork();
}

TEST_P(StdioTest, Dprintf) {
  EXPECT_EQ(dprintf(fd(), "number %d\n", 17), 10);
  peer().ReceiveText("number 17\n");
  Mark();
  pair().Send(10);
  EXPECT_EQ(dprintf(fd(), "%s", ""), 0);
  EXPECT_EQ(dprintf(fd(), "%0200d", 5), 200);
  peer().Receive(10);
  peer().ReceiveText(std::string(199, '0') + "5");
  pair().ExpectBothWaysWork();
}

TEST_P(StdioTest, DprintfOfMuch) {
  const std::string text(1500, 'x');
  peer().Start(Op::kReceiveText, 1500);
  EXPECT_EQ(dprintf(fd(), "%s", text.c_str()), 1500);
  const Reply reply = peer().Wait();
  EXPECT_EQ(std::string(reply.text, reply.text_length), text);
}

}  // namespace
}  // namespace conformance
