// Are two sockets with matching names the two ends of one connection? Where addresses are
// translated, names do not say so, and neither does what was carried: two clients may have sent the
// same bytes. This decides it by something that only the two ends of one connection share, and that
// a translation keeps: the segments themselves. Each end tosses a coin for every message that it
// has received, and on heads has the kernel acknowledge it at once, by a segment without payload
// that no program can see. It publishes, in memory that the other end maps, how many segments it
// had sent when it had written so many bytes; the other end has counted what came. A stranger's
// connection would have to follow every toss.
//
// Only numbers here: whoever calls asks the kernel for them (preload/socket/pairing.cc), or makes
// them up (tests/simulation).
#pragma once

#include <atomic>
#include <cstdint>

namespace xenloop {

enum class PairingVerdict : uint32_t {
  kNone,
  kSame,      // one connection: FIFOs may be used
  kOther,     // two connections
  kNoAnswer,  // the traffic gave no chance to tell
};

// What an end shows to the other: part of the header of the FIFO that it produces.
struct PairingBoard {
  static constexpr uint32_t kSamples = 16;
  std::atomic<uint32_t> wanted;  // by this end, before it offers or joins
  std::atomic<uint32_t> verdict;
  std::atomic<uint32_t> bits;   // tosses of the other end that came true here
  std::atomic<uint32_t> count;  // of samples so far
  // Low 32 bits of the bytes sent, low 24 of the segments sent, low 8 of the tosses that mattered.
  std::atomic<uint64_t> samples[kSamples];
};

// The kernel's counts for one end, all of one moment.
struct PairingCounts {
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint32_t segments_sent = 0;
  uint32_t data_segments_sent = 0;
  uint32_t segments_received = 0;
  uint32_t quiet_ms = 0;  // since data came
};

// One end's part in it. Under a lock of the caller's, but for `running` and `verdict`.
class Pairing {
 public:
  // Of two strangers in step, one in 2^32 is taken for a pair. Each end's tosses count.
  static constexpr uint32_t kBitsNeeded = 32;
  // The kernel acknowledges by itself what is not answered within 40 ms; a toss means nothing then.
  static constexpr uint32_t kOwnAcknowledgementMs = 20;
  static constexpr uint32_t kContradictions = 3;
  static constexpr uint32_t kDisagreements = 24;
  static constexpr uint32_t kMostMessages = 1024;

  std::atomic<uint32_t> running{0};
  std::atomic<PairingVerdict> verdict{PairingVerdict::kNone};

  void Begin(PairingBoard* mine, const PairingBoard* theirs) {
    mine_ = mine;
    theirs_ = theirs;
    tossed_ = heads_ = clean_ = sent_known_ = pending_ = based_ = false;
    last_segments_ = last_pure_ = tosses_ = messages_ = 0;
    bits_ = agreed_ = disagreed_ = contradicted_ = 0;
    verdict.store(PairingVerdict::kNone, std::memory_order_relaxed);
    running.store(1, std::memory_order_release);
  }
  void End() {
    running.store(0, std::memory_order_release);
    mine_ = nullptr;
    theirs_ = nullptr;
  }

  // A message has been read. True: the kernel is to acknowledge it at once.
  bool Received(const PairingCounts& now, bool coin) {
    Look();
    if (!pending_) {  // else the last one has yet to be answered, or contradicted
      pending_ = true;
      pending_bytes_ = static_cast<uint32_t>(now.bytes_received);
      pending_segments_ = now.segments_received;
      // acquire: whatever is published from now on was counted after these bytes had come, but for
      // one sample that was being made.
      pending_since_ = theirs_->count.load(std::memory_order_acquire);
    }
    if (++messages_ > kMostMessages) Conclude(PairingVerdict::kNoAnswer);
    if (tossed_) return false;  // nothing was sent since: a second toss could undo the first
    tossed_ = true;
    heads_ = coin;
    // Nothing has gone out since, not even an acknowledgement: it is still owed.
    clean_ = sent_known_ && now.segments_sent == last_segments_;
    return heads_;
  }

  // The program has sent something.
  void Sent(const PairingCounts& now) {
    Look();
    const uint32_t pure = now.segments_sent - now.data_segments_sent;
    if (tossed_ && clean_) {
      // Only a toss counts that has decided about a segment: without it there would have been one
      // less, or one more.
      const bool mattered = heads_ ? pure == last_pure_ + 1 && now.quiet_ms < kOwnAcknowledgementMs
                                   : pure == last_pure_;
      if (mattered) ++tosses_;
    }
    tossed_ = false;
    sent_known_ = true;
    last_segments_ = now.segments_sent;
    last_pure_ = pure;
    const uint32_t count = mine_->count.load(std::memory_order_relaxed);
    mine_->samples[count % PairingBoard::kSamples].store(
        (now.bytes_sent << 32) | (static_cast<uint64_t>(now.segments_sent & 0xffffff) << 8) |
            (tosses_ & 0xff),
        std::memory_order_relaxed);
    // release: the sample before its number; pairs with Look.
    mine_->count.store(count + 1, std::memory_order_release);
  }

  // Compares the last message with what the other end says of it, if it has said something.
  void Look() {
    const auto theirs =
        static_cast<PairingVerdict>(theirs_->verdict.load(std::memory_order_acquire));
    if (theirs == PairingVerdict::kSame || theirs == PairingVerdict::kOther) Conclude(theirs);
    if (!pending_) return;
    const uint32_t count = theirs_->count.load(std::memory_order_acquire);
    const uint32_t most = count < PairingBoard::kSamples ? count : PairingBoard::kSamples;
    uint64_t newest = 0;
    for (uint32_t i = 1; i <= most; ++i) {
      const uint64_t sample =
          theirs_->samples[(count - i) % PairingBoard::kSamples].load(std::memory_order_relaxed);
      if (i == 1) newest = sample;
      if (static_cast<uint32_t>(sample >> 32) != pending_bytes_) continue;
      pending_ = false;
      return Compare(static_cast<uint32_t>(sample >> 8) & 0xffffff, sample & 0xff);
    }
    // The second sample since was counted when these bytes had long come here.
    if (count - pending_since_ < 2 || most == 0) return;
    pending_ = false;
    if (static_cast<int32_t>(static_cast<uint32_t>(newest >> 32) - pending_bytes_) >= 0) return;
    // It had not sent by then what we had received.
    if (++contradicted_ >= kContradictions) Conclude(PairingVerdict::kOther);
  }

 private:
  void Compare(uint32_t segments, uint32_t tosses) {
    const uint32_t difference = (segments - pending_segments_) & 0xffffff;
    if (!based_ || difference != base_) {
      // The first, or a segment was lost, or is none of ours: from the start. Only where a toss has
      // mattered it speaks against one connection: streams in both directions never agree.
      if (based_ && tosses != last_tosses_ && ++disagreed_ >= kDisagreements &&
          disagreed_ > agreed_ / 4) {
        return Conclude(PairingVerdict::kOther);
      }
      based_ = true;
      base_ = difference;
      bits_ = 0;
    } else {
      ++agreed_;
      // Of several tosses between two looks only the sum is seen: they count as one.
      if (tosses != last_tosses_) ++bits_;
    }
    last_tosses_ = tosses;
    mine_->bits.store(bits_, std::memory_order_relaxed);
    if (bits_ + theirs_->bits.load(std::memory_order_relaxed) >= kBitsNeeded && bits_ > 0 &&
        disagreed_ < kDisagreements) {
      Conclude(PairingVerdict::kSame);
    }
  }

  void Conclude(PairingVerdict found) {
    if (verdict.load(std::memory_order_relaxed) != PairingVerdict::kNone) return;
    verdict.store(found, std::memory_order_release);
    mine_->verdict.store(static_cast<uint32_t>(found), std::memory_order_release);
  }

  PairingBoard* mine_ = nullptr;
  const PairingBoard* theirs_ = nullptr;
  // As the end that tosses.
  bool tossed_ = false;  // since the last send
  bool heads_ = false;
  bool clean_ = false;
  bool sent_known_ = false;
  uint32_t last_segments_ = 0;  // at the last send
  uint32_t last_pure_ = 0;      // of these, without payload
  uint32_t tosses_ = 0;         // that mattered
  // As the end that counts what comes.
  bool pending_ = false;
  bool based_ = false;
  uint32_t pending_bytes_ = 0;
  uint32_t pending_segments_ = 0;
  uint32_t pending_since_ = 0;
  uint32_t base_ = 0;  // their count less ours: the same all the time, for one connection
  uint32_t last_tosses_ = 0;
  uint32_t bits_ = 0;
  uint32_t agreed_ = 0;
  uint32_t disagreed_ = 0;
  uint32_t contradicted_ = 0;
  uint32_t messages_ = 0;
};

}  // namespace xenloop
