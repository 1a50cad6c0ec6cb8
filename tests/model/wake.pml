/* wake.pml: a wake-up on a word of a FIFO (channel/fifo.h: ArmFutex, WakeSleepers, WakeOwnSleepers) as a spin model:
   sleepers who ask, look again and sleep; a waker who publishes, takes the request away and wakes, and may be killed
   between any two of these steps; the sleepers' agent, who learns of the death.

   A sleeper who stays asleep although there is something to read, or an end to be told, is an invalid end state.
   Not modelled: weak memory (all of these accesses are sequentially consistent), the doorbell (nothing can take it away).

   Wrong variants that pan must reject (run.sh): -DWRONG_ONLY_WHO_ASKS, -DWRONG_NO_SECOND_LOOK, -DWRONG_TAKE_FIRST,
   -DWRONG_NO_COUNT (a sleeper who is about to sleep takes the request of another, made since the wake-up, for his own). */

#ifndef BYTES
#define BYTES 3
#endif
#ifndef SLEEPERS
#define SLEEPERS 2
#endif

byte published;
byte consumed;
bool request;           /* the futex bit of the waiting word */
byte wakes;             /* its count of wake-ups */
bool asleep[SLEEPERS];  /* in the kernel's queue of that word */
bool dead;              /* the waker: its kernel ends the connection */

#define ENOUGH (consumed == BYTES || (dead && consumed == published))

inline wake_all() {
#ifndef WRONG_NO_COUNT
  wakes++;
#endif
  atomic {
    for (i : 0 .. SLEEPERS - 1) { asleep[i] = false }
  }
}

proctype Sleeper(byte self) {
  byte seen;
  do
  :: atomic { published > consumed -> consumed++ }
  :: ENOUGH -> break
  :: published == consumed && !ENOUGH ->
     atomic { request = true; seen = wakes };
     if
#ifndef WRONG_NO_SECOND_LOOK
     :: published > consumed || ENOUGH
     :: published == consumed && !ENOUGH ->
#else
     :: true ->
#endif
        /* The kernel compares the word and puts us to sleep in one step. */
        atomic {
          if
          :: request && wakes == seen -> asleep[self] = true
          :: !request || wakes != seen
          fi
        };
#ifdef NO_DEATH
        !asleep[self] || consumed == BYTES  /* there is no more to wait for */
#else
        !asleep[self]
#endif
     fi
  od
}

proctype Waker() {
  byte i;
  {
    do
    :: published == BYTES -> break
    :: published < BYTES ->
#ifdef WRONG_TAKE_FIRST
       if
       :: request -> request = false; wake_all()
       :: !request
       fi;
       published++
#else
       published++;
       if
       :: request ->
          request = false;
          wake_all()
       :: !request
       fi
#endif
    od
  } unless { dead }
}

proctype Killer() { dead = true }

/* ShadowEvent and ChannelGone of preload/agent/agent_service.cc. */
proctype Agent() {
  byte i;
  dead;
#ifdef WRONG_ONLY_WHO_ASKS
  if
  :: request -> request = false; wake_all()
  :: !request
  fi
#else
  request = false;
  wake_all()
#endif
}

init {
  atomic {
    byte i;
    for (i : 0 .. SLEEPERS - 1) { run Sleeper(i) }
#ifndef NO_DEATH
    run Killer();
    run Agent();
#endif
    run Waker()
  }
}
