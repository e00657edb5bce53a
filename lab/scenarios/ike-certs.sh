#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Self-signed certificates (remote_cert) and those of a CA (remote_name), as
# ovs-monitor-ipsec's users have them; what is refused, with its reason; a renewed
# certificate at the same path, and one that has expired.
. "$(dirname "$0")/ike.sh"
. "$(dirname "$0")/pki.sh"
for n in 1 2; do lab-ike $n start; daemon_start $n; done
lab-wire start

say "self-signed"
for n in 1 2; do self_signed hv$n hv$n; done
for n in 1 2; do
	identity $n hv$n
	put $n $pki/hv$((3 - n)).crt peer.crt
	port $n vx0 4 key=100 remote_cert=/etc/keys/peer.crt
done
encrypted vx0
carried vx0

say "one that is not the peer's"
self_signed other hv2
put 1 $pki/other.crt other.crt
lab-hv 1 ovs-vsctl del-port br-int vx0
port 1 vx0 4 key=100 remote_cert=/etc/keys/other.crt
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
for n in 1 2; do eventually 30 "hv$n: new SAs, and the old ones are gone" renewed $n; done
encrypted vx0
sleep 1
stream_end
must "at most 2 packets lost" test "$lost" -le 2

say "what is refused, port by port"
lab-hv 1 ovs-vsctl remove Open_vSwitch . other_config ca_cert
eventually 20 "no CA" problem_is 1 vx0 OPT_NO_CA
lab-hv 1 ovs-vsctl set Open_vSwitch . other_config:ca_cert=/etc/keys/ca.crt
encrypted vx0
port 1 bad1 6 key=100 psk=x remote_name=hv2
eventually 20 "two sources" problem_is 1 bad1 OPT_KEY_SOURCES
lab-hv 1 ovs-vsctl del-port br-int bad1
must "vx0 is not touched" state_is 1 vx0 encrypted

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
