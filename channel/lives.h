// What a stream knows of the life word (life.h), if its connection may have one life after the
// other: that it ends with the FIFO, and that the other end of the life may have finished. What
// begins and closes a life is parked_end.h.
#pragma once

#include "channel/fifo.h"
#include "channel/life.h"

namespace xenloop {

struct Lives {
  SharedLifeWord* word = nullptr;  // none: an ordinary connection
  Role role = Role::kClient;

  explicit operator bool() const { return word != nullptr; }

  // Before the seal of a FIFO: a byte of a connection that is not DEAD must not go by TCP.
  void End() const {
    if (word != nullptr) word->End();
  }
  // Nothing will come by `fifo` beyond what lies there.
  bool OtherHasFinished() const {
    if (word == nullptr) return false;
    const LifeWord now = word->Load();
    return now.State() == LifeState::kLive && now.Has(LifeWord::Finished(Other(role)));
  }
  // And all of it has been taken: the end of the stream. The word before the index: what was sent
  // before the end is there for who has seen the end.
  bool AtEnd(const Fifo& fifo) const { return OtherHasFinished() && fifo.AvailableBytes() == 0; }
  // Whoever has sent looks afterwards whether the other end has closed meanwhile, and left of
  // `fifo` what nobody will read there: TCP has a RST for that. (Who closes looks at the FIFO
  // afterwards.)
  bool OtherHasLeft(const Fifo& fifo) const {
    if (word == nullptr) return false;
    const LifeWord now = word->Load();
    return now.State() == LifeState::kLive && now.Has(LifeWord::Closed(Other(role))) &&
           fifo.AvailableBytes() != 0;
  }
};

}  // namespace xenloop
