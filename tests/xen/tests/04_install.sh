# What cmake --install puts in place is what the guest runs: programs, units, group, the devices'
# permissions, the limit of pages. The lab has neither udev nor systemd; its init does as the
# installed files say (guest/devices).
for name in a b dom0; do
  in_domain $name 'test -x /usr/bin/xenloop && test -x /usr/bin/xenloopd && test -s /usr/lib/x86_64-linux-gnu/libxenloop.so' ||
    fail "$name: not all is there"
  in_domain $name 'for unit in xenloopd xenloopd-dom0; do grep "^ExecStart=" /usr/lib/systemd/system/$unit.service | sed "s/^ExecStart=//; s/ .*//"; done |
    while read -r program; do test -x "$program" || { echo "$program"; exit 1; }; done' || fail "$name: a unit starts what is not there"
  group=$(in_domain $name 'sed -n "s/.*GROUP=\"\([^\"]*\)\".*/\1/p" /usr/lib/udev/rules.d/70-xenloop.rules')
  in_domain $name "grep -q '^g $group ' /usr/lib/sysusers.d/xenloop.conf && grep -q '^$group:' /etc/group" || fail "$name: no group '$group'"
  for device in gntalloc gntdev evtchn; do
    [[ $(in_domain $name "stat -c '%G %a' /dev/xen/$device") == "$group 660" ]] || fail "$name: $device is $(in_domain $name "ls -l /dev/xen/$device")"
  done
  wanted=$(in_domain $name 'sed -n "s/^options xen_gntalloc limit=//p" /usr/lib/modprobe.d/xenloop.conf')
  got=$(in_domain $name 'cat /sys/module/xen_gntalloc/parameters/limit')
  [[ $wanted && $wanted == "$got" ]] || fail "$name: gntalloc's limit is $got and not ${wanted:-known}"
done
guest a 'su user -c "exec 3<>/dev/xen/gntalloc" && ! su nobody -c "exec 3<>/dev/xen/gntalloc" 2>/dev/null' || fail "the wrong users may grant"
note "limit of granted pages: $got"
