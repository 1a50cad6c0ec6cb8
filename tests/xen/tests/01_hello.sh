# The lab itself: three domains answer, statuses and files arrive, the guests reach each other.
[[ $(dom0 'echo hello; uname -r') == hello* ]]
for name in a b; do
  [[ $(guest $name hostname) == "$name" ]]
  [[ $(guest $name 'cat /sys/hypervisor/type') == xen ]]
  guest $name 'exit 7' && fail "a status was lost" || [[ $? == 7 ]]
done
push a "$0" /tmp/copied
[[ $(guest a 'sha256sum </tmp/copied') == "$(sha256sum <"$0")" ]]
guest a "ping -c 1 -W $((3 * patience)) $(address b)"
guest a "ping -c 1 -W $((3 * patience)) $(address6 b)"
guest b "ping -c 1 -W $((3 * patience)) $(address dom0)"
note "domains: $(dom0 'xl list | awk "NR > 1 { printf \"%s=%s \", \$1, \$2 }"')"
