// SPDX-License-Identifier: Apache-2.0

package ovsdb

// Codes of the problems and notes that a port's options and the host's row can
// have. They are stable: scripts and alerts may rely on them.
const (
	CodeType     = "OPT_TYPE"      // tunnel type that cannot be offloaded
	CodeRemoteIP = "OPT_REMOTE_IP" // remote_ip is missing or no peer address
	CodeLocalIP  = "OPT_LOCAL_IP"  // local_ip is no address of this host
	CodeFamily   = "OPT_FAMILY"    // local_ip and remote_ip of different families
	CodeDstPort  = "OPT_DST_PORT"  // dst_port is no UDP port
	CodeMode     = "OPT_MODE"      // ipsec_mode
	CodeOffload  = "OPT_OFFLOAD"   // ipsec_offload
	CodeDev      = "OPT_DEV"       // ipsec_dev is not a name of a device
	CodeUnknown  = "OPT_UNKNOWN"   // ipsec option that this version does not know

	CodeKeys       = "OPT_KEYS"        // ipsec_keys is not a name of a key set
	CodeRawKey     = "OPT_RAW_KEY"     // a key stands in the database
	CodeNoKeys     = "OPT_NO_KEYS"     // IPsec is asked for, but no key source is named
	CodeKeySources = "OPT_KEY_SOURCES" // more than one key source is named

	CodePSK        = "OPT_PSK"         // psk is empty
	CodePSKFile    = "OPT_PSK_FILE"    // psk_file is no absolute path
	CodeRemoteCert = "OPT_REMOTE_CERT" // remote_cert is no absolute path
	CodeRemoteName = "OPT_REMOTE_NAME" // remote_name cannot be a common name
	CodeNoCert     = "OPT_NO_CERT"     // the host has no certificate and private_key for the port
	CodeNoCA       = "OPT_NO_CA"       // remote_name without remote_cert and ca_cert
	CodePeer       = "OPT_PEER"        // ipsec_peer
	CodeChildren   = "OPT_CHILDREN"    // ipsec_children
	CodeIKEOption  = "OPT_IKE_OPTION"  // option for the IKE daemon that cannot be had
	CodeIgnored    = "OPT_IGNORED"     // note: option for the IKE daemon without effect here

	CodeHostPKI = "HOST_PKI"      // note: other_config's certificate files are not complete
	CodeSKBMark = "HOST_SKB_MARK" // note: other_config:ipsec_skb_mark has no effect
)
