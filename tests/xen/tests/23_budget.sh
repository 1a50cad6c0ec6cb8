# No more pages to grant: streams stay on TCP, whole, with a reason; when there is room again, new
# streams use pages.
# limit: 240
source lib/programs.sh
ready_for_programs
limit=100
before=$(guest a 'cat /sys/module/xen_gntalloc/parameters/limit')
for name in a b; do guest $name 'echo 0 >/sys/module/xen_gntalloc/parameters/limit'; done
serve b receiver "stream-check receive 0.0.0.0:7401 42"
listening b 7401
guest a "$with_library stream-check send $(address b):7401 42 10000000" || fail "the sender ended with $?"
ended b receiver
[[ $(fifo_bytes a) == 0 ]] || fail "bytes went through FIFOs without pages"
note "without pages: $(guest a 'tail -n 1 /tmp/stats.json' | jq -c '.fallbacks // .reasons // {}')"
for name in a b; do guest $name "echo $before >/sys/module/xen_gntalloc/parameters/limit"; done
serve b receiver "stream-check receive 0.0.0.0:7402 42"
listening b 7402
guest a "$with_library stream-check send $(address b):7402 42 20000000" || fail "the sender ended with $?"
ended b receiver
expect_fifo 'with pages again'
