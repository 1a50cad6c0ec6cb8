// What a jump gives back: what the frames hold that it leaves, on every machine whose libc's points
// of return are understood.
#include "preload/process/jump.h"

#include <gtest/gtest.h>

#include "channel/base/abandon.h"

namespace xenloop {
namespace {

class Scope : public Abandonable {
 public:
  explicit Scope(bool* given_back) : given_back_(given_back) { Enter(&GiveBack); }
  ~Scope() { Leave(); }

 private:
  static void GiveBack(Abandonable* scope) { *static_cast<Scope*>(scope)->given_back_ = true; }

  bool* given_back_;
};

// A sanitizer may keep the variables of a function elsewhere than on the stack, which is what a
// jump unwinds.
#define ON_THE_STACK __attribute__((noinline, no_sanitize_address))

ON_THE_STACK void JumpFromBelow(const __jmp_buf_tag* target, bool* given_back) {
  const Scope scope(given_back);
  BeforeJump(target);
}

ON_THE_STACK void JumpWithin() {
  sigjmp_buf here;
  if (__sigsetjmp(here, 0) == 0) BeforeJump(here);
}

ON_THE_STACK void JumpBeneath(bool* given_back) {
  const Scope scope(given_back);
  JumpWithin();
}

TEST(BeforeJumpTest, GivesBackWhatIsHeldBelow) {
  sigjmp_buf here;
  if (__sigsetjmp(here, 0) != 0) FAIL() << "nobody has jumped";
  bool given_back = false;
  JumpFromBelow(here, &given_back);
  EXPECT_TRUE(given_back);
}

TEST(BeforeJumpTest, LeavesAloneWhatIsHeldAbove) {
  bool given_back = false;
  JumpBeneath(&given_back);
  EXPECT_FALSE(given_back);
}

}  // namespace
}  // namespace xenloop
