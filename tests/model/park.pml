/* park.pml: the lives of a parked connection (channel/life.h, channel/parked_end.h) as a spin model: two programs that
   connect, send, shut down and close in any order, their agents, a third party that seals a word, ends the pair or
   forks at any moment, a thread that still is in a call of a former life. One pair, LIVES lives, a FIFO each way, TCP
   beneath. park_listener.pml has what is between connect() and accept().

   Claimed: a byte is received in the life in which it was sent, in order, none is lost; the end of the stream comes when
   all that was sent before it has been taken, and not before; TCP carries bytes of a pair that is DEAD, and no life
   follows; FIN and RST are sent by such a pair only; P and C are reset by the claimer only, before anybody can look; a
   seal is final; nobody waits for ever, and no descriptor stays.

   With -DKILL=e the process of end e may be killed between any two of its steps.

   Not modelled: weak memory, full FIFOs and TCP buffers (switch.pml), wake-ups (wake.pml, bell.pml), several pairs, an
   end that keeps no rule (the simulation).

   Wrong variants that pan must reject: run.sh has them. */

#include "life.inc"

#ifndef LIVES
#define LIVES 2
#endif
#ifndef INTRUSIONS
#define INTRUSIONS 1
#endif
#define CAPACITY 4

#define SEALED(x) ((x) & 1)
#define INDEX(x) ((x) >> 1)
#define BYTE(life, i) ((life) * 8 + (i))
#define ANY_SEAL (SEALED(producer[0]) || SEALED(producer[1]) || SEALED(consumer[0]) || SEALED(consumer[1]))
#define KERNEL_CLOSED(e) (!program_fd[e] && !agent_fd[e])

/* Shared memory. Direction e is what end e sends. */
short word = PARKED;
byte producer[2];
byte consumer[2];
byte data[8];

/* Of one end each. */
bool locked[2];
byte open_life[2];    /* of the program's descriptor; 0: none */
bool program_fd[2];
bool agent_fd[2];
bool flushed[2];      /* the residue has gone by TCP */
bool shut[2];         /* and so has a half-close */
bool dead[2];

/* TCP. */
chan tcp0 = [4] of { byte };
chan tcp1 = [4] of { byte };
byte tcp_taken[2];    /* by the reader of direction e */
bool reset[2];        /* end e has got a RST */

/* Ghosts. */
byte mode;           /* which of the programs below; -DMODE: this one only */
byte sent[6];         /* by life * 2 + end */
byte got[6];
bool finished[6];     /* the program has said that it sends nothing more */
bool final_seal[2];   /* the producer's word of direction e has been sealed */

inline tcp_send(e, v) {
  atomic {
    assert(STATE(word) == DEAD);
    if
    :: KERNEL_CLOSED(1 - e) -> reset[e] = true
    :: !KERNEL_CLOSED(1 - e) && e == 0 -> tcp0!v
    :: !KERNEL_CLOSED(1 - e) && e == 1 -> tcp1!v
    fi
  }
}
#define TCP_EMPTY(e) ((e) == 0 && empty(tcp0) || (e) == 1 && empty(tcp1))
#define TCP_SOME(e) ((e) == 0 && nempty(tcp0) || (e) == 1 && nempty(tcp1))

/* Of the last descriptor of end e: FIN, or RST if something lies there unread. */
inline kernel_close(e) {
  assert(STATE(word) == DEAD || dead[e]);
  if
  :: TCP_SOME(1 - e) -> reset[1 - e] = true
  :: else
  fi
}
inline close_agent_fd(e) {
  atomic {
    agent_fd[e] = false;
    if
    :: KERNEL_CLOSED(e) -> kernel_close(e)
    :: else
    fi
  }
}
inline close_program_fd(e) {
  atomic {
    open_life[e] = 0;
    program_fd[e] = false;
    if
    :: KERNEL_CLOSED(e) -> kernel_close(e)
    :: else
    fi
  }
}

inline seal_producer(e) { atomic { producer[e] = producer[e] | 1; final_seal[e] = true } }
inline seal_consumer(e) { consumer[e] = consumer[e] | 1 }

/* Under end e's lock: the end of all lives, then both FIFOs', then what is owed. */
inline fall_back(e) {
  if
  :: !flushed[e] ->
#ifndef WRONG_TCP_OF_THE_LIVING
     word = word | DEAD;
#endif
     seal_producer(0);
     seal_consumer(0);
     seal_producer(1);
     seal_consumer(1);
     i = INDEX(consumer[e]);
     do
     :: i < INDEX(producer[e]) -> tcp_send(e, data[e * CAPACITY + i]); i++
     :: else -> break
     od;
     i = 0;
#ifndef WRONG_HALF_CLOSE_LOST
     shut[e] = (word & FIN(e)) != 0;
#endif
     flushed[e] = true
  :: else
  fi
}

/* One byte, in a life that the caller has found in the descriptor table before it took the lock. */
inline send(e, life) {
  lock(locked[e]);
  if
#ifdef WRONG_NO_LIFE_CHECK
  :: false
#else
  :: open_life[e] != life  /* closed meanwhile */
#endif
#ifdef WRONG_NO_LIFE_CHECK
  :: true ->
#else
  :: open_life[e] == life ->
#endif
     w = word;
     if
     :: w & FIN(e)  /* EPIPE */
     :: !(w & FIN(e)) && (flushed[e] || STATE(w) == DEAD || (w & CLOSED(1 - e)) || ANY_SEAL) ->
        fall_back(e);
        atomic { tcp_send(e, BYTE(life, sent[life * 2 + e])); sent[life * 2 + e]++ }
     :: !(w & FIN(e)) && !(flushed[e] || STATE(w) == DEAD || (w & CLOSED(1 - e)) || ANY_SEAL) ->
        p = producer[e];
        data[e * CAPACITY + INDEX(p)] = BYTE(life, sent[life * 2 + e]);
        if
        :: atomic { !SEALED(p) && producer[e] == p ->
                    assert(!final_seal[e]);
                    producer[e] = p + 2; sent[life * 2 + e]++ };
           /* A peer that has closed meanwhile either sees this byte or is seen here. */
           w = word;
           if
#ifdef WRONG_NO_LOOK_AFTER_SEND
           :: false
#else
           :: w & CLOSED(1 - e) -> fall_back(e)
#endif
           :: else
           fi
        :: SEALED(p) || producer[e] != p ->
           fall_back(e);
           atomic { tcp_send(e, BYTE(life, sent[life * 2 + e])); sent[life * 2 + e]++ }
        fi
     fi
  fi;
  atomic { w = 0; p = 0; unlock(locked[e]) }
}

inline take(e, life, v) {
  assert(v == BYTE(life, got[life * 2 + 1 - e]));
  got[life * 2 + 1 - e]++
}
#define TCP_ENDED(e) (KERNEL_CLOSED(e) || shut[e])
inline take_from_tcp(e, life) {
  if
  :: atomic { e == 1 && nempty(tcp0) -> tcp0?v; tcp_taken[0]++; take(e, life, v) }
  :: atomic { e == 0 && nempty(tcp1) -> tcp1?v; tcp_taken[1]++; take(e, life, v) }
  :: TCP_EMPTY(1 - e) ->
     if
     :: reset[e] -> ended = true
     /* The kernel's FIN: nothing can come by TCP, perhaps something lies in the FIFO that its sender did not come to send. */
     :: !reset[e] && TCP_ENDED(1 - e) && TCP_EMPTY(1 - e) ->
        i = INDEX(consumer[1 - e]) + tcp_taken[1 - e];
        if
        :: i < INDEX(producer[1 - e]) ->
           v = data[(1 - e) * CAPACITY + i];
           atomic { take(e, life, v); tcp_taken[1 - e]++ }
        :: else -> ended = true; assert(got[life * 2 + 1 - e] == sent[life * 2 + 1 - e])
        fi;
        i = 0
     :: else
     fi
  fi
}

/* A program sleeps until one of these holds. */
#define READABLE(e) ((INDEX(producer[1 - e]) > INDEX(consumer[1 - e]) && !flushed[e]) || ((word & FIN(1 - e)) && !flushed[e]) || TCP_SOME(1 - e) || \
  reset[e] || TCP_ENDED(1 - e) || (ANY_SEAL && !flushed[e]) || (STATE(word) == DEAD && !flushed[e]))

inline receive(e, life) {
  lock(locked[e]);
  /* The word before the index: what was sent before a FIN is there for who has seen it. */
#ifdef WRONG_OLD_INDEX
  p = producer[1 - e];
  w = word;
#else
  w = word;
  p = producer[1 - e];
#endif
  c = consumer[1 - e];
  if
  :: !SEALED(c) && INDEX(p) > INDEX(c) ->
     v = data[(1 - e) * CAPACITY + INDEX(c)];
     if
     :: atomic { consumer[1 - e] == c -> consumer[1 - e] = c + 2; take(e, life, v) }
     :: consumer[1 - e] != c
     fi
  :: !SEALED(c) && INDEX(p) == INDEX(c) && (w & FIN(1 - e)) ->
     ended = true;
     assert(got[life * 2 + 1 - e] == sent[life * 2 + 1 - e])
  :: !SEALED(c) && INDEX(p) == INDEX(c) && !(w & FIN(1 - e)) && (ANY_SEAL || STATE(w) == DEAD) -> fall_back(e)
  :: SEALED(c) -> fall_back(e); take_from_tcp(e, life)
  :: else
  fi;
  atomic { w = 0; p = 0; c = 0; v = 0; unlock(locked[e]) }
}
inline receive_all(e, life) {
  ended = false;
  if
  :: receive(e, life)  /* before anything is there */
  :: true
  fi;
  do
  :: ended -> break
  :: !ended && READABLE(e) -> receive(e, life)
  od
}

inline shut_down(e, life) {
  lock(locked[e]);
  do
  :: true ->
     w = word;
     if
     :: STATE(w) == LIVE ->
        if
        :: atomic { word == w -> word = w | FIN(e); finished[life * 2 + e] = true }; break
        :: word != w
        fi
     :: STATE(w) != LIVE -> break  /* the kernel's, when what is owed has been sent: here it is close() that tells */
     fi
  od;
  atomic { w = 0; unlock(locked[e]) }
}

#define UNREAD(e) (INDEX(producer[1 - (e)]) != INDEX(consumer[1 - (e)]))

/* close(): virtually if it can be, really if not. */
inline close(e, life) {
  lock(locked[e]);
  do
  :: true ->
     w = word;
     if
     :: STATE(w) != LIVE || (w & LAST) || ANY_SEAL -> fall_back(e); break
#ifndef WRONG_PARK_UNREAD
     :: STATE(w) == LIVE && !(w & LAST) && !ANY_SEAL && UNREAD(e) -> fall_back(e); break
#endif
     :: STATE(w) == LIVE && !(w & LAST) && !ANY_SEAL &&
#ifndef WRONG_PARK_UNREAD
        !UNREAD(e) &&
#endif
        (w & CLOSED(1 - e)) ->
        if
#ifndef WRONG_PARK_UNREAD
        :: UNREAD(1 - e) -> fall_back(e); break
        :: !UNREAD(1 - e) ->
#else
        :: true ->
#endif
           if
           :: atomic { word == w -> word = WORD(LIFE(w), PARKED) }; break
           :: word != w
           fi
        fi
     :: STATE(w) == LIVE && !(w & LAST) && !ANY_SEAL &&
#ifndef WRONG_PARK_UNREAD
        !UNREAD(e) &&
#endif
        !(w & CLOSED(1 - e)) ->
        if
#ifdef WRONG_PARK_AT_FIRST_CLOSE
        :: atomic { word == w -> word = WORD(LIFE(w), PARKED) }; break
#else
        :: atomic { word == w -> word = w | FIN(e) | CLOSED(e); finished[life * 2 + e] = true };
#endif
#if !defined(WRONG_NO_LOOK_AFTER_CLOSE) && !defined(WRONG_PARK_UNREAD)
           /* One that was sent before its sender could see this. Of a later life it would not be ours to judge. */
           if
           :: LIFE(word) == life && STATE(word) == LIVE && UNREAD(e) -> fall_back(e)
           :: else
           fi;
#endif
           break
        :: word != w
        fi
     fi
  od;
  atomic { w = 0; ended = false; finished[life * 2 + e] = true; close_program_fd(e) };
  unlock(locked[e])
}

inline reset_word(x) {
  if
#ifdef WRONG_RESET_BY_STORE
  :: true -> x = 0
#else
  :: atomic { !SEALED(x) -> x = 0 }
  :: SEALED(x) -> sound = false
#endif
  fi
}
inline reset_all() {
  reset_word(producer[0]);
  reset_word(consumer[0]);
  reset_word(producer[1]);
  reset_word(consumer[1])
}

proctype Client() {
  byte life; byte i; byte v; byte p; byte c; short w; bool ended; bool sound;
  {
  do
  :: life == LIVES -> break
  :: life < LIVES && STATE(word) == DEAD -> break  /* the rest by connections of the kernel's own */
  :: life < LIVES && STATE(word) == PARKED ->
     lock(locked[CLIENT]);
     w = word;
     if
     :: atomic { STATE(w) == PARKED && word == w -> word = WORD(life + 1, CLAIMED); life++; w = 0 };
#ifdef MODE
        mode = MODE;
#else
        if
        :: mode = 0
        :: mode = 1
        :: mode = 2
        :: mode = 3
        fi;
#endif
        sound = !dead[SERVER];
#ifndef WRONG_RESET_AFTER_QUEUE
        reset_all();
#endif
        if
        :: atomic { sound && word == WORD(life, CLAIMED) ->
                    word = WORD(life, LIVE | WAITING); open_life[CLIENT] = life; program_fd[CLIENT] = true }
        :: !sound || word != WORD(life, CLAIMED) -> fall_back(CLIENT)
        fi;
#ifdef WRONG_RESET_AFTER_QUEUE
        reset_all();
#endif
        unlock(locked[CLIENT]);
        if
        :: open_life[CLIENT] == life ->
           if
           :: send(CLIENT, life)
           :: mode != 0
           fi;
           if
           :: mode == 0 || mode == 3                              /* asks, does not wait */
           :: mode == 1 -> shut_down(CLIENT, life);               /* half-close */
              if
              :: finished[life * 2] -> receive_all(CLIENT, life)
              :: else  /* TCP's own half-close: not modelled */
              fi
           :: mode == 2 -> receive_all(CLIENT, life)              /* the server closes first */
           fi;
           close(CLIENT, life)
        :: else
        fi
     :: STATE(w) != PARKED || word != w -> atomic { w = 0; unlock(locked[CLIENT]) }
     fi
  od
  } unless { dead[CLIENT] }
}

proctype Server() {
  byte life; byte i; byte v; byte p; byte c; short w; bool ended;
  {
end:
  do
  :: word & WAITING ->
     lock(locked[SERVER]);
     atomic {
       word = word & ~WAITING;
       life = LIFE(word);
       assert(agent_fd[SERVER]);
       open_life[SERVER] = life;
       program_fd[SERVER] = true
     };
     unlock(locked[SERVER]);
     if
     :: mode == 3 || mode == 2 -> send(SERVER, life)
     :: true
     fi;
     if
     :: mode != 2 -> receive_all(SERVER, life)
     :: mode == 2
     fi;
     if
     :: mode == 1 || mode == 3 -> send(SERVER, life)
     :: true
     fi;
     /* Nobody reads it, and TCP would say so. */
     if
     :: mode == 3 && sent[life * 2 + SERVER] > 0 -> reset[SERVER]
     :: mode != 3 || sent[life * 2 + SERVER] == 0
     fi;
     close(SERVER, life)
  od
  } unless { dead[SERVER] }
}

proctype Agent(byte e) {
  byte i;
  {
end:
  do
  :: agent_fd[e] && (STATE(word) != DEAD && (ANY_SEAL || dead[1 - e])) ->
     lock(locked[e]);
     fall_back(e);
     unlock(locked[e])
  /* A connection that waits in the queue is the server's to accept. */
#ifdef WRONG_CLOSE_BEFORE_ACCEPT
  :: agent_fd[e] && STATE(word) == DEAD ->
#else
  :: agent_fd[e] && STATE(word) == DEAD && !(e == SERVER && (word & WAITING)) ->
#endif
     lock(locked[e]);
     fall_back(e);
     close_agent_fd(e);
     unlock(locked[e])
  od
  } unless { dead[e] }
}

/* Somebody who maps the words, or an agent that has a reason. */
proctype Intruder() {
  byte n;
end:
  do
  :: n < INTRUSIONS ->
     n++;
     if
     :: seal_producer(0)
     :: seal_consumer(0)
     :: seal_producer(1)
     :: seal_consumer(1)
     :: word = word | DEAD                                                   /* exec, a move */
     /* The idle close: nothing but a parked one. */
#ifdef WRONG_IDLE_CLOSE
     :: STATE(word) == PARKED -> close_agent_fd(SERVER); word = word | DEAD
#else
     :: atomic { STATE(word) == PARKED -> word = word | DEAD }
#endif
     :: atomic { word = (STATE(word) == LIVE -> word | LAST : word | DEAD) }  /* fork */
     fi
  od
}

#ifdef STALE
/* A thread that has looked its descriptor up and not come to the lock. */
proctype Stale(byte e) {
  byte life; byte i; byte p; short w;
  {
end:
  do
  :: atomic { open_life[e] != 0 -> life = open_life[e] };
     send(e, life);
     break
  od
  } unless { dead[e] }
}
#endif

#ifdef KILL
proctype Killer() {
end:
  if
  /* The robust lock tells first, then the kernel closes what is open. */
  :: dead[KILL] = true;
     atomic { program_fd[KILL] = false; agent_fd[KILL] = false; kernel_close(KILL) }
  fi
}
#endif

proctype Checker() {
  timeout ->
  assert(STATE(word) != CLAIMED || dead[CLIENT]);
  assert(STATE(word) != LIVE || dead[0] || dead[1]);
  assert(STATE(word) != DEAD || ((dead[0] || !agent_fd[0]) && (dead[1] || (word & WAITING) || !agent_fd[1])))
}

init {
  atomic {
    agent_fd[0] = true; agent_fd[1] = true;
    run Client(); run Server(); run Agent(0); run Agent(1); run Checker();
    if
    :: INTRUSIONS > 0 -> run Intruder()
    :: else
    fi;
#ifdef STALE
    run Stale(STALE);
#endif
#ifdef KILL
    run Killer()
#endif
  }
}
