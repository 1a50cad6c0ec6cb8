/* switch.pml: channel/{send,receive}_stream.h as a spin model: one direction A -> B of a connection that goes over to a FIFO, falls back
   and goes over to another FIFO, at any interleaving of two writers, two readers, both agents and a third party that
   seals either word at any moment. Names are those of stream.h. Bytes are numbered; the readers assert their order.

   With -DDEATH end A may be killed between any two of its steps; the kernel then delivers what TCP has, and the end.

   Not modelled: weak memory (every access here is sequentially consistent), a FIN of a living end, wake-ups (a process
   waits for what its wake-up would tell it), peeking. A state in which nobody can go on although bytes are owed is an
   error, too.
   Rules, as numbered in stream.h: (1) BeginFlush and PumpResidue, (2) Produce and Consume, (3) Offer, (4) EnterDraining,
   (5) FindDeadResidue.

   Wrong variants that pan must reject (run.sh): -DWRONG_NO_CONSUMER_SEAL, -DWRONG_NEWER_FIRST, -DWRONG_NO_USERS,
   -DWRONG_NO_SECOND_LOOK, -DWRONG_NO_READY, -DWRONG_NO_DRAIN, -DWRONG_RESIDUE; with -DDEATH -DWRONG_FORGET_RESIDUE, -DWRONG_INHERIT. */

#ifndef BYTES
#define BYTES 3     /* to be carried */
#endif
#ifndef EPISODES
#define EPISODES 2  /* FIFOs, one after the other */
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef SEALS
#define SEALS 1     /* words that the third party seals */
#endif
#define CAPACITY 2  /* of a FIFO */
#define TCP_ROOM 2  /* of TCP's buffers together: a flush may have to wait */

/* Send routes and receive routes. */
#define S_TCP 0
#define S_OFFERED 1
#define S_SWITCHING 2
#define S_FIFO 3
#define S_FLUSHING 4
#define R_TCP 0
#define R_AWARE 1
#define R_DRAINING 2
#define R_FIFO 3
#define R_INHERITED 4

#define SEALED(w) ((w) & 1)
#define INDEX(w) ((w) >> 1)

/* Shared memory of FIFO e. */
byte producer[EPISODES];
byte consumer[EPISODES];
bool up[EPISODES];
bool consumer_ready[EPISODES];
byte switch_offset[EPISODES];
byte data[8];  /* EPISODES * CAPACITY slots */

/* End A. */
byte s_route = S_TCP;
byte s_users;
bool defer_switch;
bool s_lock;
byte s_fifo;    /* the FIFO of the current or last episode */
byte residue;   /* residue_begin, while flushing */
byte next_w;    /* ghost: the next byte to be sent */

/* End B. */
byte r_route = R_TCP;
byte r_users;
bool r_lock;
byte r_fifo;
byte remaining; /* tcp_remaining */
byte next_r;    /* ghost: the byte that must come next */
byte owed_begin;  /* residue_begin and residue_end of the last FIFO; valid while residue_due */
byte owed_end;
bool residue_due;

bool dead;      /* A has been killed */

/* The agents. */
byte episodes;  /* FIFOs made so far */
byte s_done;    /* of which A has let go */
byte r_done;    /* of which B has let go */
bool s_attached;
bool r_attached;

/* TCP. */
chan tcp = [TCP_ROOM] of { byte };
byte written;
byte read;

#define QUIET (!dead && next_r == BYTES)
#define ENDED (dead && read == written)  /* a receive from TCP finds the end of the stream */
#define SLOT(e, i) data[(e) * CAPACITY + ((i) % CAPACITY)]
#define FIFO_SEALED(e) (SEALED(producer[e]) || SEALED(consumer[e]))

inline lock(l) { atomic { !l -> l = true } }
inline unlock(l) { l = false }
inline take(v) { assert(v == next_r); next_r++ }

inline seal(e) {
#ifdef WRONG_NO_CONSUMER_SEAL
  producer[e] = producer[e] | 1
#else
  producer[e] = producer[e] | 1;
  consumer[e] = consumer[e] | 1
#endif
}

/* Under r_lock. */
inline end_fifo() {
  seal(r_fifo);
  if
  :: (r_route != R_AWARE || up[r_fifo]) && INDEX(producer[r_fifo]) > INDEX(consumer[r_fifo]) ->
     owed_begin = INDEX(consumer[r_fifo]);
     owed_end = INDEX(producer[r_fifo]);
     residue_due = true
  :: else
  fi;
  r_route = R_TCP
}
/* Under r_lock. What is on its way in TCP will be delivered, whoever dies. */
inline look_for_residue() {
  if
#ifdef WRONG_FORGET_RESIDUE
  :: true -> residue_due = false
#else
  :: residue_due && written >= switch_offset[r_fifo] + (owed_end - owed_begin) -> residue_due = false
  :: else
#endif
  fi
}
/* Under r_lock, at the end of the stream. */
inline inherit_residue() {
  if
  :: r_route == R_TCP && residue_due && ENDED ->
#ifdef WRONG_INHERIT
     owed_begin = owed_begin;
#else
     owed_begin = owed_begin + (read - switch_offset[r_fifo]);
#endif
     residue_due = false;
     if
     :: owed_begin < owed_end -> r_route = R_INHERITED
     :: else
     fi
  :: else
  fi
}

/* Under s_lock. */
inline begin_flush() {
  if
  :: s_route == S_OFFERED -> seal(s_fifo); s_route = S_TCP
  :: s_route == S_FIFO ->
     seal(s_fifo);
#ifdef WRONG_RESIDUE
     residue = INDEX(consumer[s_fifo]) + 1;
#else
     residue = INDEX(consumer[s_fifo]);
#endif
#ifdef WRONG_NEWER_FIRST
     if
     :: next_w < BYTES && nfull(tcp) -> atomic { tcp!next_w; written++; next_w++ }
     :: else
     fi;
#endif
     s_route = S_FLUSHING
  :: else
  fi
}
inline pump_residue() {
  do
  :: s_route == S_FLUSHING && residue < INDEX(producer[s_fifo]) && nfull(tcp) ->
     atomic { tcp!SLOT(s_fifo, residue); written++; residue++ }
  :: s_route == S_FLUSHING && residue >= INDEX(producer[s_fifo]) -> s_route = S_TCP; break
  :: s_route == S_FLUSHING && residue < INDEX(producer[s_fifo]) && full(tcp) -> break
  :: s_route != S_FLUSHING -> break
  od
}
inline switch_up() {
  if
#ifdef WRONG_NO_READY
  :: true ->
#else
  :: !consumer_ready[s_fifo] -> defer_switch = true
  :: consumer_ready[s_fifo] ->
#endif
     s_route = S_SWITCHING;
     if
#ifdef WRONG_NO_USERS
     :: true ->
#else
     :: s_users > 0 -> s_route = S_OFFERED; defer_switch = true
     :: s_users == 0 ->
#endif
        n = written;
        switch_offset[s_fifo] = n;
        up[s_fifo] = true;
        s_route = S_FIFO
     fi
  fi
}

/* One send of one byte: EnterKernel, else TrySend, as preload/ does; again until the byte is gone or there is no room. */
proctype Writer() {
  byte n; byte w; bool inside; bool deferred;
  {
  do
  :: next_w == BYTES -> break
  /* Waiting in the kernel for room, or in the FIFO's or the flush's sleep: woken when one of these holds. */
  :: next_w < BYTES && (nfull(tcp) || (s_route == S_FIFO && (FIFO_SEALED(s_fifo) ||
                        INDEX(producer[s_fifo]) - INDEX(consumer[s_fifo]) < CAPACITY))) ->
     inside = false;
     deferred = false;
     if
     :: s_route == S_TCP -> inside = true
     :: s_route == S_OFFERED -> atomic { deferred = defer_switch; inside = defer_switch; defer_switch = false }
     :: s_route != S_TCP && s_route != S_OFFERED
     fi;
     if
     :: inside ->
        s_users++;
        if
#ifdef WRONG_NO_SECOND_LOOK
        :: true ->
#else
        :: s_route == S_TCP || (deferred && s_route == S_OFFERED) ->
#endif
           /* the kernel, at its own pace */
           if
           :: atomic { next_w < BYTES && nfull(tcp) -> tcp!next_w; written++; next_w++ }
           :: next_w == BYTES || full(tcp)
           fi
#ifndef WRONG_NO_SECOND_LOOK
        :: else
#endif
        fi;
        s_users--
     :: !inside ->
        lock(s_lock);
        if
        :: s_route == S_FIFO && next_w < BYTES ->
           w = producer[s_fifo];
           if
           :: SEALED(w) || SEALED(consumer[s_fifo]) -> begin_flush(); pump_residue()
           :: else ->
              if
              :: INDEX(w) - INDEX(consumer[s_fifo]) < CAPACITY ->
                 SLOT(s_fifo, INDEX(w)) = next_w;
                 if
                 :: atomic { producer[s_fifo] == w -> producer[s_fifo] = (INDEX(w) + 1) << 1; next_w++ }
                 :: producer[s_fifo] != w -> begin_flush(); pump_residue()
                 fi
              :: else
              fi
           fi
        :: s_route == S_OFFERED ->
           if
           :: FIFO_SEALED(s_fifo) -> begin_flush()
           :: else -> switch_up()
           fi
        :: s_route == S_FLUSHING -> pump_residue()
        :: else
        fi;
        unlock(s_lock)
     fi
  od
  } unless { dead }
}

/* The agent of A: attaches, answers seals, finishes flushes, lets go. */
proctype AgentA() {
  {
  do
  :: QUIET -> break
  :: !s_attached && s_done < episodes ->  /* the JOIN has come */
     lock(s_lock);
     s_fifo = s_done;
     s_route = S_OFFERED;
     s_attached = true;
     unlock(s_lock)
  :: s_attached && ((s_route != S_FLUSHING && FIFO_SEALED(s_fifo)) ||
                    (s_route == S_FLUSHING && (nfull(tcp) || residue >= INDEX(producer[s_fifo])))) ->
     lock(s_lock);
     if
     :: (s_route == S_OFFERED || s_route == S_FIFO) && FIFO_SEALED(s_fifo) -> begin_flush()
     :: else
     fi;
     pump_residue();
     if
     :: s_route == S_TCP -> atomic { s_attached = false; s_done++ }
     :: else
     fi;
     unlock(s_lock)
  od
  } unless { dead }
}

/* The agent of B: joins an offer, leaves a FIFO that has been sealed, lets go. */
proctype AgentB() {
  do
  :: QUIET || ENDED -> break
  :: !r_attached && !dead && episodes < EPISODES && s_done == episodes && r_done == episodes ->
     lock(r_lock);
     r_fifo = episodes;
     r_route = R_AWARE;
     if
     :: r_users == 0 -> consumer_ready[r_fifo] = true
     :: else
     fi;
     atomic { r_attached = true; episodes++ };
     unlock(r_lock)
  :: r_attached && ((r_route == R_TCP && (!residue_due || read != written)) ||
                    (r_route != R_TCP && r_route != R_INHERITED && FIFO_SEALED(r_fifo))) ->
     lock(r_lock);
     if
     :: r_route != R_TCP && r_route != R_INHERITED -> end_fifo()
     :: else
     fi;
     look_for_residue();
     if
     :: r_route == R_TCP && !residue_due -> atomic { r_attached = false; r_done++ }
     :: else
     fi;
     unlock(r_lock)
  od
}

#define SOMETHING_TO_READ (nempty(tcp) || ENDED || r_route == R_INHERITED || \
  (r_route == R_FIFO && (INDEX(producer[r_fifo]) > INDEX(consumer[r_fifo]) || FIFO_SEALED(r_fifo))) || \
  (r_route == R_AWARE && (up[r_fifo] || FIFO_SEALED(r_fifo) || (!consumer_ready[r_fifo] && r_users == 0))))

inline mark_ready_if_quiet() {
  lock(r_lock);
  if
  :: r_route == R_AWARE && r_users == 0 -> consumer_ready[r_fifo] = true
  :: else
  fi;
  unlock(r_lock)
}

/* One receive of one byte: EnterKernel, else TryReceive. */
proctype Reader() {
  byte v; byte w; byte p;
  do
  :: QUIET -> break
  /* The end: the kernel's, with nothing behind it that the FIFO could still give. */
  :: atomic { ENDED && !r_lock && ((r_route == R_TCP && !residue_due) ||
                (r_route == R_AWARE && !up[r_fifo] && !FIFO_SEALED(r_fifo)) ||
                (r_route == R_FIFO && !FIFO_SEALED(r_fifo) &&
                 INDEX(producer[r_fifo]) == INDEX(consumer[r_fifo]))) ->
              assert(next_r == next_w); break }
  :: !QUIET && SOMETHING_TO_READ ->
     if
     :: r_route == R_TCP && ENDED -> lock(r_lock); inherit_residue(); unlock(r_lock)
     :: r_route == R_TCP && !ENDED ->
        r_users++;
        if
        :: r_route == R_TCP ->  /* in the kernel, for as long as it takes */
           if
           :: atomic { nempty(tcp) -> tcp?v; read++; take(v) }
           :: empty(tcp)
           fi
        :: else
        fi;
        r_users--;
        if
        :: r_route == R_AWARE -> mark_ready_if_quiet()
        :: else
        fi
     :: r_route != R_TCP ->
        if
        :: r_route == R_AWARE -> mark_ready_if_quiet()
        :: else
        fi;
        lock(r_lock);
        if
        :: r_route == R_AWARE ->
           if
           :: up[r_fifo] ->
              w = switch_offset[r_fifo] - read;
              if
              :: switch_offset[r_fifo] < read || SEALED(consumer[r_fifo]) -> end_fifo()
              :: else ->
                 remaining = w;
#ifdef WRONG_NO_DRAIN
                 r_route = R_FIFO
#else
                 r_route = (remaining == 0 -> R_FIFO : R_DRAINING)
#endif
              fi
           :: else ->
              if
              :: FIFO_SEALED(r_fifo) -> end_fifo()
              :: else ->
                 if
                 :: atomic { nempty(tcp) -> tcp?v; read++; take(v) }
                 :: empty(tcp)
                 fi
              fi
           fi
        :: r_route == R_DRAINING ->
           if
           :: atomic { nempty(tcp) -> tcp?v; read++; take(v) };
              remaining--;
              if
              :: remaining == 0 -> r_route = R_FIFO
              :: else
              fi
           :: empty(tcp)
           fi
        :: r_route == R_INHERITED ->
           v = SLOT(r_fifo, owed_begin);
           atomic { take(v); owed_begin++ };
           if
           :: owed_begin == owed_end -> r_route = R_TCP
           :: else
           fi
        :: r_route == R_FIFO ->
           w = consumer[r_fifo];
           if
           :: SEALED(w) -> end_fifo()
           :: else ->
              p = producer[r_fifo];
              if
              :: INDEX(p) > INDEX(w) ->
                 v = SLOT(r_fifo, INDEX(w));
                 if
                 :: atomic { consumer[r_fifo] == w -> consumer[r_fifo] = (INDEX(w) + 1) << 1; take(v) }
                 :: consumer[r_fifo] != w
                 fi
              :: INDEX(p) == INDEX(w) && SEALED(p) -> end_fifo()
              :: else
              fi
           fi
        :: else
        fi;
        unlock(r_lock)
     fi
  od
}

/* Anybody who maps a header. */
proctype Sealer() {
  byte seals;
  do
  :: seals == SEALS || QUIET || ENDED -> break
  :: seals < SEALS && episodes > 0 && !QUIET ->
     atomic {
       if
       :: producer[episodes - 1] = producer[episodes - 1] | 1
       :: consumer[episodes - 1] = consumer[episodes - 1] | 1
       fi
     };
     seals++
  od
}

#ifdef DEATH
proctype Killer() { dead = true }
#endif

init {
  atomic {
#ifdef DEATH
    run Killer();
#endif
    byte i;
    for (i : 1 .. WRITERS) { run Writer() }
    for (i : 1 .. READERS) { run Reader() }
    run AgentA(); run AgentB(); run Sealer()
  }
}
