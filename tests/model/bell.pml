/* bell.pml: the doorbell of a process (preload/side/own_doorbell.h, channel/transport.cc: RingDoorbell) as a spin
   model: sleepers of one epoll set who count themselves, look and sleep; a thread that only looks at that set;
   publishers of one peer who ring only while somebody sleeps, and not again while nobody has gone to sleep or woken
   since their last ring. Whoever has got an event may be busy with it for ever.

   A sleeper who stays asleep although there is something to read is an invalid end state.
   Not modelled: weak memory (all of these accesses are sequentially consistent), a publisher's death (wake.pml).

   Wrong variants that pan must reject (run.sh): -DWRONG_WAKE_UNCOUNTED (who wakes does not change the number before he
   looks), -DWRONG_WAKE_LATE (he changes it after that), -DWRONG_LOOKER (the doorbell's event is taken out of the set by
   one who has looked already), -DWRONG_LOOKER_UNCOUNTED (he looks again, and does not change the number),
   -DWRONG_NUMBER_LATE (the number is read after the ring). */

#ifndef BYTES
#define BYTES 2         /* published one after the other by each publisher */
#endif
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#ifndef LOOKS
#define LOOKS 1
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 1
#endif

byte ready;             /* published and not yet told: a byte is one event */
byte publishing = PUBLISHERS;
byte sleepers;          /* the page: how many, */
byte changes;           /* and how often that has changed */
byte rung;              /* the peer's own: the number at its last ring */
byte rung_here;         /* the same for rings of our own */
bool edge;              /* the doorbell is in the set's list of what is ready */

/* RingDoorbell: the event is in the list of the set, whoever takes it from there. */
inline ring(last) {
  if
  :: sleepers == 0
  :: else ->
     number = changes;
     if
     :: last == number
     :: else ->
        edge = true;
#ifdef WRONG_NUMBER_LATE
        number = changes;
#endif
        last = number
     fi
  fi
}

/* A look that has room for one event, and hands on what does not fit. */
inline look() {
  atomic {
    found = (ready > 0);
    ready = ready - found;
    more = (found && ready > 0)
  }
  if
  :: more -> ring(rung_here)
  :: else
  fi
}

proctype Sleeper() {
  bool found, more;
  byte number;
  do
  :: look();
     if
     :: found -> if :: true :: break fi  /* and comes again, or is busy for ever */
     :: else ->
        sleepers++;
        changes++;
        look();
        if
        :: found -> changes++; sleepers--
        :: else ->
           if
           :: atomic { edge -> edge = false }
           :: publishing == 0 && ready == 0 && !edge -> break  /* may sleep for ever */
           fi;
#ifdef WRONG_WAKE_LATE
           look();
           changes++;
           sleepers--;
#else
#ifndef WRONG_WAKE_UNCOUNTED
           changes++;
#endif
           sleepers--;
           look();
#endif
        fi;
        if
        :: found -> if :: true :: break fi
        :: else
        fi
     fi
  od
}

/* epoll_wait with a time-out of 0, on the same set. */
proctype Looker() {
  bool found, more, took;
  byte number;
  byte looks;
  do
  :: looks == LOOKS -> break
  :: else ->
     looks++;
     look();
     if
     :: found
     :: else ->
        atomic { took = edge; edge = false };
#ifndef WRONG_LOOKER
        if
        :: took ->
#ifndef WRONG_LOOKER_UNCOUNTED
           changes++;
#endif
           look()
        :: else
        fi
#endif
     fi
  od
}

proctype Publisher() {
  byte number;
  byte i;
  for (i : 1 .. BYTES) {
    ready++;
    ring(rung)
  }
  publishing--
}

init {
  atomic {
    byte i;
    for (i : 1 .. SLEEPERS) { run Sleeper() }
    run Looker();
    for (i : 1 .. PUBLISHERS) { run Publisher() }
  }
}
