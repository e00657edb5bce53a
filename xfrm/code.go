// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Code is a stable name for a kind of failure, for status, metrics and
// manuals. The empty Code is success.
type Code string

// The codes of this package.
const (
	CodeNotOffloaded    Code = "XFRM_NOT_OFFLOADED"
	CodeExists          Code = "XFRM_EXISTS"
	CodeNotFound        Code = "XFRM_NOT_FOUND"
	CodePermission      Code = "XFRM_PERM"
	CodeBusy            Code = "XFRM_BUSY"
	CodeTransient       Code = "XFRM_TRANSIENT"
	CodeTunnelEncap     Code = "XFRM_TUNNEL_ENCAP"
	CodeNoTunnel        Code = "XFRM_NO_TUNNEL"
	CodeNoPacket        Code = "XFRM_NO_PACKET"
	CodeNoPolicyOffload Code = "XFRM_NO_POLICY_OFFLOAD"
	CodeNoPriority      Code = "XFRM_NO_PRIORITY"
	CodeNoESN           Code = "XFRM_NO_ESN"
	CodeModule          Code = "XFRM_MODULE"
	CodeAlgorithm       Code = "XFRM_ALGORITHM"
	CodeNoXFRM          Code = "XFRM_NO_XFRM"
	CodeNoSpace         Code = "XFRM_NO_SPACE"
	CodeNoAnswer        Code = "XFRM_NO_ANSWER"
	CodeCanceled        Code = "XFRM_CANCELED"
	CodeRefused         Code = "XFRM_REFUSED"
	CodeInvalid         Code = "XFRM_INVALID"
	CodeFailed          Code = "XFRM_FAILED"
)

// CodeOf returns the code of an error of this package: by the driver's words
// where they say more than the error number, by that number otherwise.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var op *OpError
	if errors.As(err, &op) {
		if op.NotOffloaded {
			return CodeNotOffloaded
		}
		if c := codeOfText(op); c != "" {
			return c
		}
	}
	var errno unix.Errno
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return CodeCanceled
	case errors.As(err, &errno):
		return codeOfErrno(errno)
	case op != nil && op.Err != nil:
		return CodeInvalid
	}
	return CodeFailed
}

// codeOfText goes by what the driver said. The texts are those of
// net/xfrm/xfrm_device.c, xfrm_state.c, xfrm_user.c and of mlx5's
// en_accel/ipsec.c, with the driver's name before them.
func codeOfText(e *OpError) Code {
	texts := []struct {
		part string
		code Code
	}{
		{"disabled due to encap settings", CodeTunnelEncap},
		{"Packet offload is not supported for tunnel mode", CodeNoTunnel},
		{"Packet offload is not supported", CodeNoPacket},
		{"doesn't support IPsec packet offload", CodeNoPacket},
		{"Policy offload is not supported", CodeNoPolicyOffload},
		{"does not support policy priority", CodeNoPriority},
		{"does not support requested policy priority", CodeNoPriority},
		{"Cannot offload ESN xfrm states", CodeNoESN},
		{"Type doesn't support offload", CodeModule},
		{"Requested type not found", CodeModule},
		{"Requested mode not found", CodeModule},
		{"algorithm not found", CodeAlgorithm},
	}
	for _, t := range texts {
		if strings.Contains(e.Ext, t.part) {
			return t.code
		}
	}
	if e.Errno != unix.EINVAL {
		return ""
	}
	return codeOfInvalid(e)
}

// codeOfInvalid tells the meanings of EINVAL apart. Only the generic text
// means that a lock was taken: the driver says what it does not like. Without
// any text the device has no packet offload at all (a representor, a tunnel,
// mlx5 in a steering mode that cannot).
func codeOfInvalid(e *OpError) Code {
	switch {
	case strings.Contains(e.Ext, "Device failed to offload this"):
		return CodeTransient
	case e.Ext == "" && e.Kind == AddSA:
		return CodeNoPacket
	}
	return CodeRefused
}

func codeOfErrno(n unix.Errno) Code {
	switch n {
	case unix.EEXIST:
		return CodeExists
	case unix.ESRCH, unix.ENOENT:
		return CodeNotFound
	case unix.EPERM, unix.EACCES:
		return CodePermission
	case unix.EBUSY:
		return CodeBusy
	case unix.EINVAL, unix.EOPNOTSUPP, unix.ERANGE:
		return CodeRefused
	case unix.ENOSYS:
		return CodeAlgorithm
	case unix.EPROTONOSUPPORT:
		return CodeNoXFRM
	case unix.ENOMEM, unix.ENOSPC:
		return CodeNoSpace
	case unix.ENOBUFS, unix.EAGAIN, unix.EINTR:
		return CodeNoAnswer
	}
	return CodeFailed
}

// Remedy says what the operator can do, in one sentence; it is empty where
// there is nothing to be done.
func (c Code) Remedy() string {
	switch c {
	case CodeNotOffloaded:
		return "Use a kernel with CONFIG_XFRM_OFFLOAD and a device with IPsec packet offload (Linux 6.6.9 or later, not 6.17.4 to 6.17.8)."
	case CodeExists:
		return "Another program made this object: see \"ip xfrm state\" and \"ip xfrm policy\", and remove it there."
	case CodePermission:
		return "Run as root, or with CAP_NET_ADMIN."
	case CodeBusy:
		return "Remove what excludes IPsec on this NIC: TC flows offloaded before it, flower rules on the PF itself, ipsec_packet or ipsec_crypto of a VF, or too many inbound SAs."
	case CodeTransient:
		return "The driver was busy or refused without a reason: it is tried again; if it stays, see the kernel log."
	case CodeTunnelEncap:
		return "Use ipsec_mode=transport, or set \"devlink dev eswitch set DEV encap-mode none\", which ends VXLAN offload."
	case CodeNoTunnel:
		return "Use ipsec_mode=transport: this NIC has no tunnel mode."
	case CodeNoPacket:
		return "Check that the device is the PF of a NIC with IPsec packet offload and that its flow_steering_mode is dmfs (set before switchdev)."
	case CodeNoPolicyOffload:
		return "Use a device whose driver offloads policies: the PF itself, not a bond, a VLAN or a tunnel on it."
	case CodeNoPriority:
		return "This NIC or its firmware has no policy priorities, without which no block can lie under an allow: update the firmware."
	case CodeNoESN:
		return "This NIC has no extended sequence numbers: update the firmware."
	case CodeModule:
		return "Load the kernel modules: modprobe -a esp4 esp4_offload esp6 esp6_offload."
	case CodeAlgorithm:
		return "Load the kernel modules: modprobe -a gcm seqiv aesni_intel, or the AES of this CPU."
	case CodeNoXFRM:
		return "Load the kernel module: modprobe xfrm_user."
	case CodeNoSpace:
		return "Free memory, or have fewer SAs on this NIC."
	case CodeRefused:
		return "The kernel or the driver refuses it, see its words; it will not do without a change."
	}
	return ""
}
