// Back to TCP, and waiting for it: what any thread does to end the FIFOs of a side. The agent
// finishes what is left over (agent/agent_service.cc).
#pragma once

#include <cstdint>

#include "preload/side/side.h"

namespace xenloop {

// Ends the FIFOs of a side at once, from any thread: seals, sends the residue as far as TCP takes
// it, leaves the rest to the agent. Harmless on a side that is on TCP.
void FallBack(int fd, Side* side, Reason reason);
// The same for one direction. A reader that does not read must not keep us from what it has sent.
// Receiving: no fallback of its own, the rest of one.
void FallBackSending(int fd, Side* side, Reason reason);
void FallBackReceiving(int fd, Side* side);
// fdopen, aio, SCM_RIGHTS, splice, kTLS ...: this connection goes by TCP from now on, kNow: until
// it is upgraded again. kUnseen: whoever writes next does not pass through us, so this waits until
// TCP has what the FIFO owed; if TCP takes no byte of it for some seconds, the connection is reset.
// kPerhapsUnseen: another program has the descriptor, and very likely no use for it: waits, and
// leaves what is owed then to the agent.
enum class TcpFor : uint8_t { kNow, kGood };
enum class NextWriter : uint8_t { kUnseen, kPerhapsUnseen, kOurs };
void FallBackToTcp(int fd, Reason reason, TcpFor how_long,
                   NextWriter next_writer = NextWriter::kUnseen);
// From now on bytes may move unseen (io_uring): all sockets of this process go by TCP, for good.
void Bypassed(Reason reason);
// The last close of an attached side, which has been taken out of the table: what of it goes on.
struct EndedByClose {
  bool pending;  // TCP has not taken all of the residue
  bool unread;   // the FIFO held bytes that nobody will read
  bool first;    // the peer had ended neither FIFO: its agent is told by the end of TCP, and tells
                 // ours
};
// Signals are blocked, for both.
EndedByClose EndForClose(int fd, Side* side);
// Waits until TCP has what such a side owes, for some seconds. What it has not by then the peer
// finds in the FIFO, behind the end of TCP; if nobody knows where that begins, a reset.
void FlushForClose(int fd, Side* side);
// Our last number is about to be closed, others have the connection, and may never touch it: what
// TCP has not taken of the residue our agent sends by a number of its own.
void SendRestLater(int fd, Side* side);
// Nobody has said (yet) where the residue of this side begins, and it cannot wait: a reset.
void StopAsking(Side* side);

}  // namespace xenloop
