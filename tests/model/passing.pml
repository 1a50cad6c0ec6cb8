/* passing.pml: a connection that is passed by SCM_RIGHTS (preload/socket/passing.cc, side/holders.cc, side/leaving.cc) as a
   spin model: the sender, a thread of it that may be inside a receive, a forked child that holds the connection as well,
   the message under way, who receives it, and the peer, which goes over to a FIFO when the receiver has offered one.

   Asserted: who offers a FIFO holds the connection alone, and nobody is inside a call on it; bytes come in their order,
   whoever reads them; nobody writes before what the sender owed. A receiver that waits for a byte that is elsewhere is an
   invalid end state. Processes may be killed between any two steps; then nothing is said, and all stays on TCP.
   -DEXEC: the child does not close the connection but loses it by an exec, which may fail.

   Wrong variants that pan must reject (run.sh): -DWRONG_NOTE (it says at once that nobody else has it), -DWRONG_UNCOUNTED
   (what is under way is no holder), -DWRONG_IN_CALL, -DWRONG_HANDED_FIRST (before the message is counted),
   -DWRONG_OWED, -DWRONG_PEEK (a look at the message leaves the note), -DWRONG_POSITION (the receiver counts from
   where it began), -DWRONG_ATTEMPT (a word about one attempt is taken for the next), -DEXEC -DWRONG_EXEC
   (who may come back has gone). */

#ifndef BYTES
#define BYTES 3
#endif

byte holders = 2;       /* as the arena counts them */
bool s_has = true, c_has = true, r_has, other_has;  /* and as it is; other_has: by a look at the message */
bool under_way;         /* the message */
bool in_call;           /* the sender's thread */
bool handed;
byte attempt;           /* to pass it */
byte note;              /* of that attempt; 0: there is none */
bool shared;
bool leaving;           /* the child, at its exec */
bool owed = true;       /* by the sender's FIFO to TCP */

byte tcp_sent, tcp_read, fifo_sent, fifo_read, next;  /* of the peer's bytes; next: to be read by anybody */
byte switch_offset;
bool aware, up;

inline read_tcp() {
  atomic {
    if
    :: tcp_read < tcp_sent -> assert(tcp_read == next); tcp_read++; next++
    :: else
    fi
  }
}

#ifdef WRONG_IN_CALL
#define HAS_LEFT_IT (!owed)
#else
#define HAS_LEFT_IT (!in_call && !owed)
#endif
#ifdef WRONG_EXEC
#define MAY_COME_BACK false
#else
#define MAY_COME_BACK leaving
#endif

#ifdef WRONG_ATTEMPT
#define IS_MEANT (note != 0)
#else
#define IS_MEANT (note == meant)
#endif

/* One process less; the last but the message says so. */
inline let_go(left, meant) {
  atomic { holders--; left = holders }
  meant = attempt;
  if
  :: left == 1 && handed ->
     if
     :: MAY_COME_BACK
     :: else ->
        if
        :: holders == 1 ->
           if
           :: HAS_LEFT_IT ->
              atomic {
                if
                :: note != 0 && IS_MEANT -> shared = false
                :: else
                fi
              }
           :: else
           fi
        :: else
        fi
     fi
  :: else
  fi
}

/* A note for the next attempt. */
inline leave_note(is_shared) {
  atomic { note = attempt + 1; shared = is_shared }
  attempt = note;
}

proctype Peer() {
  do
  :: tcp_sent + fifo_sent == BYTES -> break
  :: else ->
     atomic {
       if
       :: aware && !up -> switch_offset = tcp_sent; up = true
       :: !aware -> tcp_sent++
       :: up -> fifo_sent++
       fi
     }
  od
}

/* It goes on with the connection when the number is closed meanwhile. */
proctype SenderThread() {
  if
  :: atomic { s_has -> in_call = true }
     read_tcp();
     in_call = false
  :: skip
  fi
}

proctype Sender() {
  byte left, meant;
#ifndef WRONG_OWED
  owed = false;
#endif
#ifdef WRONG_HANDED_FIRST
  leave_note(true);
  handed = true;
#endif
#ifndef WRONG_UNCOUNTED
  holders++;
#endif
#ifndef WRONG_HANDED_FIRST
#ifdef WRONG_NOTE
  leave_note(false);
#else
  leave_note(true);
#endif
  handed = true;
#endif
  if
  :: under_way = true
  :: skip ->            /* no room: it is undone, and there is another attempt */
     handed = false;
     note = 0;
     holders--;
     read_tcp();
     holders++;
     leave_note(true);
     handed = true;
     under_way = true
  fi;
  if
  :: s_has = false; let_go(left, meant)
  :: atomic { s_has = false; in_call = false }  /* killed */
  :: skip                                       /* keeps it */
  fi
}

proctype Child() {
  byte left, meant;
  read_tcp();
#ifdef EXEC
  leaving = true;
  if
  :: handed -> leaving = false
  :: else ->
     let_go(left, meant);
     if
     :: atomic { c_has = false; leaving = false }  /* the kernel says so: the exec has succeeded */
     :: holders++; leaving = false                 /* it has failed */
     fi
  fi
#else
  c_has = false;
  let_go(left, meant)
#endif
}

proctype Receiver() {
  bool followed, inherited;
  byte own;
  if
  :: atomic { under_way -> under_way = false; r_has = true }
  :: atomic { under_way -> other_has = true }
#ifndef WRONG_PEEK
     note = 0;
#endif
     atomic { under_way = false; r_has = true }
  fi;
  atomic { followed = note != 0; inherited = shared }
  assert(!owed);        /* it may write now */
  do
  :: next == BYTES -> break
  :: followed && inherited && !shared -> inherited = false
  :: followed && !inherited && !aware ->
     atomic {
       assert(!s_has && !c_has && !in_call && !other_has);
       aware = true
     }
#ifdef WRONG_POSITION
  :: atomic { (!up || own < switch_offset) && tcp_read < tcp_sent -> own++; read_tcp() }
  :: atomic { up && own == switch_offset && fifo_read < fifo_sent ->
#else
  :: atomic { tcp_read < tcp_sent -> own++; read_tcp() }
  :: atomic { up && tcp_read == switch_offset && fifo_read < fifo_sent ->
#endif
     assert(switch_offset + fifo_read == next);
     fifo_read++;
     next++ }
  od
}

init {
  atomic {
    run Peer();
    run SenderThread();
    run Sender();
    run Child();
    run Receiver()
  }
}
