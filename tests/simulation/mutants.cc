// See world.h: wrong protocols, made by hand from the public parts of the real streams. None may go
// unnoticed.
#include "tests/simulation/world.h"

namespace xenloop::simulation {

const char* NameOf(Mutant mutant) {
  switch (mutant) {
    case Mutant::kNone:
      return "none";
    case Mutant::kSealProducerOnly:
      return "seal-producer-only";
    case Mutant::kDropResidue:
      return "drop-residue";
    case Mutant::kResendResidue:
      return "resend-residue";
    case Mutant::kNewerBeforeResidue:
      return "newer-before-residue";
    case Mutant::kSwitchUnderKernelUsers:
      return "switch-under-kernel-users";
    case Mutant::kOffsetTooSmall:
      return "offset-too-small";
    case Mutant::kReaderSkipsTcp:
      return "reader-skips-tcp";
    case Mutant::kEndWithoutSeal:
      return "end-without-seal";
    case Mutant::kForgetFlush:
      return "forget-flush";
    case Mutant::kReadinessWithoutAdvance:
      return "readiness-without-advance";
    case Mutant::kCountPeeks:
      return "count-peeks";
    case Mutant::kForgetResidue:
      return "forget-residue";
    case Mutant::kRecoverNothing:
      return "recover-nothing";
    case Mutant::kReadyTooEarly:
      return "ready-too-early";
    case Mutant::kKeepUnsealed:
      return "keep-unsealed";
    case Mutant::kAnswerUnsealed:
      return "answer-unsealed";
    case Mutant::kTrustOldIndex:
      return "trust-old-index";
    case Mutant::kWakeOnlyWhoAsks:
      return "wake-only-who-asks";
    case Mutant::kTrustNames:
      return "trust-names";
    case Mutant::kNoCoins:
      return "no-coins";
    case Mutant::kPassOwing:
      return "pass-owing";
    case Mutant::kTakeUpInCall:
      return "take-up-in-call";
    case Mutant::kCount:
      break;
  }
  return "?";
}

void World::Misbehave(int e) {
  End& end = At(e);
  if (!end.Alive() || !end.attached || end.send_lock_held || end.receive_lock_held) return;
  SendStream& send = end.send;
  FifoHeader* const mine = end.mine->fifo.header;
  const SendRoute route = send.route.load();
  const ReceiveRoute receive_route = end.receive.route.load();
  const bool was_quiet = quiet_;
  quiet_ = true;
  VectorShadow shadow(*this, e);
  switch (mutant_) {
    case Mutant::kSealProducerOnly:
      if (route != SendRoute::kFifo || mine->producer.load() == mine->consumer.load()) break;
      mine->producer.fetch_or(1);
      send.residue_begin = IndexOf(mine->consumer.load());
      send.residue_end = IndexOf(mine->producer.load());
      send.route.store(SendRoute::kFlushing);
      send.PumpResidue(shadow);
      break;
    case Mutant::kDropResidue:
      if (route != SendRoute::kFifo) break;
      send.BeginFlush(shadow);
      send.residue_begin = send.residue_end;
      break;
    case Mutant::kResendResidue:
      if (route != SendRoute::kFifo || mine->consumer.load() < 2) break;
      send.BeginFlush(shadow);
      --send.residue_begin;
      break;
    case Mutant::kNewerBeforeResidue:
      if (route != SendRoute::kFifo || end.closing_write) break;
      send.BeginFlush(shadow);
      KernelSend(e, 3);
      break;
    case Mutant::kSwitchUnderKernelUsers:
      if (route != SendRoute::kOffered || !send.kernel_users.Any()) break;
      mine->switch_offset.store(Out(e).written());
      mine->up.store(1);
      send.route.store(SendRoute::kFifo);
      break;
    case Mutant::kOffsetTooSmall:
      if (mine->up.load() != 0 && mine->switch_offset.load() == Out(e).written() &&
          Out(e).written() > 0) {
        mine->switch_offset.fetch_sub(1);
      }
      break;
    case Mutant::kReaderSkipsTcp:
      if (receive_route == ReceiveRoute::kDraining) end.receive.route.store(ReceiveRoute::kFifo);
      break;
    case Mutant::kEndWithoutSeal:
      if (receive_route == ReceiveRoute::kFifo) end.receive.route.store(ReceiveRoute::kTcp);
      break;
    case Mutant::kForgetFlush:
      if (route == SendRoute::kFlushing) send.route.store(SendRoute::kTcp);
      break;
    case Mutant::kRecoverNothing:
      DieInFlush(e);
      break;
    case Mutant::kPassOwing:
      if (end.passing == Passing::kNo && route == SendRoute::kFifo &&
          end.mine->fifo.AvailableBytes() > 0)
        PassOn(e);
      break;
    case Mutant::kTakeUpInCall:
    case Mutant::kTrustNames:
    case Mutant::kNoCoins:
    case Mutant::kReadyTooEarly:
    case Mutant::kKeepUnsealed:
    case Mutant::kAnswerUnsealed:
    case Mutant::kTrustOldIndex:
    case Mutant::kWakeOnlyWhoAsks:
    case Mutant::kForgetResidue:
    case Mutant::kCountPeeks:
    case Mutant::kReadinessWithoutAdvance:
    case Mutant::kNone:
    case Mutant::kCount:
      break;
  }
  quiet_ = was_quiet;
}

}  // namespace xenloop::simulation
