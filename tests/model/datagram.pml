/* datagram.pml: one pair of sockets whose datagrams switch between the kernel and a FIFO (channel/datagram_sender.h,
   channel/datagram_receiver.h) as a spin model: a sender and its agent, readers that share the receiving socket, the
   receiver's agent, the kernel's queue that drops what finds it full, and the port's next owner.

   A datagram is its number. Claimed: they are received in the order in which they were sent, none twice; the next owner
   sees none that was sent before it had the port; and whatever is not received was dropped by a full queue, or found no
   socket, or lay unread in one that was closed.

   Modelled: every seal at any moment, also of records before which the kernel has not been read dry (they are sent by
   the kernel), a switch there and back and there again, a reader that waits in the kernel from before the switch, a
   flush of several steps, a socket closed at any moment.
   Not modelled: bytes and boundaries (a record is published by one compare-and-swap), several senders (the simulation),
   waking (datagram_sleep.pml), a datagram that wakes a sleeper (the record behind it is as a first one), and a receiver that is killed between two datagrams of a flush, which nobody can know of.

   Wrong variants that pan must reject: run.sh has them. */

#ifndef SENDS
#define SENDS 4
#endif
#ifndef EPISODES
#define EPISODES 2
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef SEALS
#define SEALS 2
#endif
#ifndef KERNEL_ROOM
#define KERNEL_ROOM 2
#endif
#define CAPACITY 2

#define SEALED(w) ((w) & 1)
#define INDEX(w) ((w) >> 1)
#define SEALED_FIFO (SEALED(producer[s_fifo]) || SEALED(consumer[s_fifo]))
#define SLOT(e, i) data[(e) * CAPACITY + ((i) % CAPACITY)]

#define S_KERNEL 0
#define S_FIFO 1
#define S_LEFT 2
#define S_FLUSHING 3

#define UNDECIDED 0
#define LEFT 1
#define WANTED 2
#define FLUSHED 3
#define FORGOTTEN 4

#define OLD 1
#define NOBODY 2
#define NEW 3

/* Shared memory of FIFO e. */
byte producer[EPISODES];
byte consumer[EPISODES];
byte residue_word[EPISODES];
bool drained[EPISODES];    /* the kernel has been read dry */
bool putting;              /* a record is being sent by the kernel */
bool ready[EPISODES];      /* consumer_ready: no reader waits in the kernel unaware */
byte data[4];              /* EPISODES * CAPACITY */

/* The kernel. */
chan queue = [KERNEL_ROOM] of { byte };
byte owner = OLD;

/* The sending socket. */
byte s_route = S_KERNEL;
byte s_fifo;
byte s_residue;
bool s_lock;
byte s_done;               /* FIFOs that it has let go of */
bool s_attached;
byte next_w;               /* the next datagram */

/* The receiving socket. */
bool r_lock;
bool r_attached;           /* its threads are aware of FIFO r_done */
bool r_started;            /* the kernel has been read dry */
bool r_returned;           /* both words are sealed, and a residue may be owed */
byte r_done;
byte r_users;              /* readers that wait in the kernel unaware */
byte joined;               /* FIFOs made so far */

/* Ghosts. */
byte next_r;               /* the first that may still come */
bool got[SENDS];
bool excused[SENDS];
byte born;                 /* the first datagram sent to the next owner */

inline lock(l) { atomic { !l -> l = true } }
inline unlock(l) { l = false }

inline take(v) { assert(v >= next_r && !got[v]); next_r = v + 1; got[v] = true }

inline kernel_send(v) {
  atomic {
    if
    :: owner == NOBODY || len(queue) == KERNEL_ROOM -> excused[v] = true
    :: owner != NOBODY && len(queue) < KERNEL_ROOM -> queue!v
    fi
  }
}

/* Under s_lock. */
#ifdef WRONG_FLUSH_CLOSED
#define RESIDUE_IS_WANTED true
#else
#define RESIDUE_IS_WANTED (residue_word[s_fifo] == WANTED)
#endif
inline pump() {
  do
  :: s_residue < INDEX(producer[s_fifo]) ->
     putting = true;
     if
     :: RESIDUE_IS_WANTED -> kernel_send(SLOT(s_fifo, s_residue)); s_residue++; putting = false
     :: else -> putting = false; break
     fi
  :: else -> break
  od;
  residue_word[s_fifo] = FLUSHED;
  s_route = S_KERNEL
}
#ifdef WRONG_LEAVE_IN_DOUBT
#define IN_DOUBT(e) false
#else
#define IN_DOUBT(e) (!drained[e] && producer[e] > 1 && INDEX(consumer[e]) == 0)
#endif
/* Of a FIFO whose producer's word is sealed. */
inline decide(e) {
  if
  :: IN_DOUBT(e) ->
     if
     :: atomic { residue_word[e] == UNDECIDED -> residue_word[e] = WANTED }
     :: residue_word[e] != UNDECIDED
     fi
  :: else ->
     if
     :: atomic { residue_word[e] == UNDECIDED -> residue_word[e] = LEFT }
     :: residue_word[e] != UNDECIDED
     fi
  fi
}
inline settle() {
  if
  :: s_route == S_FIFO && SEALED_FIFO ->
     producer[s_fifo] = producer[s_fifo] | 1;
     decide(s_fifo);
     if
     :: residue_word[s_fifo] == LEFT -> s_route = S_LEFT
     :: else
     fi
  :: else
  fi;
  if
  :: (s_route == S_FIFO || s_route == S_LEFT) && SEALED(producer[s_fifo]) ->
     w = consumer[s_fifo];
     if
     :: RESIDUE_IS_WANTED ->
        atomic { w = consumer[s_fifo]; consumer[s_fifo] = w | 1 };
#ifdef WRONG_NEWER_FIRST
        if
        :: next_w < SENDS -> kernel_send(next_w); next_w++
        :: else
        fi;
#endif
#ifdef WRONG_RESIDUE
        s_residue = INDEX(w) + 1;
#else
        s_residue = INDEX(w);
#endif
        s_route = S_FLUSHING;
        pump()
     :: else ->
        if
        :: s_route == S_FIFO || SEALED(w) || INDEX(w) == INDEX(producer[s_fifo]) -> s_route = S_KERNEL
        :: else
        fi
     fi
  :: else
  fi
}

proctype Sender() {
  byte w;
  do
  :: next_w == SENDS -> break
  :: next_w < SENDS ->
     lock(s_lock);
     if
     :: next_w == SENDS
     :: next_w < SENDS && s_route == S_FIFO && !SEALED_FIFO ->
        w = producer[s_fifo];
        if
        :: SEALED(w) -> settle()  /* since then */
        :: !SEALED(w) && INDEX(w) - INDEX(consumer[s_fifo]) >= CAPACITY ->
           excused[next_w] = true;  /* the receiver's queue is full */
           next_w++
        :: !SEALED(w) && INDEX(w) - INDEX(consumer[s_fifo]) < CAPACITY ->
           SLOT(s_fifo, INDEX(w)) = next_w;
           if
           :: atomic { producer[s_fifo] == w -> producer[s_fifo] = (INDEX(w) + 1) << 1; next_w++ }
           :: producer[s_fifo] != w -> settle()
           fi
        fi
     :: next_w < SENDS && s_route == S_FIFO && SEALED_FIFO ->
        settle()
     :: next_w < SENDS && s_route != S_FIFO ->
        settle();
        if
        :: next_w < SENDS && s_route != S_FLUSHING -> atomic { kernel_send(next_w); next_w++ }
        :: else
        fi
     fi;
     unlock(s_lock)
  od
}

#ifdef WRONG_NO_READY
#define MAY_BEGIN true
#else
#define MAY_BEGIN ready[s_done]
#endif

/* The sender's agent: begins a FIFO that the receiver is ready for, answers seals, lets go. */
proctype SenderAgent() {
  byte w;
end:
  do
  :: !s_attached && s_done < joined && owner == OLD && (MAY_BEGIN || SEALED(producer[s_done])) ->
     lock(s_lock);
     s_fifo = s_done;
     s_route = S_FIFO;
     s_attached = true;
     unlock(s_lock)
  :: s_attached && (s_route == S_KERNEL ||
       (s_route == S_FIFO && SEALED_FIFO) ||
       (s_route == S_LEFT && (SEALED(consumer[s_fifo]) || INDEX(consumer[s_fifo]) == INDEX(producer[s_fifo])))) ->
     lock(s_lock);
     settle();
     if
     :: s_route == S_KERNEL -> atomic { s_attached = false; s_done++ }
     :: else
     fi;
     unlock(s_lock)
  od
}

/* Under r_lock. */
#define R_RECORDS (r_attached && !r_returned && !SEALED(consumer[r_done]) && INDEX(producer[r_done]) > INDEX(consumer[r_done]))
#ifdef WRONG_NO_DRAIN
#define R_STARTED true
#else
#define R_STARTED r_started
#endif
#define R_LEFT (R_RECORDS && R_STARTED && SEALED(producer[r_done]))

inline take_record() {
  w = consumer[r_done];
  v = SLOT(r_done, INDEX(w));
  if
  :: atomic { !SEALED(w) && consumer[r_done] == w -> consumer[r_done] = (INDEX(w) + 1) << 1; take(v) }
  :: SEALED(w) || consumer[r_done] != w
  fi
}

proctype Reader() {
  byte v; byte w;
end:
  do
  :: owner == OLD && !r_attached && (len(queue) > 0 || joined < EPISODES) ->
     r_users++;
     if
     :: !r_attached ->
        if
        :: atomic { owner == OLD && len(queue) > 0 -> queue?v; take(v) }
        :: true  /* a signal, a time-out */
        fi
     :: r_attached
     fi;
     r_users--
  :: owner == OLD && r_attached && (len(queue) > 0 || R_RECORDS) ->
     lock(r_lock);
     if
     :: !(owner == OLD && r_attached)
     :: owner == OLD && r_attached ->
        if
        :: R_LEFT -> take_record()
        :: !R_LEFT && R_RECORDS && !R_STARTED ->
           if
           :: len(queue) == 0 -> r_started = true; drained[r_done] = true
           :: atomic { len(queue) > 0 -> queue?v; take(v) }
           fi
        :: !R_LEFT && R_RECORDS && R_STARTED -> take_record()
        /* Nothing is there; or it is the kernel's turn. */
        :: !R_LEFT && (!R_RECORDS || R_STARTED) ->
           /* It has been looked at, and is still the first when it is taken; or an unaware reader has it. */
           if
#ifndef WRONG_NO_SECOND_LOOK
           :: R_LEFT
           :: !R_LEFT && len(queue) > 0 ->
#else
           :: len(queue) > 0 ->
#endif
              if
              :: atomic { len(queue) > 0 -> queue?v; take(v) }
              :: len(queue) == 0
              fi
           :: len(queue) == 0
           fi
        fi
     fi;
     unlock(r_lock)
  od
}

#ifdef WRONG_FORGET_LEFT
#define NOTHING_LEFT true
#else
#define NOTHING_LEFT (INDEX(producer[r_done]) == INDEX(consumer[r_done]))
#endif

/* The receiver's agent: joins, says when nobody waits unaware, lets go; and what its program may do at any moment. */
proctype ReceiverAgent() {
  byte seals; bool closing; byte v; byte w;
end:
  do
  :: owner == OLD && !r_attached && joined < EPISODES && s_done == joined && r_done == joined && !closing ->
     lock(r_lock);
     r_started = false;
     r_returned = false;
     atomic { r_attached = true; joined++ };
     unlock(r_lock)
  :: owner == OLD && r_attached && !ready[r_done] && r_users == 0 -> ready[r_done] = true
  /* What a sender has left has been taken; or its residue has been sent. */
  :: owner == OLD && r_attached && (((r_returned || SEALED(consumer[r_done])) && residue_word[r_done] != WANTED) ||
       (!r_returned && !SEALED(consumer[r_done]) && SEALED(producer[r_done]) && NOTHING_LEFT)) ->
     lock(r_lock);
     atomic { r_attached = false; r_done++ };
     unlock(r_lock)
  /* Leave, by either end: the producer's word only. */
  :: atomic { seals < SEALS && owner == OLD && r_attached && !r_returned ->
              producer[r_done] = producer[r_done] | 1; seals++ }
  /* Return. */
  :: seals < SEALS && owner == OLD && r_attached && !r_returned ->
     lock(r_lock);
     if
#ifdef WRONG_ASK_ANYWAY
     :: true ->
        residue_word[r_done] = WANTED;
#else
     :: atomic { residue_word[r_done] == UNDECIDED -> residue_word[r_done] = WANTED }
#endif
        consumer[r_done] = consumer[r_done] | 1;
        producer[r_done] = producer[r_done] | 1;
        r_returned = true;
     :: residue_word[r_done] != UNDECIDED
     fi;
     seals++;
     unlock(r_lock)
#ifdef CLOSE
  /* The port is kept until nobody can send anything old. */
  :: owner == OLD && !closing ->
     lock(r_lock);
     closing = true;
     if
#ifdef WRONG_LET_GO
     :: true
#else
     :: !r_attached || !r_returned || residue_word[r_done] != WANTED
#endif
     fi;
     if
     :: r_attached && !r_returned ->
        residue_word[r_done] = FORGOTTEN;
#ifndef WRONG_CLOSE_IN_FLUSH
        !putting;
#endif
#ifndef WRONG_NO_CLOSE_SEAL
        consumer[r_done] = consumer[r_done] | 1;
        producer[r_done] = producer[r_done] | 1;
#endif
        /* What lay there unread is thrown away. */
        atomic {
          w = INDEX(consumer[r_done]);
          do
          :: w < INDEX(producer[r_done]) -> excused[SLOT(r_done, w)] = true; w++
          :: else -> break
          od;
          w = 0
        }
     :: else
     fi;
     atomic {
       do
       :: len(queue) > 0 -> queue?v; excused[v] = true
       :: len(queue) == 0 -> break
       od;
       owner = NOBODY
     };
     unlock(r_lock);
     break
#endif
  od;
#ifdef CLOSE
  /* Another program takes the port. */
  if
  :: atomic { owner == NOBODY -> owner = NEW; born = next_w }
  :: true
  fi
#endif
}

proctype NextOwner() {
  byte v;
end:
  do
  :: atomic { owner == NEW && len(queue) > 0 -> queue?v; assert(v >= born && !got[v]); got[v] = true }
  od
}

/* When nothing moves any more. */
proctype Checker() {
  byte v;
  timeout ->
  assert(next_w == SENDS);
  for (v : 0 .. SENDS - 1) { assert(got[v] || excused[v]) }
}

init {
  atomic {
    byte i;
    for (i : 1 .. READERS) { run Reader() }
    run Sender(); run SenderAgent(); run ReceiverAgent(); run Checker();
#ifdef CLOSE
    run NextOwner()
#endif
  }
}
