// A machine in order for the doctor, and what the tests expect of its findings.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/tool_test_support.h"
#include "tools/doctor.h"

namespace xenloop::tools {

// A machine in order, in a directory of its own.
class DoctorTest : public testing::Test {
 protected:
  DoctorTest() {
    std::filesystem::create_directory(directory_ / "lib");
    std::filesystem::create_directory(directory_ / "shm");
    std::filesystem::copy_file(TEST_LIBRARY, directory_ / "lib/libxenloop.so");
    chmod((directory_ / "shm").c_str(), 01777);
    places_.library_candidates = {directory_ / "lib/libxenloop.so"};
    places_.config = directory_ / "xenloop.conf";
    places_.preload_file = directory_ / "ld.so.preload";
    places_.shared_memory = directory_ / "shm";
    places_.agents.proc_net_unix = "/dev/null";
    places_.limits.silence_ms = 500;
    program_.uid = geteuid();
  }

  std::string own_runtime() const {
    return absl::StrCat(places_.shared_memory, "/xenloop-", program_.uid);
  }

  TemporaryDirectory directory_;
  DoctorPlaces places_;
  ProgramSurroundings program_;
  Findings findings_;
};

#define EXPECT_PROBLEM(text)                                          \
  EXPECT_EQ(findings_.Problems(), 1u) << findings_.ToString();        \
  EXPECT_THAT(findings_.ToString(), testing::HasSubstr("PROBLEM  ")); \
  EXPECT_THAT(findings_.ToString(), testing::HasSubstr(text))
#define EXPECT_NO_PROBLEM() EXPECT_EQ(findings_.Problems(), 0u) << findings_.ToString()

}  // namespace xenloop::tools
