// See link.h.
#include "discovery/daemon/rendezvous/link.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "channel/xen/xen_transport.h"
#include "discovery/daemon/xenstore/keys.h"

namespace xenloop {
namespace {

constexpr uint64_t kLinkFifoBytes = 16384;
constexpr size_t kMostWaiting = 1 << 20;

uint64_t DrawNonce() {
  std::random_device random;
  return (static_cast<uint64_t>(random()) << 32 | random()) | 1;
}

}  // namespace

bool ParseLinkKey(const std::string& text, LinkKey* key) {
  int end = 0;
  if (std::sscanf(text.c_str(),
                  "1 %16" SCNx64 " %16" SCNx64 " %16" SCNx64 " %16" SCNx64 " %16" SCNx64
                  " %16" SCNx64 "%n",
                  &key->nonce, &key->reference, &key->pages, &key->identity, &key->port, &key->echo,
                  &end) != 6) {
    return false;
  }
  return end > 0 && static_cast<size_t>(end) == text.size() && key->nonce != 0;
}

std::string FormatLinkKey(const LinkKey& key) {
  return absl::StrFormat("1 %x %x %x %x %x %x", key.nonce, key.reference, key.pages, key.identity,
                         key.port, key.echo);
}

struct Link::Key : LinkKey {};

Link::Link(XenStore* store, uint32_t own_domid, uint32_t peer_domid)
    : store_(store),
      own_(own_domid),
      peer_(peer_domid),
      own_key_(absl::StrCat("data/xenloop-link/", peer_domid)),
      peer_key_(absl::StrCat(DomainPath(peer_domid), "/data/xenloop-link/", own_domid)) {}

Link::~Link() {
  Drop();
  static_cast<void>(store_->Remove(own_key_));
  static_cast<void>(store_->Unwatch(peer_key_));
}

void Link::Withdraw() { static_cast<void>(store_->Remove(own_key_)); }

bool Link::PeerHasLeft() {
  if (!stands_) return true;
  const absl::StatusOr<std::string> text = store_->Read(peer_key_);
  return !text.ok() && !absl::IsUnavailable(text.status());
}

uint32_t Link::port() const { return XenPortOf(bell_); }

void Link::Drop() {
  if (theirs_.fifo) theirs_.fifo.Seal();
  if (mine_.fifo) mine_.fifo.Seal();
  if (stands_) RingAnyway(bell_);
  stands_ = false;
  ReleaseFifo(&theirs_);
  ReleaseFifo(&mine_);
  XenTransport().release_doorbell(&bell_);
  incoming_.clear();
  outgoing_.clear();
  known_consumer_ = 0;
}

absl::Status Link::Start() {
  if (absl::Status status = store_->Watch(peer_key_); !status.ok()) return status;
  return Reset();
}

absl::Status Link::Reset() {
  Drop();
  nonce_ = DrawNonce();
  echo_ = 0;
  ticket_ = Ticket{};
  ticket_.peer = peer_;
  if (const int error = XenTransport().create_fifo(kLinkFifoBytes, &mine_, &ticket_); error != 0)
    return absl::ResourceExhaustedError(absl::StrCat("grants: ", strerror(-error)));
  if (own_ < peer_) {
    Ticket bell;
    bell.peer = peer_;
    if (const int error = XenTransport().create_doorbell(&bell_, &bell); error != 0)
      return absl::ResourceExhaustedError(absl::StrCat("event channel: ", strerror(-error)));
  }
  return Publish();
}

absl::Status Link::Publish() {
  const LinkKey key{nonce_,           ticket_.words[0],          ticket_.words[1],
                    ticket_.words[2], own_ < peer_ ? port() : 0, echo_};
  if (absl::Status status = store_->Write(own_key_, FormatLinkKey(key)); !status.ok())
    return status;
  return store_->SetPermissions(own_key_, {absl::StrCat("n", own_), absl::StrCat("r", peer_)});
}

absl::Status Link::Open(const Key& theirs) {
  Ticket ticket;
  ticket.peer = peer_;
  ticket.words[0] = theirs.reference;
  ticket.words[1] = theirs.pages;
  ticket.words[2] = theirs.identity;
  if (const int error = XenTransport().map_fifo(&ticket, &theirs_); error != 0)
    return absl::UnavailableError(absl::StrCat("peer's FIFO: ", strerror(-error)));
  if (own_ > peer_) {
    if (const int error = BindDoorbell(peer_, static_cast<uint32_t>(theirs.port), &bell_);
        error != 0)
      return absl::UnavailableError(absl::StrCat("peer's event channel: ", strerror(-error)));
  }
  stands_ = true;
  RingAnyway(bell_);
  return absl::OkStatus();
}

absl::Status Link::Follow() {
  const absl::StatusOr<std::string> text = store_->Read(peer_key_);
  Key theirs;
  if (!text.ok() || !ParseLinkKey(*text, &theirs)) {
    if (text.status().code() == absl::StatusCode::kUnavailable) return text.status();
    if (!stands_ && echo_ == 0) return absl::OkStatus();
    // Gone: its daemon has ended, or its guest.
    const absl::Status status = Reset();
    return status.ok() ? absl::UnavailableError("the peer's daemon has gone") : status;
  }
  if (theirs.nonce != echo_) {
    // Another attempt of theirs. What we have published is still good unless they had begun with
    // it: two ends that both begin anew at each change of the other would never meet.
    if (stands_ || mine_.fifo.Sealed()) {
      if (absl::Status status = Reset(); !status.ok()) return status;
    }
    echo_ = theirs.nonce;
    if (absl::Status status = Publish(); !status.ok()) return status;
  }
  if (stands_ || theirs.echo != nonce_) return absl::OkStatus();
  absl::Status status = Open(theirs);
  if (!status.ok()) static_cast<void>(Reset());
  return status;
}

bool Link::Send(FrameType type, uint32_t bridge, const void* payload, size_t length) {
  if (!stands_) return true;
  if (outgoing_.size() > kMostWaiting) return false;
  const FrameHeader header{static_cast<uint32_t>(sizeof(FrameHeader) + length), type, bridge, 0};
  outgoing_.append(reinterpret_cast<const char*>(&header), sizeof header);
  outgoing_.append(static_cast<const char*>(payload), length);
  Pump();
  return outgoing_.size() <= kMostWaiting;
}

void Link::Pump() {
  if (!stands_ || outgoing_.empty()) return;
  const iovec all{outgoing_.data(), outgoing_.size()};
  IovCursor source(&all, 1);
  const FifoResult result = mine_.fifo.Produce(source, known_consumer_, 0);
  outgoing_.erase(0, result.bytes);
  if (!outgoing_.empty()) RequestDoorbell(mine_.fifo.header->producer_waiting);
  if (result.bytes > 0) RingAnyway(bell_);
}

bool Link::Receive(std::vector<Frame>* frames) {
  if (!stands_) return true;
  if (outgoing_.size() > kMostWaiting) return false;
  for (uint64_t left = theirs_.fifo.capacity_bytes; left > 0;) {
    char bytes[4096];
    const iovec room{bytes, sizeof bytes};
    IovCursor destination(&room, 1);
    const FifoResult result =
        theirs_.fifo.Consume(&destination, std::min<uint64_t>(left, sizeof bytes), false);
    incoming_.append(bytes, result.bytes);
    left -= result.bytes;
    if (result.bytes > 0) {
      if (WakeSleepers(theirs_.fifo.header->producer_waiting, /*once=*/true, true) != 0)
        RingAnyway(bell_);
      continue;
    }
    if (result.state != FifoState::kOpen) return false;
    break;
  }
  size_t at = 0;
  while (incoming_.size() - at >= sizeof(FrameHeader)) {
    FrameHeader header;
    memcpy(&header, incoming_.data() + at, sizeof header);
    if (header.length < sizeof header || header.length > kLongestFrame) return false;
    if (incoming_.size() - at < header.length) break;
    frames->push_back(Frame{header.type, header.bridge,
                            incoming_.substr(at + sizeof header, header.length - sizeof header)});
    at += header.length;
  }
  incoming_.erase(0, at);
  return true;
}

}  // namespace xenloop
