# A guest that lies about its address gains nothing: what it writes about itself is ignored, what it
# may not write it cannot, and another's MAC on its own card leads to the other.
source lib/discovery.sh
daemons a b
meet a b; meet a dom0
a=$(domid a) b=$(domid b)
knows a "$(address b)" "$b"
# Keys that are not its own.
guest b "xenstore-write xenloop/peers/$a x" 2>/dev/null && fail "b wrote what Dom0 tells it"
guest b "xenstore-write /local/domain/0/backend/vif/$b/0/mac $(mac a)" 2>/dev/null && fail "b wrote its backend's MAC"
guest b "xenstore-read /local/domain/$a/xenloop/peers/0" 2>/dev/null && fail "b reads what a is told"
# Its own key for its MAC: nobody asks.
guest b "xenstore-write device/vif/0/mac $(mac a)" 2>/dev/null || true
guest b 'killall xenloopd'; knows_not a "$(address b)"
daemon b; meet a b
knows a "$(address b)" "$b"
# Nonsense in place of the word that it takes part.
guest b "killall -9 xenloopd; xenstore-write data/xenloop '1 $(mac a) $(mac a)'"
knows_not a "$(address b)"
knows a "$(address dom0)" 0
guest b 'xenstore-rm data/xenloop'
# A MAC of a's on b's card and an address of its own: if that reaches anybody at all, then a.
daemon b; meet a b; knows a "$(address b)" "$b"
create c || fail "c did not come up"
daemon c; meet c a; meet c b
c=$(domid c)
knows c "$(address b)" "$b"
guest b "setsid sh -c 'ip link set eth0 down; ip link set eth0 address $(mac c); ip link set eth0 up
  ip addr add 10.77.0.66/24 dev eth0; for i in 1 2 3 4 5 6 7 8; do ping -c 1 -W 1 -I 10.77.0.66 $(address a); sleep 0.5; done
  ip addr del 10.77.0.66/24 dev eth0; ip link set eth0 down; ip link set eth0 address $(mac b); ip link set eth0 up
  ip -6 addr add $(address6 b)/64 dev eth0; ping -c 1 -W 1 10.77.0.254; ping -c 1 -W 1 $(address a)' >/tmp/lie.log 2>&1 </dev/null &"
said=""
for ((i = 0; i < 12; i++)); do
  now_said=$(guest a 'ping -c 1 -W 1 10.77.0.66 >/dev/null; xenloopd --peers' | awk '$1 == "10.77.0.66" { print $2 }')
  [[ ! $now_said ]] || said=$now_said
  [[ $now_said != "$b" ]] || fail "b is believed to be who it says"
done
note "the liar's address is domain '${said:-none}' for a (a=$a liar=$b holder of the MAC=$c)"
[[ $said == "$c" ]] || fail "nobody took the bait: the test shows nothing"
dom0 'xl destroy c'
