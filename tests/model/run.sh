#!/usr/bin/env bash
# Checks every model here with spin: `run.sh small` (three minutes), `run.sh wrong` (every wrong variant must be rejected),
# `run.sh large` (33 to 67 million states and some minutes each). Prints the states visited.
set -euo pipefail

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
model=$models/switch.pml
command -v spin >/dev/null || { echo "spin is not installed"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

optimise=-O2

# check NAME -D...: leaves pan's output in $scratch/out.
check() {
  local name=$1
  shift
  (
    cd "$scratch"
    spin -a "$@" "$model" >spin.out 2>&1 || { cat spin.out; exit 1; }
    cc "$optimise" -DVECTORSZ=2048 -DCOLLAPSE -DSAFETY -DNOCLAIM -DMEMLIM=16000 -w -o pan pan.c
    ./pan -m1000000 -w25 >out 2>&1
  )
  grep -q 'errors: ' "$scratch/out" || { cat "$scratch/out"; exit 1; }
  printf '%-44s %12s states, errors: %s\n' "$name" \
    "$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' "$scratch/out")" \
    "$(sed -n 's/.*errors: //p' "$scratch/out")"
}
right() {
  check "$@"
  if grep -Eq 'errors: 0$' "$scratch/out" && ! grep -Eq 'max search depth too small|out of memory' "$scratch/out"; then
    return
  fi
  cat "$scratch/out"
  echo "FAILED: $*"
  exit 1
}
wrong() {
  optimise=-O0  # they are found at once
  check "$@"
  grep -q 'errors: 1$' "$scratch/out" || { echo "FAILED: not rejected: $*"; exit 1; }
}

case ${1:-small} in
  small)
    right "one writer, one reader, two FIFOs" -DREADERS=1 -DBYTES=3
    right "two readers, one FIFO" -DREADERS=2 -DBYTES=1 -DEPISODES=1
    right "two writers, one FIFO" -DREADERS=1 -DWRITERS=2 -DBYTES=1 -DEPISODES=1
    right "two readers, going over only" -DREADERS=2 -DBYTES=2 -DEPISODES=1 -DSEALS=0
    right "two writers, going over only" -DREADERS=1 -DWRITERS=2 -DBYTES=2 -DEPISODES=1 -DSEALS=0
    right "the sender is killed" -DREADERS=1 -DBYTES=2 -DEPISODES=1 -DDEATH
    model=$models/wake.pml
    right "whoever wakes is killed, one sleeper" -DSLEEPERS=1
    right "whoever wakes is killed, two sleepers"
    right "nobody is killed" -DNO_DEATH
    model=$models/bell.pml
    right "doorbell: two sleepers and a looker, one byte" -DBYTES=1
    right "doorbell: a sleeper in another set" -DBYTES=1 -DOTHER -DSLEEPERS=1 -DLOOKS=0
    model=$models/pairing.pml
    right "pairing: one connection" -DMESSAGES=2
    right "pairing: two that carry the same" -DMESSAGES=2 -DSTRANGERS
    model=$models/passing.pml
    right "passing: a child that closes"
    right "passing: a child at an exec" -DEXEC
    model=$models/datagram.pml
    right "datagrams: one FIFO" -DSENDS=3 -DEPISODES=1
    right "datagrams: two readers" -DSENDS=2 -DEPISODES=1 -DREADERS=2 -DSEALS=1
    right "datagrams: the port's next owner" -DSENDS=2 -DEPISODES=1 -DCLOSE
    model=$models/datagram_sleep.pml
    right "datagrams: one sleeper" -DTHREADS=1
    right "datagrams: two sleepers"
    right "datagrams: two sleepers, one at work" -DPAIRS
    model=$models/park.pml
    right "park: two lives, no seal" -DINTRUSIONS=0
    right "park: one life, a client that closes first" -DLIVES=1 -DMODE=0
    right "park: one life, a half-close" -DLIVES=1 -DMODE=1
    right "park: one life, a server that closes first" -DLIVES=1 -DMODE=2
    right "park: one life, nobody reads the answer" -DLIVES=1 -DMODE=3
    right "park: two lives, a client that closes first" -DMODE=0
    right "park: a thread of a former life" -DINTRUSIONS=0 -DSTALE=1 -DMODE=0
    right "park: the client is killed" -DLIVES=1 -DINTRUSIONS=0 -DKILL=0 -DMODE=1
    right "park: the server is killed" -DLIVES=1 -DINTRUSIONS=0 -DKILL=1 -DMODE=3
    model=$models/park_listener.pml
    right "park: a listener that closes" -DCLOSE
    right "park: two threads accept" -DACCEPTORS=2
    right "park: two threads connect, in order" -DCLIENTS=2 -DCONNECTS=1 -DPAIRS=2 -DORDER
    right "park: a claimer is killed" -DKILL=0
    right "park: the listener's process is killed" -DKILL=1
    model=$models/park_order.pml
    right "park: order, a server that sleeps in accept" -DSERVER=0
    right "park: order, a server that polls" -DSERVER=1
    right "park: order, a server that polls unseen" -DSERVER=2
    ;;
  wrong)
    wrong "flush does not seal the consumer's word" -DREADERS=1 -DWRONG_NO_CONSUMER_SEAL
    wrong "newer byte before the residue" -DREADERS=1 -DWRONG_NEWER_FIRST
    wrong "residue one byte short" -DREADERS=1 -DWRONG_RESIDUE
    wrong "reader ignores the switch offset" -DREADERS=1 -DWRONG_NO_DRAIN
    wrong "switch beneath a thread in the kernel" -DREADERS=1 -DWRITERS=2 -DWRONG_NO_USERS
    wrong "no second look when entering the kernel" -DREADERS=1 -DWRITERS=2 -DWRONG_NO_SECOND_LOOK
    wrong "switch beneath a reader in the kernel" -DREADERS=2 -DWRONG_NO_READY
    wrong "FIFO of a dead sender is let go" -DREADERS=1 -DBYTES=3 -DEPISODES=1 -DDEATH -DWRONG_FORGET_RESIDUE
    wrong "dead sender's residue read from its start" -DREADERS=1 -DBYTES=3 -DEPISODES=1 -DDEATH -DWRONG_INHERIT
    model=$models/wake.pml
    wrong "a death wakes only those who ask" -DWRONG_ONLY_WHO_ASKS
    wrong "no second look before the sleep" -DWRONG_NO_SECOND_LOOK
    wrong "wake-ups are not counted" -DWRONG_NO_COUNT
    wrong "the request is taken before the bytes are there" -DNO_DEATH -DWRONG_TAKE_FIRST
    model=$models/bell.pml
    wrong "doorbell: a wake-up does not change the number" -DWRONG_WAKE_UNCOUNTED
    wrong "doorbell: it changes it after the look" -DWRONG_WAKE_LATE
    wrong "doorbell: a ring is taken by one who has looked" -DWRONG_LOOKER
    wrong "doorbell: he does not change the number" -DWRONG_LOOKER_UNCOUNTED
    wrong "doorbell: the number is read after the ring" -DWRONG_NUMBER_LATE
    wrong "bell: its line counts a sleeper who has looked" -DWRONG_LINE_LATE
    wrong "bell: who does not have it rings nobody" -DBYTES=1 -DWRONG_UNKNOWN
    wrong "bell: its name is taken back after the look" -DOTHER -DSLEEPERS=1 -DLOOKS=0 -DWRONG_NAME_LATE
    model=$models/pairing.pml
    wrong "pairing: the first sample may contradict" -DWRONG_FIRST_SAMPLE
    wrong "pairing: samples overtake each other" -DWRONG_UNLOCKED
    wrong "pairing: tosses that decide nothing count" -DWRONG_EVERY_TOSS
    wrong "pairing: segments are not compared" -DSTRANGERS -DWRONG_NO_COMPARE
    model=$models/passing.pml
    wrong "passing: the note says at once that nobody else has it" -DWRONG_NOTE
    wrong "passing: what is under way is no holder" -DWRONG_UNCOUNTED
    wrong "passing: a thread of the sender is in the kernel" -DWRONG_IN_CALL
    wrong "passing: handed on before it is counted" -DWRONG_HANDED_FIRST
    wrong "passing: with a residue owed" -DWRONG_OWED
    wrong "passing: a look at the message leaves the note" -DWRONG_PEEK
    wrong "passing: the receiver counts from where it began" -DWRONG_POSITION
    wrong "passing: a word about one attempt is taken for the next" -DWRONG_ATTEMPT
    wrong "passing: who may come back from an exec has gone" -DEXEC -DWRONG_EXEC
    model=$models/datagram_sleep.pml
    wrong "datagrams: no last look before the sleep" -DWRONG_NO_LAST_LOOK
    wrong "datagrams: a sender who is putting is not waited for" -DWRONG_NO_PUTTING
    wrong "datagrams: one ring for several sleepers" -DPAIRS -DWRONG_ONE_RING
    wrong "datagrams: a ring is taken by another in silence" -DPAIRS -DWRONG_NOT_CROWDED
    model=$models/datagram.pml
    one="-DSENDS=3 -DEPISODES=1"
    wrong "datagrams: the kernel is not read dry first" $one -DWRONG_NO_DRAIN
    wrong "datagrams: no second look at the FIFO" $one -DWRONG_NO_SECOND_LOOK
    wrong "datagrams: newer before the residue" $one -DWRONG_NEWER_FIRST
    wrong "datagrams: residue one short" -DSENDS=2 -DEPISODES=1 -DWRONG_RESIDUE
    wrong "datagrams: residue asked for that was left" $one -DWRONG_ASK_ANYWAY
    wrong "datagrams: a FIFO that was left is let go" -DSENDS=2 -DEPISODES=1 -DWRONG_FORGET_LEFT
    wrong "datagrams: what is in doubt is left" $one -DWRONG_LEAVE_IN_DOUBT
    wrong "datagrams: closed in the middle of a flush" -DSENDS=2 -DEPISODES=1 -DCLOSE -DWRONG_CLOSE_IN_FLUSH
    wrong "datagrams: an unaware reader in the kernel" -DSENDS=2 -DEPISODES=1 -DREADERS=2 -DSEALS=1 -DKERNEL_ROOM=1 \
      -DWRONG_NO_READY
    wrong "datagrams: a closed socket's residue is sent" $one -DCLOSE -DWRONG_FLUSH_CLOSED
    wrong "datagrams: the port is let go in a flush" $one -DCLOSE -DWRONG_LET_GO
    wrong "datagrams: a closed socket's FIFO stays open" $one -DCLOSE -DWRONG_NO_CLOSE_SEAL
    model=$models/park.pml
    wrong "park: TCP carries bytes of a living pair" -DLIVES=1 -DMODE=0 -DWRONG_TCP_OF_THE_LIVING
    wrong "park: parked at the first close" -DMODE=0 -DINTRUSIONS=0 -DWRONG_PARK_AT_FIRST_CLOSE
    wrong "park: closed with something unread" -DLIVES=1 -DMODE=3 -DINTRUSIONS=0 -DWRONG_PARK_UNREAD
    wrong "park: no look after a send" -DLIVES=1 -DMODE=3 -DWRONG_NO_LOOK_AFTER_SEND
    wrong "park: no look after a close" -DLIVES=1 -DMODE=3 -DWRONG_NO_LOOK_AFTER_CLOSE
    wrong "park: a thread of a former life is let through" -DMODE=0 -DINTRUSIONS=0 -DSTALE=0 -DWRONG_NO_LIFE_CHECK
    wrong "park: a half-close is not told to TCP" -DLIVES=1 -DMODE=1 -DWRONG_HALF_CLOSE_LOST
    wrong "park: an end told by an old index" -DLIVES=1 -DMODE=0 -DINTRUSIONS=0 -DWRONG_OLD_INDEX
    wrong "park: the reset takes a seal away" -DMODE=0 -DWRONG_RESET_BY_STORE
    wrong "park: the reset comes after the queue" -DLIVES=1 -DMODE=2 -DINTRUSIONS=0 -DWRONG_RESET_AFTER_QUEUE
    wrong "park: what waits in the queue is closed" -DLIVES=1 -DMODE=0 -DWRONG_CLOSE_BEFORE_ACCEPT
    wrong "park: the idle close before its word" -DLIVES=1 -DMODE=0 -DWRONG_IDLE_CLOSE
    model=$models/park_listener.pml
    wrong "park: no second look before the sleep" -DWRONG_NO_SECOND_LOOK
    wrong "park: claimed of a dead process" -DKILL=1 -DWRONG_NO_DEATH_CHECK
    wrong "park: the hint is taken after the word" -DWRONG_HINT_LAST
    wrong "park: two accept the same life" -DACCEPTORS=2 -DWRONG_ACCEPT_BY_STORE
    wrong "park: an unaware thread in the kernel" -DWRONG_NO_USERS
    wrong "park: no second look when entering the kernel" -DWRONG_NO_SECOND_LOOK_AT_ENTRY
    wrong "park: the kernel's listener is closed first" -DCLOSE -DWRONG_KERNEL_FIRST
    wrong "park: words are looked at one by one" -DCLIENTS=2 -DCONNECTS=1 -DPAIRS=2 -DORDER -DWRONG_LOOK_ONE_BY_ONE
    model=$models/park_order.pml
    wrong "park: a life behind an ordinary connect" -DSERVER=1 -DWRONG_NOT_ASKED
    wrong "park: no life is taken back" -DSERVER=0 -DWRONG_NO_TAKE_BACK
    wrong "park: taken back when it is accepted" -DSERVER=0 -DWRONG_TAKE_BACK_UNSEEN
    wrong "park: no second look before accept sleeps" -DSERVER=0 -DWRONG_NO_SECOND_LOOK
    wrong "park: the kernel's turn without a fence" -DSERVER=1 -DWRONG_NO_FENCE
    wrong "park: a fence that is left standing" -DSERVER=1 -DWRONG_FENCE_LEFT
    wrong "park: the end of the queue wakes nobody" -DSERVER=2 -DWRONG_NO_KICK
    wrong "park: accept and its look apart (known)" -DSERVER=1 -DLOOK_APART
    ;;
  large)
    model=$models/bell.pml
    right "doorbell: two sleepers and a looker"
    right "doorbell: a sleeper in another set" -DOTHER -DSLEEPERS=1
    right "doorbell: two sleepers, two publishers" -DBYTES=1 -DPUBLISHERS=2 -DLOOKS=0
    model=$models/pairing.pml
    right "pairing: one connection"
    right "pairing: two that carry the same" -DSTRANGERS
    model=$models/datagram.pml
    right "datagrams: two FIFOs" -DSENDS=3
    right "datagrams: one FIFO" -DSENDS=4 -DEPISODES=1
    right "datagrams: the port's next owner" -DSENDS=3 -DEPISODES=1 -DCLOSE
    right "datagrams: two readers" -DSENDS=3 -DEPISODES=1 -DREADERS=2
    model=$models/park.pml
    right "park: two lives" -DMODE=1
    right "park: two lives, nobody reads the answer" -DMODE=3
    right "park: the client is killed, any program" -DLIVES=1 -DINTRUSIONS=0 -DKILL=0
    right "park: the server is killed, any program" -DLIVES=1 -DINTRUSIONS=0 -DKILL=1
    right "park: the client is killed, and a seal" -DLIVES=1 -DKILL=0
    right "park: the server is killed, and a seal" -DLIVES=1 -DKILL=1
    model=$models/switch.pml
    right "two readers, one FIFO" -DREADERS=2 -DBYTES=2 -DEPISODES=1
    right "two writers, one FIFO" -DREADERS=1 -DWRITERS=2 -DBYTES=2 -DEPISODES=1
    right "two readers, two FIFOs" -DREADERS=2 -DBYTES=2
    right "the sender is killed" -DREADERS=1 -DBYTES=3 -DEPISODES=1 -DDEATH
    right "the sender is killed, two FIFOs" -DREADERS=1 -DBYTES=2 -DDEATH
    ;;
  *)
    echo "usage: run.sh [small | wrong | large]" >&2
    exit 2
    ;;
esac
