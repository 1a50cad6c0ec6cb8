/* park_listener.pml: what lies between connect() and accept() of parked connections (channel/parked_queue.h) as a spin
   model: client threads that claim PAIRS parked pairs, threads that accept, one that entered the kernel's accept()
   before the library knew of parking, the listener's close, the server's death, the client's death between two steps,
   an idle close. What happens in a life is park.pml's matter.

   Claimed: connect() succeeds by a pair only if the listener was open and its process alive when it began; each life that
   has been queued is accepted once, in the order of the claims of one client, or ended by the listener's close or the
   client's death; no accept() sleeps while something waits; nobody waits for us.

   Wrong variants that pan must reject: run.sh has them. */

#include "life.inc"

#ifndef PAIRS
#define PAIRS 1
#endif
#ifndef CLIENTS
#define CLIENTS 1
#endif
#ifndef ACCEPTORS
#define ACCEPTORS 1
#endif
#ifndef CONNECTS
#define CONNECTS 2     /* of each client thread */
#endif

/* Shared memory. */
short word[PAIRS];
byte hints;            /* the bitmap: look at these words */
byte asked;            /* the listener's word: threads that want to be woken */
byte bell;             /* rings so far: each wakes all who sleep */
bool ready;            /* every thread that accepts knows of the words */

/* The server. */
bool listener = true;  /* the kernel's */
bool aware;            /* whoever accepts from now on looks at the words */
byte users;            /* threads in the kernel's accept that do not */

/* The client: numbers of lives are given under its lock, so that they tell the order. */
bool claiming;
byte lives;

bool dead[2];

/* Ghosts. */
byte kernel_queue;     /* connections of the kernel's own, not accepted */
byte last_accepted;
byte queued;           /* lives that have been queued */
byte accepted;
byte ended;            /* of them, those that the listener's close ended */
byte refused;

inline ring() { atomic { if :: asked > 0 -> bell++ :: else fi } }

/* An ordinary connect. */
inline kernel_connect() {
  atomic {
    if
    :: listener -> kernel_queue++
    :: !listener -> refused++
    fi
  }
}

proctype Client() {
  byte n; byte i; short w; byte life; bool was_open; bool done;
  {
  do
  :: n == CONNECTS -> break
  :: n < CONNECTS ->
     n++;
     done = false;
     was_open = listener && !dead[SERVER];  /* when connect() began */
     lock(claiming);
     i = 0;
     do
     :: i == PAIRS || done -> break
     :: i < PAIRS && !done ->
        w = word[i];
        if
        :: atomic { ready && STATE(w) == PARKED && word[i] == w -> word[i] = WORD(lives + 1, CLAIMED); lives++; life = lives };
           if
#ifndef WRONG_NO_DEATH_CHECK
           :: dead[SERVER] -> word[i] = word[i] | DEAD
           :: !dead[SERVER] ->
#else
           :: true ->
#endif
              if
              :: atomic { word[i] == WORD(life, CLAIMED) -> word[i] = WORD(life, LIVE | WAITING); queued++; done = true;
                          assert(was_open) }
              :: word[i] != WORD(life, CLAIMED) -> skip
              fi
           fi;
           break
        :: !ready || STATE(w) != PARKED || word[i] != w -> i++
        fi
     od;
     if
     :: done -> hints = hints | (1 << i)
     :: else
     fi;
     atomic { w = 0; life = 0; unlock(claiming) };
     if
     :: done -> ring()
     :: else -> kernel_connect()
     fi;
     i = 0;
     was_open = false
  od
  } unless { dead[CLIENT] }
}

#ifdef WRONG_LOOK_ONE_BY_ONE
#define SHOWN hints
#else
#define SHOWN seen
#endif
/* One accept of the aware: of the words that one look at the bitmap shows, the lowest life. */
inline look() {
  atomic { seen = hints; i = 0; best = PAIRS };
  do
  :: i == PAIRS -> break
  :: i < PAIRS ->
     if
     :: (SHOWN & (1 << i)) && (word[i] & WAITING) && (best == PAIRS || LIFE(word[i]) < LIFE(word[best])) -> best = i
     :: else
     fi;
     i++
  od;
  i = 0;
  seen = 0;
  if
  :: best < PAIRS ->
     /* The hint before the word: whoever queues the pair's next life sets it after the word. */
#ifndef WRONG_HINT_LAST
     hints = hints & ~(1 << best);
#endif
     w = word[best];
     if
#ifdef WRONG_ACCEPT_BY_STORE
     :: w & WAITING -> word[best] = w & ~WAITING;
#else
     :: atomic { (w & WAITING) && word[best] == w -> word[best] = w & ~WAITING };
#endif
        atomic { accepted++; assert(accepted + ended <= queued);
#ifdef ORDER
                 assert(LIFE(w) > last_accepted); last_accepted = LIFE(w);
#endif
                 got = true };
        /* A short life: both have closed. */
        if
        :: atomic { STATE(word[best]) == LIVE && !(word[best] & LAST) -> word[best] = WORD(LIFE(w), PARKED) }
        :: atomic { else -> word[best] = word[best] | DEAD }
        fi
     :: !(w & WAITING) || word[best] != w
     fi;
#ifdef WRONG_HINT_LAST
     hints = hints & ~(1 << best);
#endif
     w = 0
  :: else
  fi;
  best = 0
}

proctype Acceptor() {
  byte i; byte best; byte seen; byte heard; short w; bool got;
  {
end:
  do
  :: listener && !aware ->
     /* Into the kernel, unless they have become aware meanwhile. */
     users++;
     if
#ifdef WRONG_NO_SECOND_LOOK_AT_ENTRY
     :: true ->
#else
     :: !aware ->
#endif
endinside:
        do
        :: atomic { kernel_queue > 0 -> kernel_queue-- }; break
        :: !listener -> break  /* EINVAL, when it is closed */
        od
     :: aware
     fi;
     users--
  :: listener && aware ->
     got = false;
     look();
     if
     :: got
     :: !got && kernel_queue > 0 ->
        if
        :: atomic { kernel_queue > 0 -> kernel_queue-- }
        :: kernel_queue == 0
        fi
     :: !got && kernel_queue == 0 ->
        /* Ask, look again, sleep. */
        asked++;
        heard = bell;
#ifndef WRONG_NO_SECOND_LOOK
        look();
#endif
        if
        :: got
        :: !got ->
endasleep:
           do
           :: bell != heard -> break
           :: kernel_queue > 0 -> break
           :: !listener -> break
           od
        fi;
        atomic { asked--; heard = 0 }
     fi
  od
  } unless { dead[SERVER] }
}

proctype ServerAgent() {
  byte i;
  {
end:
  do
  :: !aware ->
     aware = true;
#ifndef WRONG_NO_USERS
endready:
     do
     :: users == 0 -> break
     od;
#endif
     ready = true
  /* What a dead client has queued, perhaps without a ring. */
  :: dead[CLIENT] && i < PAIRS ->
     if
     :: atomic { STATE(word[i]) == CLAIMED -> word[i] = word[i] | DEAD }
     :: atomic { word[i] & WAITING -> hints = hints | (1 << i) }; ring()
     :: atomic { else }
     fi;
     i++
  od
  } unless { dead[SERVER] }
}

#ifdef CLOSE
/* The words first: after the kernel's close nothing may be queued. */
inline end_words() {
  i = 0;
  do
  :: i == PAIRS -> break
  :: i < PAIRS ->
     atomic {
       if
       :: word[i] & WAITING -> word[i] = (word[i] & ~WAITING) | DEAD; ended++
       :: !(word[i] & WAITING) && STATE(word[i]) == LIVE -> word[i] = word[i] | LAST
       :: !(word[i] & WAITING) && STATE(word[i]) != LIVE -> word[i] = word[i] | DEAD
       fi;
       i++
     }
  od
}
proctype Closer() {
  byte i;
  {
end:
  do
  :: listener ->
#ifdef WRONG_KERNEL_FIRST
     atomic { listener = false; kernel_queue = 0 };
     end_words();
#else
     end_words();
     atomic { listener = false; kernel_queue = 0 };
#endif
     break
  od
  } unless { dead[SERVER] }
}
#endif

#ifdef KILL
proctype Killer() {
end:
  do
  :: true ->
     dead[KILL] = true;
     if
     :: KILL == SERVER -> atomic { listener = false; kernel_queue = 0 }
     :: KILL == CLIENT
     fi;
     break
  od
}
#endif

proctype Idle() {
end:
  do
  :: atomic { STATE(word[0]) == PARKED -> word[0] = word[0] | DEAD }; break
  od
}

proctype Checker() {
  byte i;
  timeout ->
  if
  :: listener && !dead[SERVER] ->
     assert(kernel_queue == 0);
     assert(accepted + ended == queued);
  :: else
  fi;
  for (i : 0 .. PAIRS - 1) {
    assert(STATE(word[i]) != CLAIMED || dead[SERVER]);
    assert(!(word[i] & WAITING) || dead[SERVER])
  }
}

init {
  atomic {
    byte i;
    for (i : 1 .. CLIENTS) { run Client() }
    for (i : 1 .. ACCEPTORS) { run Acceptor() }
    run ServerAgent(); run Checker(); run Idle();
#ifdef CLOSE
    run Closer();
#endif
#ifdef KILL
    run Killer();
#endif
    i = 0
  }
}
