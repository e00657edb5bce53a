#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is refused, with its reason: the rules of ovs-monitor-ipsec and those that
# docs/ike.md adds, each by a port of its own that touches no other. Then certificates
# that are not the peer's, a renewed one at the same path, and one that has expired.
# (What is not refused: system-cases.sh.)
. "$(dirname "$0")/ike.sh"
. "$(dirname "$0")/pki.sh"
for n in 1 2; do lab-ike $n start; daemon_start $n; done
lab-wire start

# The table: code, local_ip, remote_ip, options. hv1 has no certificate yet.
cat >/tmp/refused <<END
OPT_REMOTE_IP    10.0.0.1 -          psk=x
OPT_REMOTE_IP    10.0.0.1 flow       key=flow psk=x
OPT_FAMILY       10.0.0.1 fd00::21   psk=x
OPT_KEY_SOURCES  10.0.0.1 10.0.0.21  psk=x remote_cert=/etc/keys/peer.crt
OPT_KEY_SOURCES  10.0.0.1 10.0.0.22  psk=x remote_name=hv2
OPT_KEY_SOURCES  10.0.0.1 10.0.0.23  psk=x psk_file=/etc/keys/psk
OPT_NO_KEYS      10.0.0.1 10.0.0.24  ipsec_replay-window=128
OPT_NO_CERT      10.0.0.1 10.0.0.25  remote_cert=/etc/keys/peer.crt
OPT_NO_CERT      10.0.0.1 10.0.0.26  remote_name=hv2
OPT_PSK          10.0.0.1 10.0.0.27  psk=""
OPT_PSK_FILE     10.0.0.1 10.0.0.28  psk_file=psk
OPT_REMOTE_CERT  10.0.0.1 10.0.0.29  remote_cert=peer.crt
OPT_REMOTE_NAME  10.0.0.1 10.0.0.30  remote_name=*.example.com
OPT_REMOTE_NAME  10.0.0.1 10.0.0.31  remote_name=%any
OPT_MODE         10.0.0.1 10.0.0.32  psk=x ipsec_mode=tunnel
OPT_PEER         10.0.0.1 10.0.0.33  psk=x dst_port=4790 ipsec_peer=ovs-monitor-ipsec
OPT_IKE_OPTION   10.0.0.1 10.0.0.34  psk=x ipsec_encapsulation=yes
OPT_IKE_OPTION   10.0.0.1 10.0.0.35  psk=x ipsec_nic-offload=crypto
OPT_IKE_OPTION   10.0.0.1 10.0.0.36  psk=x ipsec_esp=aes256-sha2_256
OPT_IKE_OPTION   10.0.0.1 10.0.0.37  psk=x ipsec_ike=aes256-sha2_256
OPT_IKE_OPTION   10.0.0.1 10.0.0.38  psk=x ipsec_replay-window=48
OPT_UNKNOWN      10.0.0.1 10.0.0.39  psk=x ipsec_nosuch=1
OPT_RAW_KEY      10.0.0.1 10.0.0.40  ipsec_keys=0x$(printf '%072d' 1)
PSK_FILE         10.0.0.1 10.0.0.41  psk_file=/etc/keys/empty
CERT_MISSING     10.0.0.1 10.0.0.42  psk_file=/etc/keys/none
CERT_MODE        10.0.0.1 10.0.0.43  psk_file=/etc/keys/open
END
say "what is refused, port by port, beside one that is not"
for n in 1 2; do
	lab-hv $n sh -c 'mkdir -p -m 700 /etc/keys; umask 077; echo >/etc/keys/empty; echo x >/etc/keys/open; chmod 644 /etc/keys/open'
	port $n vx6 6 key=6 psk=flounder ipsec_auto=add
done
encrypted vx6
i=0
while read -r code local remote options; do
	i=$((i + 1))
	# shellcheck disable=SC2086
	tunnel 1 r$i "$local" "$remote" $options
	echo "r$i $code blocked" >>/tmp/want
done </tmp/refused
refusals() { lab-hv 1 ovs-ipsec-offload status --json | jq -r '.ports[] | select(.name | startswith("r")) | "\(.name) \(.problems[0].code) \(.state)"' >/tmp/got; }
refused() { refusals; sort /tmp/got | diff - /tmp/sorted; }
sort /tmp/want >/tmp/sorted
eventually 30 "$i ports are refused and blocked, each with its code" refused
lab-hv 1 ovs-ipsec-offload status --json | jq -r '.ports[] | select(.name | startswith("r")) | "    \(.name): \(.problems[0].code): \(.problems[0].text)"'
must "the database has the code" sh -c "lab-hv 1 ovs-vsctl get interface r4 external_ids | grep -q OPT_KEY_SOURCES"
must "the one beside them is not touched" state_is 1 vx6 encrypted
has_note() { lab-hv 1 ovs-ipsec-offload status --json | jq -e --arg c "$1" '[.problems[], (.notes // [])[], (.pairs[].notes // [])[]] | map(.code) | index($c)' >/dev/null; }
must "a note of an option without effect: OPT_IGNORED" has_note OPT_IGNORED
lab-hv 1 ovs-vsctl set Open_vSwitch . other_config:ipsec_skb_mark=1/1 other_config:certificate=/etc/keys/host.crt
for c in HOST_SKB_MARK HOST_PKI; do eventually 10 "a note of the host: $c" has_note $c; done
must "which touches no port that has a psk" state_is 1 vx6 encrypted
lab-hv 1 ovs-vsctl remove Open_vSwitch . other_config ipsec_skb_mark
# shellcheck disable=SC2046
lab-hv 1 ovs-vsctl --no-wait $(seq $i | sed 's/.*/-- del-port br-int r&/')

say "a certificate that is not the peer's"
for n in 1 2; do self_signed hv$n hv$n; identity $n hv$n; done
self_signed other hv2
put 1 $pki/other.crt peer.crt
put 2 $pki/hv1.crt peer.crt
for n in 1 2; do port $n vx0 4 key=100 remote_cert=/etc/keys/peer.crt; done
eventually 30 "hv1: IKE_AUTH_FAILED" problem_is 1 vx0 IKE_AUTH_FAILED
must "hv1: blocked" state_is 1 vx0 blocked
for n in 1 2; do lab-hv $n ovs-vsctl del-port br-int vx0; done

say "a CA's"
ca ca
for n in 1 2; do issue ca hv$n-ca hv$n; identity $n hv$n-ca ca; done
for n in 1 2; do port $n vx0 4 key=100 remote_name=hv$((3 - n)); done
encrypted vx0
carried vx0

say "renewed at the same path: it is used, and no tunnel goes down for it"
before
stream
for n in 1 2; do
	issue ca hv$n-ca hv$n
	put $n $pki/hv$n-ca.crt host.crt
done
for n in 1 2; do
	eventually 30 "hv$n: new SAs, and the old ones are gone" renewed $n 10.
	must "hv$n: its IKE daemon has the new certificate" knows $n $pki/hv$n-ca.crt
done
encrypted vx0
sleep 1
stream_end
must "no more than a moment of it was lost" test "$lost" -le 20

say "without a CA"
lab-hv 1 ovs-vsctl remove Open_vSwitch . other_config ca_cert
eventually 20 "no CA" problem_is 1 vx0 OPT_NO_CA
lab-hv 1 ovs-vsctl set Open_vSwitch . other_config:ca_cert=/etc/keys/ca.crt
encrypted vx0

say "an expired certificate is not used, and a new one at once"
lab-hv 2 ovs-vsctl del-port br-int vx0
daemon_stop 2
issue ca hv2-ca hv2 -60
identity 2 hv2-ca ca
daemon_start 2
port 2 vx0 4 key=100 remote_name=hv1
eventually 20 "hv2: CERT_EXPIRED" problem_is 2 vx0 CERT_EXPIRED
eventually 20 "hv1: blocked" state_is 1 vx0 blocked
issue ca hv2-ca hv2
put 2 $pki/hv2-ca.crt host.crt
encrypted vx0
carried vx0
wire_was_esp
no_clear
