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

   park_ends.inc has what an end does. Wrong variants that pan must reject: run.sh has them. */

#ifndef LIVES
#define LIVES 2
#endif
#ifndef INTRUSIONS
#define INTRUSIONS 1
#endif
#include "park_ends.inc"

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
