# A guest moves live to another host, and nobody is told. What it had under way in pages is settled by a question over the
# network, from one host to the other, and its stream goes on by TCP.
# limit: 600
# hosts: 2
source lib/moving.sh
source lib/hosts.sh
[[ $guest_type == pvh ]] || skip "live migration needs log-dirty mode: this Xen has none for PV guests (tests/xen/run --type pvh)"
ready_for_programs
limit=180
second_host
serve a taker 'stream-check receive 0.0.0.0:7414 8'
listening a 7414
serve b giver "stream-check send $(address a):7414 8 0"
eventually 60 at_least 1 b
# Its reader sleeps through the move: the FIFO is full.
reader=$(pid_of a stream-check)
guest a "kill -STOP $reader"
sleep 1
held=$(stat b | jq '[.processes[].streams[].fifo_sent] | add')
migrate b dom0 dom0x xl
guest a "kill -CONT $reader"
eventually 60 guest b 'grep -q "suspended without notice" /tmp/xenloopd.log'
sleep 40  # longer than an answer is waited for
for log in a:taker b:giver; do
  [[ -z $(guest "${log%:*}" "cat /tmp/${log#*:}.status 2>/dev/null; true") ]] ||
    fail "${log#*:} in ${log%:*} has ended: $(guest "${log%:*}" "tail -n 3 /tmp/${log#*:}.log")"
done
off_pages a
taken() { stat a | jq "[.processes[].streams[].$1] | add"; }
before=$(taken tcp_received)
sleep 3
(($(taken tcp_received) > before)) || fail "the stream stands still: $(guest a 'xenloop stat'; guest b 'xenloop stat')"
note "b had sent $held bytes by pages, a had read $(taken fifo_received) of them there; the rest has come by TCP, and more: $(taken tcp_received)"
kernel_well a; kernel_well b
guest a 'killall stream-check'; guest b 'killall stream-check 2>/dev/null; true'
