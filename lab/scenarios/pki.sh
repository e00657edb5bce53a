# SPDX-License-Identifier: Apache-2.0
# not in make test: it is sourced
# Keys and certificates of the scenarios: RSA, as ovs-pki makes them. All lie in
# /tmp/pki of the machine as NAME.key and NAME.crt.
pki=/tmp/pki
mkdir -p -m 700 $pki

# when SECONDS: the time so many seconds from now, as openssl wants it.
when() { date -u -d "@$(($(date +%s) + $1))" +%Y%m%d%H%M%SZ; }
key() { [ -e "$pki/$1.key" ] || openssl genrsa -out "$pki/$1.key" 2048 2>/dev/null; }
year=31536000

# ca NAME: a certification authority.
ca() {
	key "$1"
	openssl req -x509 -new -key "$pki/$1.key" -subj "/O=lab/CN=$1" -not_after "$(when $year)" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$pki/$1.crt"
}

# issue CA NAME CN [SECONDS]: a certificate with CN in subject and SAN. It ends
# after so many seconds (a year); below 0 it has ended already. The key of NAME is
# kept if there is one.
issue() {
	key "$2"
	ext=$pki/ext
	printf 'subjectAltName=DNS:%s\nbasicConstraints=CA:FALSE\n' "$3" >"$ext"
	openssl req -new -key "$pki/$2.key" -subj "/CN=$3/O=lab" |
		openssl x509 -req -CA "$pki/$1.crt" -CAkey "$pki/$1.key" -extfile "$ext" \
			-not_before "$(when -$year)" -not_after "$(when "${4:-$year}")" -out "$pki/$2.crt" 2>/dev/null
}

# self_signed NAME CN [SECONDS]: as issue, but by nobody else.
self_signed() {
	key "$1"
	openssl req -x509 -new -key "$pki/$1.key" -subj "/CN=$2/O=lab" -addext "subjectAltName=DNS:$2" -addext basicConstraints=CA:FALSE \
		-not_before "$(when -$year)" -not_after "$(when "${3:-$year}")" -out "$pki/$1.crt"
}

# put N FILE NAME: FILE as /etc/keys/NAME of hypervisor N, in one step.
put() {
	lab-hv "$1" mkdir -p -m 700 /etc/keys
	lab-hv "$1" install -m 600 "$2" "/etc/keys/.$3"
	lab-hv "$1" mv "/etc/keys/.$3" "/etc/keys/$3"
}

# identity N NAME [CA]: hypervisor N is NAME from now on: certificate and key, and
# the CA that it trusts, in Open_vSwitch's other_config. The paths stay the same.
identity() {
	put "$1" "$pki/$2.key" host.key
	put "$1" "$pki/$2.crt" host.crt
	set -- "$@" "" # without a CA, $3 is empty
	if [ -n "$3" ]; then
		put "$1" "$pki/$3.crt" ca.crt
	else
		lab-hv "$1" ovs-vsctl --no-wait remove Open_vSwitch . other_config ca_cert
	fi
	# shellcheck disable=SC2086
	lab-hv "$1" ovs-vsctl --no-wait set Open_vSwitch . other_config:certificate=/etc/keys/host.crt \
		other_config:private_key=/etc/keys/host.key ${3:+other_config:ca_cert=/etc/keys/ca.crt}
}
no_identity() {
	for k in certificate private_key ca_cert; do lab-hv "$1" ovs-vsctl --no-wait remove Open_vSwitch . other_config $k; done
}
