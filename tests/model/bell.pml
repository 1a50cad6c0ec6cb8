/* bell.pml: the doorbell of a process (preload/side/own_doorbell.h, channel/transport.cc: RingDoorbell) as a spin
   model: sleepers of one epoll set who count themselves, look and sleep; a thread that only looks at that set;
   publishers of one peer who ring only while somebody sleeps, and not again while nobody has gone to sleep or woken
   since their last ring. Whoever has got an event may be busy with it for ever.

   The set has a bell besides, whose line in the page counts its sleepers; those of the doorbell are all. The FIFO names
   the bell, and a publisher rings it, or, if he does not have it, the doorbell for its line. With -DOTHER a thread waits
   in another set, to which the connection has been added: nobody knows which bell then, and the doorbell wakes both sets.

   A sleeper who stays asleep although there is something to read is an invalid end state.
   Not modelled: weak memory (all of these accesses are sequentially consistent), a publisher's death (wake.pml).

   Wrong variants that pan must reject (run.sh): -DWRONG_WAKE_UNCOUNTED (who wakes does not change the number before he
   looks), -DWRONG_WAKE_LATE (he changes it after that), -DWRONG_LOOKER (the doorbell's event is taken out of the set by
   one who has looked already), -DWRONG_LOOKER_UNCOUNTED (he looks again, and does not change the number),
   -DWRONG_NUMBER_LATE (the number is read after the ring); -DWRONG_LINE_LATE (a sleeper counts himself in his bell's line
   behind the look), -DWRONG_UNKNOWN (who does not have the bell rings nobody), -DOTHER -DWRONG_NAME_LATE (the name is
   changed behind the look of him who waits elsewhere). */

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
byte line_sleepers;     /* the same of the set's bell */
byte line_changes;
byte rung;              /* the peer's own: the number at its last ring of the doorbell, */
byte rung_bell;         /* and of the bell */
byte rung_here;         /* the same for rings of our own */
bool named = true;      /* the FIFO names the set's bell */
bool edge;              /* the doorbell, or the bell, is in the set's list of what is ready */
bool edge_there;        /* the doorbell in that of the other set */

/* RingDoorbell, RingBell: the event is in the list of the set, whoever takes it from there. */
inline ring_line(asleep, count, last, all) {
  if
  :: asleep == 0
  :: else ->
     number = count;
     if
     :: last == number
     :: else ->
        edge = true;
        if
        :: all -> edge_there = true
        :: else
        fi;
#ifdef WRONG_NUMBER_LATE
        number = count;
#endif
        last = number
     fi
  fi
}

/* RingPeerOf. */
inline ring(knows) {
  if
  :: !named -> ring_line(sleepers, changes, rung, true)
  :: named && knows -> ring_line(line_sleepers, line_changes, rung_bell, false)
  :: named && !knows ->
#ifndef WRONG_UNKNOWN
     if
     :: line_sleepers != 0 -> ring_line(sleepers, changes, rung, true)
     :: else
     fi
#else
     skip
#endif
  fi
}

inline goes_to_sleep() {
  sleepers++;
  changes++;
#ifndef WRONG_LINE_LATE
  line_sleepers++;
  line_changes++
#endif
}
inline has_woken() {
#ifndef WRONG_WAKE_UNCOUNTED
  changes++;
#endif
  sleepers--;
#ifndef WRONG_WAKE_UNCOUNTED
  line_changes++;
#endif
  line_sleepers--
}

/* A look that has room for one event, and hands on what does not fit. */
inline look() {
  atomic {
    found = (ready > 0);
    ready = ready - found;
    more = (found && ready > 0)
  }
  if
  :: more -> ring_line(line_sleepers, line_changes, rung_here, false)
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
        goes_to_sleep();
        look();
#ifdef WRONG_LINE_LATE
        line_sleepers++;
        line_changes++;
#endif
        if
        :: found -> has_woken()
        :: else ->
           if
           :: atomic { edge -> edge = false }
           :: publishing == 0 && ready == 0 && !edge -> break  /* may sleep for ever */
           fi;
#ifdef WRONG_WAKE_LATE
           look();
           has_woken();
#else
           has_woken();
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
           line_changes++;
#endif
           look()
        :: else
        fi
#endif
     fi
  od
}

/* Waits for the connection in another set, into which he puts it first. */
proctype Other() {
  bool found, more;
  byte number;
#ifndef WRONG_NAME_LATE
  named = false;
#endif
  sleepers++;
  changes++;
  do
  :: look();
#ifdef WRONG_NAME_LATE
     named = false;
#endif
     if
     :: found -> break
     :: else ->
        if
        :: atomic { edge_there -> edge_there = false }
        :: publishing == 0 && ready == 0 && !edge_there -> break
        fi;
        changes++;
        sleepers--;
        sleepers++;
        changes++
     fi
  od;
  sleepers--;
  changes++
}

/* Has the bell from some moment on. */
proctype Publisher() {
  byte number;
  byte i;
  bool knows;
  for (i : 1 .. BYTES) {
    if
    :: knows = true
    :: skip
    fi;
    ready++;
    ring(knows)
  }
  publishing--
}

init {
  atomic {
    byte i;
    for (i : 1 .. SLEEPERS) { run Sleeper() }
    run Looker();
#ifdef OTHER
    run Other();
#endif
    for (i : 1 .. PUBLISHERS) { run Publisher() }
  }
}
