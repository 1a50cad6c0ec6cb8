# Whole verifiable streams between the guests, in both directions: every byte in its place, and through granted pages.
# limit: 240
source lib/programs.sh
ready_for_programs
limit=100
port=7100
serve b receiver "stream-check receive 0.0.0.0:$port 42"
listening b $port
at=$(now)
guest a "$with_library stream-check send $(address b):$port 42 50000000" || fail "the sender ended with $?"
ended b receiver
note "50 MB in $(since "$at") s"
expect_fifo 'one way'
port=$((port + 1))
serve a receiver "stream-check both-receive 0.0.0.0:$port 42 10000000"
listening a $port
guest b "$with_library stream-check both-send $(address a):$port 42 10000000" || fail "the sender ended with $?"
ended a receiver
expect_fifo 'both ways'
# An unprivileged user of the group at one end, root at the other.
port=$((port + 1))
serve b receiver "stream-check receive 0.0.0.0:$port 42"
listening b $port
guest a "su user -c '$with_library stream-check send $(address b):$port 42 20000000'" || fail "the user's sender ended with $?"
ended b receiver
expect_fifo "a user's stream"
