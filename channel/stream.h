// A connection's two streams: which byte goes by which route, switching at an exact offset, falling
// back. The shadow TCP connection is a template parameter, so the same code runs on sockets and, in
// simulation, on vectors. tests/model/switch.pml is send_stream.h and receive_stream.h as a spin
// model.
//
// Rules (each named in the model): (1) a fallback seals both words, then sends the residue [C, P)
// before anything newer; (2) a failed publication means: not sent / not received, go by TCP; (3) a
// new FIFO begins only after the old residue is flushed, at N = TCP bytes written by then; (4) the
// reader takes from the FIFO only when it has read exactly N; (5) a reader keeps a sealed FIFO
// until its residue has come by TCP: if the sender dies before that, the reader takes it from
// there.
//
// What a Shadow must offer:
//
//   ssize_t TrySend(const iovec*, size_t)          never blocks, no SIGPIPE; bytes or -errno
//   ssize_t TryReceive(const iovec*, size_t, int)  never blocks; flags MSG_PEEK, MSG_TRUNC; 0 = end
//   int64_t Written(), Read()                      TCP payload bytes so far, or -errno
//   int64_t ReceivedAtLeast(), ReceivedAtMost()    the same, arrived but perhaps not read
//   void BeforeTcp()                               what is written next goes by TCP, after bytes
//                                                  that did not
//   void PushTcp()                                 nothing follows by TCP for now: what it keeps
//                                                  back, waiting for more, goes out
//   void Reset()                                   ends the connection: no byte of it can be right
//   bool Readable()                                data, end of stream or an error is pending
//   bool Ended()                                   nothing is left to read, and nothing will come
//   bool StillOurs()                               under the lock: still the stream we looked up
//   void Ring(bool certain, uint32_t bell)         the peer's bell: somebody waits for this FIFO;
//                                                  certain: a thread of it is known to sleep; bell:
//                                                  what the FIFO says of it (fifo.h)
//   void RingAll(bool certain, uint32_t bell)      a route ended: the peer's bell and our own
//
// Both structs live in memory shared by a process and its forked children; they hold no pointers
// but the mapping of the FIFO, which fork preserves. Zero-initialised memory is a valid stream on
// TCP.
#pragma once

#include "channel/receive_stream.h"
#include "channel/send_stream.h"
