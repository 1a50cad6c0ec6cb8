/* park_order.pml: in which order the lives of parked connections and the kernel's own connections come to a program's
   accept(), and who wakes it (preload/socket/parked_accept.cc, parked_connect.cc, agent_park_queue.cc), as a spin model: a
   client that connects CONNECTS times, as a life or by the kernel, another process that connects OTHERS times by the
   kernel, a server that waits in one of three ways, and its agent. Hints, words and deaths are park_listener.pml's matter:
   here a life is queued, and accepted, in one step.

   SERVER: 0, it sleeps in the kernel's accept(), which tells of no life; 1, it waits in a poll that knows of lives; 2, in
   one that does not, which only its agent notices.

   Claimed: the client's connections are accepted in the order in which they were made, each once; when nobody can do
   anything any more, nothing waits.

   Wrong variants that pan must reject: run.sh has them. */

#ifndef SERVER
#define SERVER 0
#endif
#ifndef CONNECTS
#define CONNECTS 4
#endif
#ifndef OTHERS
#define OTHERS 1
#endif
#define PAIRS 2
#define TURN 2         /* accepts, until the kernel is asked unbidden */
#define KICKS 2        /* then the queue is over for good */
#define OTHER 100
#define KICK 101

chan kernel = [8] of { byte };  /* its queue: numbers of the client's connects, OTHER, KICK */
byte word[PAIRS];               /* a life that waits: its number */
byte own_in_kernel;             /* of the client's, as the kernel says when it is asked */
bool accept_waiting;
bool ready = true;

byte taken;                     /* ghosts */
byte last;

#ifdef WRONG_NOT_ASKED
#define NONE_IN_KERNEL true
#else
#define NONE_IN_KERNEL (own_in_kernel == 0)
#endif
/* The code's look is a step before its accept; a known flaw (channel/PARKING.md), so here they are one. */
#ifdef LOOK_APART
#define COME_SINCE false
#else
#define COME_SINCE (SOME_WAIT && !turn)
#endif
#define SOME_WAIT (word[0] != 0 || word[1] != 0)

inline accepted(n) {
  atomic {
    if
    :: n == KICK -> skip                      /* taken away from the program */
    :: n == OTHER -> taken++
    :: else -> assert(n > last); last = n; taken++
    fi
  }
}

proctype Client() {
  byte n = 1;
  byte p;
  do
  :: n > CONNECTS -> break
  :: else ->
     if
     :: true -> goto by_kernel
     :: accept_waiting == 0 && NONE_IN_KERNEL -> skip
     fi;
     /* The claim and the queue; an end in between is found by the compare-and-swap. */
     atomic {
       if
       :: ready && word[0] == 0 -> p = 0; word[p] = n
       :: ready && word[1] == 0 -> p = 1; word[p] = n
       :: else -> goto by_kernel
       fi
     };
#ifndef WRONG_NO_TAKE_BACK
     if
     :: accept_waiting != 0 ->
#ifdef WRONG_TAKE_BACK_UNSEEN
        word[p] = 0;
        goto by_kernel
#else
        atomic {
          if
          :: word[p] == n -> word[p] = 0; goto by_kernel
          :: else -> skip                     /* accepted meanwhile */
          fi
        }
#endif
     :: else -> skip
     fi;
#endif
     goto next;
by_kernel:
     atomic { kernel!n; own_in_kernel++ };
next:
     n++
  od
}

proctype Others() {
  byte i;
  do
  :: i >= OTHERS -> break
  :: else -> kernel!OTHER; i++
  od
}

proctype Server() {
  byte until_look = 1;
  byte before_fence;
  byte fence;
  bool fenced;
  bool turn;                                  /* the kernel's, though lives wait */
  byte n;
  byte p;
again:
  turn = false;
  if
  :: !SOME_WAIT ->
#ifndef WRONG_FENCE_LEFT
     fenced = false;
#endif
     goto by_kernel
  :: else -> skip
  fi;
  if
  :: fenced -> skip
  :: !fenced && until_look > 1 -> until_look--
  :: !fenced && until_look <= 1 ->
     if
     :: len(kernel) > 0 ->
#ifdef WRONG_NO_FENCE
        turn = true;
        goto by_kernel;
#endif
        atomic {
          fenced = true;
          fence = (word[0] > word[1] -> word[0] : word[1]);
          before_fence = (word[0] != 0 -> 1 : 0) + (word[1] != 0 -> 1 : 0)
        }
     :: else -> until_look = TURN
     fi
  fi;
  if
  :: fenced && before_fence == 0 -> fenced = false; turn = true; goto by_kernel
  :: else -> skip
  fi;
  /* The lowest of one look, if the fence lets it through. */
  atomic {
    p = (word[0] != 0 && (word[1] == 0 || word[0] < word[1]) -> 0 : 1);
    n = word[p];
    if
    :: n == 0 || (fenced && n > fence) -> fenced = false; n = 0
    :: else -> word[p] = 0
    fi
  };
  if
  :: n != 0 ->
     if :: fenced -> before_fence-- :: else fi;
     accepted(n);
     goto again
  :: else -> skip
  fi;
by_kernel:
#if SERVER == 0
  accept_waiting = true;
#ifndef WRONG_NO_SECOND_LOOK
  if
  :: SOME_WAIT -> accept_waiting = false; goto again
  :: else -> skip
  fi;
#endif
end_asleep:
  atomic { kernel?n; if :: n <= CONNECTS -> own_in_kernel-- :: else fi };
  accept_waiting = false;
  accepted(n);
  goto again
#else
  atomic {
    if
    :: COME_SINCE -> goto again
    :: else ->
       if
       :: kernel?n -> if :: n <= CONNECTS -> own_in_kernel-- :: else fi
       :: empty(kernel) -> n = 0
       fi
    fi
  };
  if
  :: n != 0 -> accepted(n); goto again
  :: else -> skip
  fi;
  if
  :: SOME_WAIT -> goto again                  /* it was the kernel's turn, and the kernel had nothing */
  :: else -> skip
  fi;
end_asleep:
#if SERVER == 1
  (SOME_WAIT || nempty(kernel));
#else
  nempty(kernel);
#endif
  goto again
#endif
}

/* What has waited for long: nobody may have heard of it. */
proctype Agent() {
  byte kicks;
end_idle:
  do
  :: SOME_WAIT && ready && kicks < KICKS ->
     ready = false;
#ifndef WRONG_NO_KICK
     kernel!KICK;
#endif
     kicks++
  :: !SOME_WAIT && !ready && kicks < KICKS -> ready = true
  od
}

init {
  atomic {
    run Client();
    run Others();
    run Server();
#if SERVER == 2
    run Agent();
#endif
  };
  timeout -> assert(!SOME_WAIT && empty(kernel) && taken == CONNECTS + OTHERS)
}
