# No more pages to grant: streams stay on TCP, whole, with a reason; when there is room again, new
# streams use pages.
# limit: 240
source lib/programs.sh
ready_for_programs
limit=100
before=$(guest a 'cat /sys/module/xen_gntalloc/parameters/limit')
limits() { for name in a b; do guest $name "echo $1 >/sys/module/xen_gntalloc/parameters/limit"; done; }
trap 'limits $before' EXIT   # the next pages need them, too
limits 0
serve b receiver "stream-check receive 0.0.0.0:7401 42"
listening b 7401
guest a "$with_library stream-check send $(address b):7401 42 10000000" || fail "the sender ended with $?"
ended b receiver
[[ $(fifo_bytes a) == 0 ]] || fail "bytes went through FIFOs without pages"
# A live stream tells why.
serve b receiver "timeout $((20 * patience)) stream-check receive 0.0.0.0:7403 42"
listening b 7403
serve a sender "timeout $((12 * patience)) stream-check send $(address b):7403 42 0"
said=""
for ((i = 0; i < 20; i++)); do
  said=$(for name in a b; do guest $name 'xenloop stat' 2>&1; done)
  [[ $said == *'no grants left'* ]] && break
  sleep 0.3
done
[[ $said == *'no grants left'* ]] || fail "no reason is shown: $said"
note "without pages: $(grep -m 1 'no grants left' <<<"$said" | tr -s ' ')"
guest a 'killall stream-check'; guest b 'killall stream-check' || true
limits "$before"
serve b receiver "stream-check receive 0.0.0.0:7402 42"
listening b 7402
guest a "$with_library stream-check send $(address b):7402 42 20000000" || fail "the sender ended with $?"
ended b receiver
expect_fifo 'with pages again'
