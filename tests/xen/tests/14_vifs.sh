# A second network card, plugged in while all is running: its address is the same guest's.
source lib/discovery.sh
daemons a b
meet a b
b=$(domid b)
knows a "$(address b)" "$b"
dom0 'xl network-attach b bridge=br0 script=/etc/xen/scripts/vif-lab mac=00:16:3e:00:01:03'
eventually 15 guest b 'test -e /sys/class/net/eth1'
guest b 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
  ip addr add 10.77.1.3/24 dev eth1; ip link set eth1 up'
guest a 'ip addr add 10.77.1.2/24 dev eth0; ping -c 2 -W 3 10.77.1.3 >/dev/null'
knows a 10.77.1.3 "$b"
knows a "$(address b)" "$b"
dom0 'xl network-detach b 1'
guest a 'ping -c 1 -W 1 10.77.1.3 >/dev/null; ip addr del 10.77.1.2/24 dev eth0'
knows_not a 10.77.1.3
knows a "$(address b)" "$b"
