# SPDX-License-Identifier: Apache-2.0
# The topology at work with nothing but ip, ovs-vsctl and the lab's commands: an
# overlay by OVS, encrypted by the NIC, offloaded flows, no clear text on the
# wire; then Open vSwitch stopped, started and started cold.
set -eu
say() { echo "--- [$(cut -d' ' -f1 /proc/uptime) s] $*"; }
fail() { echo "FAIL: $*"; exit 1; }
nic() { lab-nic "$1" | awk -v k="$2" '$1 == k { print $2 }'; }
key() { head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# ipsec N PEER FAMILY(4|6) OUTKEY INKEY: SAs, then policies, transport mode.
ipsec() {
	case $3 in
	4) local="10.0.0.$1" remote="10.0.0.$2" ;;
	6) local="fd00::$1" remote="fd00::$2" ;;
	esac
	lab-hv "$1" ip -batch - <<-END
		xfrm state add src $remote dst $local proto esp spi 0x$3$2$1 reqid $3 mode transport aead rfc4106(gcm(aes)) 0x$5 128 flag esn replay-window 64 offload packet dev pf0 dir in
		xfrm state add src $local dst $remote proto esp spi 0x$3$1$2 reqid $3 mode transport aead rfc4106(gcm(aes)) 0x$4 128 flag esn offload packet dev pf0 dir out
		xfrm policy add src $remote dst $local proto udp dport 4789 dir in priority 10 offload packet dev pf0 tmpl src $remote dst $local proto esp reqid $3 mode transport
		xfrm policy add src $local dst $remote proto udp dport 4789 dir out priority 10 offload packet dev pf0 tmpl src $local dst $remote proto esp reqid $3 mode transport
	END
}

tunnel() { # N PEER LOCAL REMOTE
	lab-hv "$1" ovs-vsctl --may-exist add-port br-int vx0 -- set interface vx0 type=vxlan \
		options:local_ip="$3" options:remote_ip="$4" options:key=100
	lab-hv "$1" ovs-ofctl del-flows br-int
	lab-hv "$1" ovs-ofctl add-flow br-int in_port=rep0,actions=output:vx0
	lab-hv "$1" ovs-ofctl add-flow br-int in_port=vx0,actions=output:rep0
}

# encrypted WHAT: traffic both ways, and what the wire and the NICs saw of it.
encrypted() {
	lab-wire start
	lab-vm 1 ping -q -c 20 -i 0.1 -W 2 192.168.7.2 | grep -E 'transmitted|rtt'
	lab-vm 2 iperf3 -s -1 -D
	lab-vm 1 iperf3 -c 192.168.7.2 -t 3 | grep -E 'sender|receiver'
	lab-vm 1 ping -q -i 0.2 192.168.7.2 >/dev/null & # Open vSwitch drops idle flows
	for n in 1 2; do check_nic "$1" $n; done
	kill $!
	lab-wire stop | tee /tmp/wire
	[ "$(awk '$1 == "esp" { print $2 }' /tmp/wire)" -gt 1000 ] || fail "$1: too little ESP on the wire"
	grep -qx 'udp4789 0' /tmp/wire || fail "$1: clear text on the wire"
}

check_nic() { # WHAT N
	until lab-nic "$2" >/tmp/nic && ! grep -qx 'offloaded_flows 0' /tmp/nic; do
		[ $((tries += 1)) -lt 100 ] || fail "$1: hv$2: no flow in hardware"
		sleep 0.1
	done
	echo "hv$2: $(grep -E '^(offloaded_flows|tx_esp|rx_esp|tx_clear_vxlan) ' /tmp/nic | tr '\n' ' ')"
	grep -qx 'tx_clear_vxlan 0' /tmp/nic || fail "$1: hv$2: clear text sent"
}
tries=0

say "IPsec first, then Open vSwitch offloads"
a=$(key) b=$(key) c=$(key) d=$(key)
for f in 4 6; do
	ipsec 1 2 $f "$a" "$b"
	ipsec 2 1 $f "$b" "$a"
	a=$c b=$d
done
for n in 1 2; do
	lab-hv $n ovs-vsctl set Open_vSwitch . other_config:hw-offload=true
	lab-ovs $n stop
	lab-ovs $n start
done
tunnel 1 2 10.0.0.1 10.0.0.2
tunnel 2 1 10.0.0.2 10.0.0.1
encrypted "IPv4 underlay"

say "IPv6 underlay"
tunnel 1 2 fd00::1 fd00::2
tunnel 2 1 fd00::2 fd00::1
encrypted "IPv6 underlay"

say "stop leaves the flows, cold takes all"
lab-ovs 1 stop
[ "$(nic 1 offloaded_flows)" -gt 0 ] || fail "stop took the flows"
lab-hv 1 ip link show vxlan_sys_4789 >/dev/null || fail "stop took the tunnel device"
lab-ovs 1 cold
[ "$(nic 1 tx_tables) $(nic 1 offloaded_flows)" = "0 0" ] || fail "cold left something in the NIC"
[ -z "$(lab-hv 1 ovs-dpctl dump-dps)" ] || fail "cold left the datapath"
lab-hv 1 ip -o link show type vxlan | grep . && fail "cold left a tunnel device"
lab-ovs 1 start-db
[ "$(lab-hv 1 ovs-vsctl --no-wait get interface vx0 options:remote_ip)" = '"fd00::2"' ] || fail "cold lost the database"
lab-ovs 1 start-switch
lab-hv 1 ovs-appctl dpctl/show | grep -E 'system@|port'

say "private: /etc, /var, /run; shared: /tmp"
lab-hv 1 sh -c 'echo one >/etc/mine; echo one >/var/lib/mine; echo one >/run/mine; echo one >/tmp/ours'
lab-hv 2 sh -c 'ls /etc/mine /var/lib/mine /run/mine 2>/dev/null' && fail "hv2 sees files of hv1"
[ "$(lab-hv 2 cat /tmp/ours)" = one ] || fail "/tmp is not shared"
[ "$(lab-hv 2 hostname)" = hv2 ] || fail "hv2 has the wrong name"
[ "$(lab-hv 1 ls /sys/class/net | grep -c vf0)" = 0 ] || fail "hv1 sees devices of the VM"

say "lab-hv and lab-vm exec"
for cmd in "lab-hv 1" "lab-vm 2"; do
	$cmd sleep 1000 &
	pid=$!
	until grep -qs sleep "/proc/$pid/comm"; do sleep 0.05; done
	kill $pid
	wait $pid && fail "$cmd: the process was not the command's"
done
lab-hv 9 true 2>/dev/null && fail "hv9 exists"
say done
