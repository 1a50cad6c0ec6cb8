/* datagram_sleep.pml: who sleeps at a UDP socket, and who wakes him (channel/datagram_fifo.h: BeginPut, GoToSleep;
   preload/side/datagram_side.h: DatagramSleeper, TellSleepers, HasTakenAnothersRing) as a spin model: a sender with a FIFO,
   threads that receive by the same socket and sleep in the kernel, where the wake-up of one may be another's datagram.

   When the sender has sent all and nobody can go on, everything has been received: else somebody sleeps beside a datagram.
   A thread that has received one works until another has the next, in -DPAIRS: so no datagram may wait for a thread that works.
   Not modelled: waits for edges, seals, weak memory (these accesses are sequentially consistent).

   Wrong variants that pan must reject (run.sh): -DWRONG_NO_LAST_LOOK, -DWRONG_NO_PUTTING (a sender is not waited for),
   -DWRONG_ONE_RING (several sleepers, one ring), -DWRONG_NOT_CROWDED (who takes another's ring says nothing). */

#ifndef SENDS
#define SENDS 4
#endif
#ifndef THREADS
#define THREADS 2
#endif

#define NOBODY 0
#define ONE 1
#define SEVERAL 2

byte fifo, kernel;    /* datagrams there */
byte received;
byte sleepers;        /* counted by the threads */
byte asleep;          /* the board's word: who ... */
byte which;           /* ... and which sleep */
bool putting;
bool crowded;
bool by_kernel;       /* the receiver has gone back to the kernel */
byte ended;

/* Under the receive lock. */
inline tell() {
  if
  :: sleepers > 1 -> crowded = true
  :: else
  fi;
  which = (which + 1) % 16;
  asleep = (sleepers == 0 -> NOBODY : (sleepers > 1 || crowded -> SEVERAL : ONE));
#ifndef WRONG_NO_PUTTING
  !putting || asleep == NOBODY;
#endif
}
bool locked;
inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

/* What it has taken is what another waits for (-DPAIRS): it works on until somebody has received the next. */
inline work() {
#ifdef PAIRS
  atomic { received++; mine = received }
  if
  :: mine % 2 == 1 -> received != mine
  :: else
  fi
#else
  received++
#endif
}

proctype Sender() {
  byte sent;
  byte seen;
  byte seen_which;
  byte rung = 255;
  for (sent : 1 .. SENDS) {
    if
    :: by_kernel -> kernel++
    :: else ->
       putting = true;
       atomic { seen = asleep; seen_which = which }
       if
#ifdef WRONG_ONE_RING
       :: seen == NOBODY || seen_which == rung || (fifo != 0) ->
#else
       :: seen == NOBODY || (seen == ONE && seen_which == rung) || fifo != 0 ->
#endif
          atomic { fifo++; putting = false }
       :: else ->
          rung = seen_which;
          putting = false;
          kernel++
       fi
    fi
  }
  ended++;
}

proctype Receiver() {
  byte mine;
  bool wait;
  do
  :: received >= SENDS -> break
  :: else ->
     /* A look at everything. */
     lock();
     if
     :: atomic { fifo > 0 -> fifo-- }; unlock(); work()
     :: else ->
        if
        :: atomic { kernel > 0 -> kernel-- };
#ifndef WRONG_NOT_CROWDED
           if
           :: sleepers > 0 && !crowded ->
              crowded = true;
              tell();
              if
              :: fifo > 0 -> atomic { by_kernel = true; kernel = kernel + fifo; fifo = 0 }
              :: else
              fi
           :: else
           fi;
#endif
           unlock();
           work()
        :: else ->
           unlock();
           atomic { sleepers++ }
           lock();
           tell();
#ifdef WRONG_NO_LAST_LOOK
           wait = true;
#else
           wait = (fifo == 0);
#endif
           unlock();
           if
           :: wait ->
end:          if
              :: atomic { kernel > 0 -> kernel--; wait = true }
              fi
           :: else
           fi;
           atomic { sleepers-- }
           lock();
           tell();
           unlock();
           if
           :: wait -> work()
           :: else
           fi
        fi
     fi
  od;
  ended++;
}

init {
  byte i;
  atomic {
    run Sender();
    for (i : 1 .. THREADS) { run Receiver() }
  }
  timeout -> assert(received == SENDS && fifo == 0 && kernel == 0)
}
