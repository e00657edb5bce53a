# SPDX-License-Identifier: Apache-2.0
# not in make test: it is sourced
# The cases of Open vSwitch's own tests of ovs-monitor-ipsec (tests/system-ipsec.at),
# in our words, on four hypervisors and with the IKE daemon that $IKE names. Theirs
# have libreswan only, and look for ESP on the underlay; here whatever is not ESP
# fails, every SA must be in the NIC, and all is in one boot.
#
# case there                                         here
# (ipv4, vxlan, defaultroute, psk)                   comes_late
# (ipv6, vxlan, defaultroute, psk)                   comes_late
# (ipv6, vxlan, localip, psk)                        names_its_address, and IPv4
# reconciliation interval is respected - ipv4, ipv6  comes_late: others come and go, and
#                                                    what is under way is not begun anew
# (ipv4, geneve, defaultroute/localip, psk)          refused_types: the NIC encrypts VXLAN
# (ipv6, geneve, defaultroute, psk)                  only; Geneve is refused and blocked
# (ipv4, gre, defaultroute, psk)                     refused_types: GRE is refused, and
#                                                    the host is unsafe while it is there
# (ipv4, geneve, custom conf)                        comes_late: no file of the IKE daemon
#                                                    is written, so there is none to choose
# (ipv4, geneve, default crypto), (custom conf,      the NIC has one cipher: comes_late looks
#  default crypto)                                   at it; ipsec_ike and ipsec_esp are
#                                                    refused (ike-certs.sh)
# (ipv4, geneve, defaultroute, self-signed)          certificates, with vxlan
# (ipv4, geneve, defaultroute, ca-signed)            certificates, with vxlan
# certificate update while the daemon is down        certificates: a new CA and new
#                                                    certificates on both hosts
# established conns survive new additions - ipv4, 6  additions
# NxN geneve tunnels + reconciliation                mesh, and behind_our_back
. "$(dirname "$0")/ike.sh"
. "$(dirname "$0")/pki.sh"
seed=${SEED:-1}
now() { cut -d. -f1 /proc/uptime; }

# silent ADDRESS: nothing of vm1 gets there.
silent() { ! lab-vm 1 ping -q -c 3 -i 0.2 -W 1 "$1" >/dev/null; }

comes_late() {
	say "vxlan by psk, IPv4 and IPv6, no local_ip; the peer comes late"
	ike_start 1
	lab-hv 1 touch /tmp/mark
	link 1 2 vx4 4- key=4 psk=swordfish
	link 1 2 vx6 6- key=6 psk=swordfish
	for a in 10.0.0.2 fd00::2; do eventually 20 "hv1 asks $a for keys" sh -c "lab-ike 1 log | grep -qE 'initiating IKE.* to $a( |\$)'"; done
	was=$(attempts 1 10.0.0.2) from=$(now)
	for i in 5 6 7; do
		tunnel 1 far4$i - 10.0.0.$i key=$i psk=swordfish
		tunnel 1 far6$i - fd00::$i key=$i psk=swordfish
	done
	for i in 45 46 47 65 66 67; do eventually 10 "hv1: far$i is blocked" state_is 1 far$i blocked; done
	for i in 45 46 47 65 66 67; do lab-hv 1 ovs-vsctl --no-wait del-port br-int far$i; done
	eventually 10 "they are gone" test "$(lab-hv 1 ovs-ipsec-offload status --json | jq '.pairs | length')" = 2
	# An attempt lasts 15 s, then the next one is begun.
	must "what was under way was not begun anew for them" test "$(attempts 1 10.0.0.2)" -le $((was + 1 + ($(now) - from) / 15))
	ours 2
	for f in 4 6; do link 2 1 vx$f $f- key=$f psk=swordfish; done
	for n in 1 2; do steer $n vx4; done
	must "no traffic without IPsec" silent 192.168.7.2
	must "hv2 says why" problem_is 2 vx4 IKE_DOWN
	from=$(now)
	lab-ike 2 start "$IKE"
	encrypted vx4
	encrypted vx6
	note "both within $(($(now) - from)) s after the IKE daemon started"
	for f in 4 6; do carried vx$f; done
	for n in 1 2; do
		must "hv$n: every SA is in the NIC" all_offloaded $n
		must "hv$n: each has its cipher, AES-GCM with 256 bits, and 64-bit sequence numbers" strong $n
	done
	must "no file of the IKE daemon was written" sh -c \
		'[ -z "$(lab-hv 1 find /etc/swanctl /etc/strongswan* /etc/ipsec* -newer /tmp/mark -type f 2>/dev/null)" ]'
}
# strong N: every SA of hypervisor N is as the NIC wants it: 32 bytes of key and 4 of salt.
strong() {
	lab-hv "$1" ip xfrm state | awk '/^src/ { all++ } /aead rfc4106\(gcm\(aes\)\) 0x/ && length($3) == 74 && $4 == 128 { gcm++ } /flag.* esn/ { esn++ }
		END { exit !(all > 0 && all == gcm && all == esn) }'
}

names_its_address() {
	say "the same with local_ip, which changes nothing"
	before
	for n in 1 2; do
		lab-hv $n ovs-vsctl set interface vx4 options:local_ip=10.0.0.$n -- set interface vx6 options:local_ip=fd00::$n
	done
	for f in 4 6; do
		encrypted vx$f
		carried vx$f
	done
	for n in 1 2; do must "hv$n: the SAs are the very same" kept $n; done
}

# dropped N: what block policies of hypervisor N have dropped, in the NIC or before it:
# the host encapsulates Geneve, and looks at the guard itself.
dropped() { echo $(($(nic "$1" tx_blocked) + $(lab-hv "$1" awk '$1 == "XfrmOutPolBlock" { print $2 }' /proc/self/net/xfrm_stat))); }
refused_types() {
	say "geneve by psk: refused, and blocked in the NIC"
	for n in 1 2; do
		link $n $((3 - n)) gnv4 4 type=geneve key=44 psk=swordfish
		link $n $((3 - n)) gnv6 6- type=geneve key=66 psk=swordfish
	done
	for p in gnv4 gnv6; do
		for n in 1 2; do
			eventually 10 "hv$n: $p is refused" problem_is $n $p OPT_TYPE
			must "hv$n: and blocked" port_is $n $p blocked
			steer $n $p
		done
		was=$(dropped 1)
		must "nothing gets through it" silent 192.168.7.2
		must "the guard has dropped it" test "$(dropped 1)" -gt "$was"
	done
	say "gre by psk: refused; nothing can block it, and the host says so"
	must "the host was not unsafe" host_is 1 degraded
	link 1 2 gre 4 type=gre key=47 psk=swordfish
	eventually 10 "hv1: refused" problem_is 1 gre OPT_TYPE
	must "hv1: nothing stops it" port_is 1 gre invalid
	must "the host is unsafe" host_is 1 unsafe
	for n in 1 2; do for p in gnv4 gnv6 gre; do lab-hv $n ovs-vsctl --if-exists del-port br-int $p; done; done
	for n in 1 2; do eventually 10 "hv$n: all is well without them" host_is $n ok; done
	carried vx4
}

ignorant() { ! knows "$@"; }
certificates() {
	say "from the psk to self-signed certificates, and on to a CA's"
	before
	for n in 1 2; do self_signed hv$n hv$n; done
	for n in 1 2; do
		identity $n hv$n
		put $n $pki/hv$((3 - n)).crt peer.crt
	done
	for n in 1 2; do lab-hv $n ovs-vsctl remove interface vx4 options psk -- set interface vx4 options:remote_cert=/etc/keys/peer.crt; done
	for n in 1 2; do eventually 40 "hv$n: IPv4 has other SAs" renewed $n 10.; done
	encrypted vx4
	carried vx4
	before
	ca ca
	for n in 1 2; do issue ca hv$n-ca hv$n; identity $n hv$n-ca ca; done
	for n in 1 2; do lab-hv $n ovs-vsctl remove interface vx4 options remote_cert -- set interface vx4 options:remote_name=hv$((3 - n)); done
	for n in 1 2; do eventually 40 "hv$n: IPv4 has other SAs" renewed $n 10.; done
	encrypted vx4
	carried vx4

	say "a new CA and new certificates while the daemon of hv1 is down"
	before
	stream
	daemon_stop 1
	ca ca2
	for n in 1 2; do
		rm -f $pki/hv$n-ca.key
		issue ca2 hv$n-ca hv$n
		identity $n hv$n-ca ca2
	done
	eventually 20 "hv2's IKE daemon has its new certificate" knows 2 $pki/hv2-ca.crt
	must "hv1's has not" ignorant 1 $pki/hv1-ca.crt
	ours 1
	eventually 20 "hv1's IKE daemon has its new certificate" knows 1 $pki/hv1-ca.crt
	for n in 1 2; do eventually 60 "hv$n: IPv4 has other SAs" renewed $n 10.; done
	encrypted vx4
	eventually 10 "overlay answers" reaches 1 192.168.7.2
	stream_end
	# The end that begins anew sets up both children, so the other one sends by its new SA
	# a moment before this end has its inbound one: a packet or two, more on a busy machine.
	must "no more than a moment of it was lost" test "$lost" -le 20
	for n in 1 2; do must "hv$n: IPv6 has the very same SAs" same $n fd00:; done
}

behind_our_back() {
	say "an administrator has hv1's IKE daemon forget everything that is not in a file"
	before
	from=$(now)
	must "it forgets" forget 1
	eventually 15 "it has them again" test_conns 1 2
	note "after $(($(now) - from)) s"
	for n in 1 2; do must "hv$n: the SAs are the very same" kept $n; done

	say "and ends all IKE SAs of hv1, secrets and certificates being forgotten too"
	must "it forgets" forget 1
	stream
	for a in 10.0.0.2 fd00::2; do end_ike 1 $a || end_ike 2 "${a%2}1"; done
	for n in 1 2; do
		eventually 40 "hv$n: IPv4 has other SAs" renewed $n 10.
		eventually 40 "hv$n: IPv6 has other SAs" renewed $n fd00:
	done
	for f in 4 6; do encrypted vx$f; done
	eventually 10 "overlay answers" reaches 1 192.168.7.2
	stream_end
}
# test_conns N COUNT: the IKE daemon of hypervisor N has connections with so many peers.
test_conns() { [ "$(for a in 10.0.0.2 fd00::2; do conns "$1" $a | head -n 1; done | wc -l)" = "$2" ]; }

# source4 N: the option of vx4 that says where its keys come from.
source4() { lab-hv "$1" ovs-vsctl get interface vx4 options | tr -d '{}" ' | tr , '\n' | grep -E '^(psk|remote_name)='; }
additions() {
	say "what is established survives additions, good ones and bad ones"
	ike_start 3
	ike_start 4
	stream
	before
	for n in 1 3; do
		link $n $((4 - n)) to$((4 - n))-4 4 key=4 psk=marlin
		link $n $((4 - n)) to$((4 - n))-6 6- key=6 psk=marlin
	done
	for n in 1 2; do
		link $n $((3 - n)) vx4-101 4 key=101 "$(source4 $n)" # shares the pair of vx4
		link $n $((3 - n)) vx6-101 6- key=101 psk=swordfish
		link $n $((3 - n)) vx4790 6 key=6 psk=swordfish dst_port=4790
	done
	# What is wrong with each of these is its own affair.
	link 1 4 bad1 4 key=1 psk=one
	link 4 1 bad1 4 key=1 psk=another
	link 1 4 bad2 6 key=2 psk=x remote_name=hv4
	link 1 4 bad3 6 key=3 ipsec_nic-offload=packet
	tunnel 1 bad4 10.0.0.1 flow key=flow psk=swordfish dst_port=4791
	for p in to3-4 to3-6; do encrypted $p 1; done
	for p in to1-4 to1-6; do encrypted $p 3; done
	for p in vx4-101 vx6-101 vx4790 vx4 vx6; do encrypted $p; done
	eventually 30 "bad1: IKE_AUTH_FAILED" problem_is 1 bad1 IKE_AUTH_FAILED
	eventually 10 "bad2: OPT_KEY_SOURCES" problem_is 1 bad2 OPT_KEY_SOURCES
	eventually 10 "bad3: OPT_NO_KEYS" problem_is 1 bad3 OPT_NO_KEYS
	eventually 10 "bad4: OPT_REMOTE_IP" problem_is 1 bad4 OPT_REMOTE_IP
	for p in bad1 bad2 bad3 bad4; do must "$p is blocked" port_is 1 $p blocked; done
	stream_end
	must "nothing of the first was lost" test "$lost" = 0
	for n in 1 2; do must "hv$n: it has the SAs that it had" kept $n; done
	# Two children a pair, two SAs each: with hv2 by IPv4, IPv6 and on port 4790, and with hv3.
	must "hv2 has 12 SAs: ports of one pair share them" test "$(halves 2)" = 12
	must "hv1 has 20" test "$(halves 1)" = 20
	for n in 1 2 3; do must "hv$n: every SA is in the NIC" all_offloaded $n; done
	for p in vx4-101 vx6-101 vx4790; do carried $p; done

	source=$(source4 1)
	say "a port loses ${source%%=*}, its only ipsec option"
	lab-hv 1 ovs-vsctl remove interface vx4-101 options "${source%%=*}"
	eventually 10 "beside a port that has it, it is a conflict" problem_is 1 vx4-101 PAIR_CONFLICT
	must "and the pair stays encrypted" state_is 1 vx4 encrypted
	for n in 1 2; do lab-hv $n ovs-vsctl del-port br-int vx4-101; done
	lab-hv 1 ovs-vsctl remove interface vx4 options "${source%%=*}"
	eventually 10 "alone, it is in clear text by wish" state_is 1 vx4 clear
	must "and the log has a warning" grep -q 'level=WARN msg="port has no ipsec option any more.*port=vx4 ' /tmp/daemon1.log
}
test_sas() { [ "$(sas "$1" | wc -l)" = "$2" ]; }

mesh() {
	all=$(seq "$LAB_HYPERVISORS")
	say "full mesh of $LAB_HYPERVISORS by psk"
	for n in $all; do
		[ -e "/tmp/daemon$n.pid" ] || ike_start "$n"
		for p in $(lab-hv "$n" ovs-vsctl list-ports br-int); do [ "$p" = rep0 ] || lab-hv "$n" ovs-vsctl del-port br-int "$p"; done
	done
	for n in $all; do eventually 20 "hv$n: no SA is left of what was before" test_sas "$n" 0; done
	for a in $all; do
		lab-hv "$a" ovs-ofctl del-flows br-int
		for b in $all; do
			[ "$a" = "$b" ] || link "$a" "$b" "mesh$b" 4 key=7 psk=halibut
		done
	done
	for a in $all; do
		tunnels=""
		for b in $all; do
			[ "$a" = "$b" ] && continue
			tunnels="$tunnels,mesh$b"
			lab-hv "$a" ovs-ofctl add-flow br-int "in_port=rep0,priority=40000,dl_dst=02:00:00:00:07:0$b,actions=output:mesh$b"
			lab-hv "$a" ovs-ofctl add-flow br-int "in_port=mesh$b,actions=output:rep0"
		done
		lab-hv "$a" ovs-ofctl add-flow br-int "in_port=rep0,arp,actions=${tunnels#,}"
	done
	from=$(now)
	meshed
	note "whole within $(($(now) - from)) s"
	for a in $all; do before "$a"; done

	say "connections are taken away at random (SEED=$seed)"
	for a in $all; do for b in $all; do [ "$a" = "$b" ] || echo "$a $b"; done; done | shuffled "$seed" >/tmp/random
	gone=$(sed -n 1p /tmp/random)
	set -- $(sed -n '1p;2p;3p' /tmp/random)
	note "hv$1 to hv$2: the IKE SA; hv$3 to hv$4: a child; hv$5 forgets all that it knows, and ends its IKE SA with hv$6"
	from=$(now)
	end_ike "$1" "10.0.0.$2" || fail "$gone"
	end_child "$3" "10.0.0.$4" || note "that child was gone"
	forget "$5" || fail "hv$5 does not forget"
	end_ike "$6" "10.0.0.$5" || note "that IKE SA was gone"
	eventually 40 "hv$1 has other SAs" lost_some "$1"
	meshed
	note "whole within $(($(now) - from)) s"
	eventually 20 "hv$5 has connections with everybody" knows_all "$5"
}
# halves N: how many SAs hypervisor N has, of those with one selector only one: pluto
# begins anew by itself when a peer ends an IKE SA, beside what our daemon asks of it,
# and may then have two of one kind until the next rekey; SAs of attempts have none.
halves() {
	case $IKE in
	strongswan) sas "$1" ;;
	libreswan) lab-hv "$1" ip xfrm state | awk '$1 == "sel" && /proto udp/' | sort -u ;;
	esac | wc -l
}
four_each() { [ "$(halves "$1")" = $((4 * (LAB_HYPERVISORS - 1))) ]; }
# meshed: every pair is encrypted by 4 SAs and carries traffic.
meshed() {
	for a in $all; do
		for b in $all; do [ "$a" = "$b" ] || eventually 60 "hv$a: mesh$b encrypted" state_is "$a" "mesh$b" encrypted; done
		eventually 30 "hv$a: 4 SAs for each peer" four_each "$a"
		must "hv$a: every SA is in the NIC" all_offloaded "$a"
	done
	for a in $all; do
		for b in $all; do
			[ "$a" = "$b" ] && continue
			eventually 10 "vm$a reaches vm$b" between "$a" "$b" 1
			must "5 of 5" between "$a" "$b" 5
		done
	done
}
between() { lab-vm "$1" ping -q -c "$3" -i 0.05 -W 2 "192.168.7.$2" | grep -q " $3 received"; }
lost_some() { sas "$1" >/tmp/now; [ -n "$(comm -13 /tmp/now "/tmp/before$1")" ]; }
knows_all() { [ "$(conns "$1" | wc -l)" -ge $((LAB_HYPERVISORS - 1)) ]; }

lab-wire start 6081 4790 4791
comes_late
# CASES: those that are tried after the first one.
for c in ${CASES:-names_its_address refused_types certificates behind_our_back additions mesh}; do $c; done
wire_was_esp
no_clear "$(seq "$LAB_HYPERVISORS")"
