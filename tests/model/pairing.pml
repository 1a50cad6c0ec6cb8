/* pairing.pml: channel/pairing.h as a spin model. X writes messages on a connection and publishes what it has sent by
   then; Y counts what comes on its own connection and compares. With -DSTRANGERS the two connections are two, which
   carry the same messages, in step; else one.

   Modelled: two threads of X (a send and its sample are two steps, samples are made under a lock), the toss of X for each
   message, acknowledgements of the kernel's own, looks of Y that come late. Chance is not modelled; what it is about is claimed:
   every bit that Y counts stands for a toss that decided about a segment, and whose segment Y's own connection has followed (a stranger's
   would do that in one case of two). And one connection never contradicts itself.

   Wrong variants that pan must reject (run.sh): -DWRONG_FIRST_SAMPLE, -DWRONG_UNLOCKED, -DWRONG_EVERY_TOSS,
   -DSTRANGERS -DWRONG_NO_COMPARE. */

#ifndef MESSAGES
#define MESSAGES 3
#endif

byte sent;          /* X: messages, on its connection */
byte segments;      /* X: segments, on its connection */
byte tosses;        /* X: that mattered */
bool locked;

byte at_y;          /* Y: messages that have come on its connection */
byte segments_y;    /* Y: segments */
byte decided;       /* ghost: tosses without which X would have sent one segment less, or one more */

/* The board: the last two samples are enough here. */
byte count;
byte s_sent[2];
byte s_segments[2];
byte s_tosses[2];

/* Y. */
byte bits;

#define NEWEST ((count + 1) % 2)

/* A message of X. Before it, the kernel may have acknowledged by itself, on both connections or one of them; else X's toss decides. */
inline send() {
  atomic {
    sent < MESSAGES;
    sent++;
    if
    :: true -> mattered = false; extra = 1            /* acknowledged before the toss: heads or tails, one segment */
    :: true -> mattered = true; extra = 0             /* tails */
    :: true -> mattered = true; extra = 1             /* heads */
    fi;
    segments = segments + 1 + extra;
    if :: mattered -> decided++ :: else fi;
    at_y++;
#ifdef STRANGERS
    /* What the stranger at the other end of Y's connection did about the same message. */
    if
    :: segments_y = segments_y + 1
    :: segments_y = segments_y + 2
    fi;
#else
    segments_y = segments_y + 1 + extra;
#endif
#ifdef WRONG_EVERY_TOSS
    tosses++
#else
    if :: mattered -> tosses++ :: else fi
#endif
  }
}

proctype Sender() {
  byte extra; bool mattered; byte w; byte g; byte t;
  do
  :: sent == MESSAGES -> break
  :: sent < MESSAGES ->
     if
     :: send()
     :: sent == MESSAGES
     fi;
#ifndef WRONG_UNLOCKED
     atomic { !locked -> locked = true };
#endif
     atomic { w = sent; g = segments; t = tosses };  /* the kernel's counts are of one moment */
     atomic { s_sent[count % 2] = w; s_segments[count % 2] = g; s_tosses[count % 2] = t; count++ };
     locked = false
  od
}

inline compare(i) {
  if
#ifdef WRONG_NO_COMPARE
  :: !based ->
#else
  :: !based || (s_segments[i] - seen_segments) != base ->
#endif
     based = true; base = s_segments[i] - seen_segments; bits = 0
  :: else ->
     assert(s_segments[i] - seen_segments == base);
     if :: s_tosses[i] != last_tosses -> bits++ :: else fi
  fi;
  last_tosses = s_tosses[i];
  assert(bits <= decided)
}

proctype Receiver() {
  bool based; int base; byte last_tosses;
  byte seen; byte seen_segments; byte since; bool pending;
  do
  :: at_y > seen && !pending ->
     atomic { seen = at_y; seen_segments = segments_y };
     since = count;
     pending = true
  :: pending ->
     atomic {
       if
       :: count > 0 && s_sent[NEWEST] == seen -> pending = false; compare(NEWEST)
       :: count > 1 && s_sent[NEWEST] != seen && s_sent[count % 2] == seen -> pending = false; compare(count % 2)
       :: else ->
#ifdef WRONG_FIRST_SAMPLE
          if
          :: count > since ->
#else
          if
          :: count - since >= 2 ->
#endif
             pending = false;
             assert(s_sent[NEWEST] >= seen)  /* in step: also of strangers */
          :: else -> if :: sent == MESSAGES -> break :: else fi
          fi
       fi
     }
  :: sent == MESSAGES && !pending && at_y == seen -> break
  od
}

init { atomic { run Sender(); run Sender(); run Receiver() } }
