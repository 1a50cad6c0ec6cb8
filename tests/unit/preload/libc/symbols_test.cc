// The look-up of libc's functions, beside dlsym's.
#include "preload/libc/symbols.h"

#include <dlfcn.h>

#include <atomic>

#include "gtest/gtest.h"
#include "preload/libc/threads.h"

namespace xenloop {
namespace {

const char* const kNames[] = {
#define INTERPOSE(name) #name,
#define ALIAS(name, function) #name,
#include "preload/libc/interposed_functions.def"
#undef INTERPOSE
#undef ALIAS
};

TEST(NextDefinition, IsWhatDlsymFinds) {
  for (const char* name : kNames) EXPECT_EQ(NextDefinition(name), dlsym(RTLD_NEXT, name)) << name;
}

TEST(NextDefinition, TakesTheDefaultOfSeveralVersions) {
  // Each has had another meaning once. (memcpy, too, but which of its variants is chosen at the
  // start.)
  for (const char* name : {"realpath", "posix_spawn", "nftw", "pthread_cond_wait", "pthread_create",
                           "__libc_single_threaded"})
    EXPECT_EQ(NextDefinition(name), dlsym(RTLD_DEFAULT, name)) << name;
}

TEST(NextDefinition, IsNothingWhereNobodyHasIt) {
  EXPECT_EQ(NextDefinition("no_such_function_anywhere"), nullptr);
  EXPECT_EQ(NextDefinition(""), nullptr);
}

void* Nothing(void* ran) {
  static_cast<std::atomic<bool>*>(ran)->store(true);
  return nullptr;
}

TEST(Threads, AreFoundAndSeen) {
  ASSERT_TRUE(threads::Find());
  threads::TestCancel();
  std::atomic<bool> ran{false};
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, nullptr, Nothing, &ran), 0);
  pthread_join(thread, nullptr);
  EXPECT_TRUE(ran);
  EXPECT_TRUE(threads::Several());
}

std::atomic<int> cleaned_up{0};

TEST(Threads, CleanUpOnCancellationOnly) {
  ASSERT_TRUE(threads::Find());
  cleaned_up = 0;
  EXPECT_EQ(threads::CleaningUp([] { return 7; }, [] { ++cleaned_up; }), 7);
  EXPECT_EQ(cleaned_up, 0);
  pthread_t thread;
  const auto run = [](void*) -> void* {
    threads::CleaningUp(
        [] {
          pthread_cancel(pthread_self());
          threads::TestCancel();
          return 0;
        },
        [] { ++cleaned_up; });
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, nullptr, run, nullptr), 0);
  void* result = nullptr;
  pthread_join(thread, &result);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_EQ(cleaned_up, 1);
}

}  // namespace
}  // namespace xenloop
