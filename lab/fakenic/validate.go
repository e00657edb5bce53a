// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"math"

	"ovs-ipsec-offload/xfrm"
)

// The driver's words (mlx5: mlx5e_xfrm_validate_state,
// mlx5e_xfrm_validate_policy), in the order in which it looks.
const (
	driver     = "mlx5_core: "
	noState    = driver + "Device failed to offload this state"
	noPolicy   = driver + "Device failed to offload this policy"
	tunnelOff  = driver + "Packet offload tunnel mode is disabled due to encap settings"
	noPacket   = driver + "Packet offload is not supported"
	badProto   = driver + "Device does not support upper protocol other than TCP/UDP"
	badOffload = driver + "Unsupported xfrm offload type"
)

// packetCap is mlx5_ipsec_device_caps: dmfs, or smfs in a legacy eswitch.
func (p *PF) packetCap() bool { return !p.smfs || !p.switchdev }

func upperOK(proto uint8) bool { return proto == 0 || proto == 6 || proto == protoUDP }

// stateFault returns why the NIC does not take a state, "" when it does.
func (p *PF) stateFault(s *State) string {
	for _, fault := range []func(*State) string{algoFault, aeadFault, p.modeFault} {
		if text := fault(s); text != "" {
			return driver + text
		}
	}
	return ""
}

func algoFault(s *State) string {
	switch {
	case s.Auth:
		return "Cannot offload authenticated xfrm states"
	case s.Cipher != "":
		return "Only AES-GCM-ICV16 xfrm state may be offloaded"
	case s.Proto != 0 && s.Proto != protoESP:
		return "Only ESP xfrm state may be offloaded"
	case s.Encap:
		return "Encapsulation is not supported"
	case s.ICVBits != 0 && s.ICVBits != 128:
		// The kernel has one algorithm number for each length.
		return "Only AES-GCM-ICV16 xfrm state may be offloaded"
	}
	return ""
}

func aeadFault(s *State) string {
	switch {
	case s.KeyBits != 0 && s.KeyBits != 160 && s.KeyBits != 288:
		return "Cannot offload xfrm states with AEAD key length other than 128/256 bit"
	}
	return ""
}

func (p *PF) modeFault(s *State) string {
	switch {
	case !upperOK(s.Upper.Proto):
		return badProto[len(driver):]
	case s.Odd.Mode != "":
		return "Only transport and tunnel xfrm states may be offloaded"
	case s.Crypto:
		return "Crypto offload is not supported"
	case !p.packetCap():
		return noPacket[len(driver):]
	case s.ESN && s.Dir == xfrm.In && !windowOK(s.Window):
		return "Unsupported replay window size"
	case s.Reqid == 0:
		return "Cannot offload without reqid"
	}
	return limitFault(s.Limits)
}

func windowOK(w uint32) bool { return w == 32 || w == 64 || w == 128 || w == 256 }

func limitFault(l *Limits) string {
	switch {
	case l == nil:
		return ""
	case l.SoftBytes >= l.HardBytes && l.HardBytes != NoLimit:
		return "Hard byte limit must be greater than soft one"
	case l.SoftBytes == 0 || l.HardBytes == 0:
		return "Soft/hard byte limits can't be 0"
	case l.SoftPackets >= l.HardPackets && l.HardPackets != NoLimit:
		return "Hard packet limit must be greater than soft one"
	case l.SoftPackets == 0 || l.HardPackets == 0:
		return "Soft/hard packet limits can't be 0"
	}
	return ""
}

// policyFault returns why the NIC does not take a policy, "" when it does.
func (p *PF) policyFault(r *Request) string {
	switch {
	case r.SubType:
		return driver + "Cannot offload non-main policy types"
	case r.templates() > 1:
		return driver + "Cannot offload more than one template"
	case r.Dir == xfrm.Fwd:
		return driver + "Cannot offload forward policy"
	case r.reqid() == 0 && r.Sel.Proto == 0 && r.Sel.Src.Addr().IsUnspecified() && r.Sel.Dst.Addr().IsUnspecified():
		return driver + "Unsupported policy with reqid 0 without at least one of upper protocol or ip addr(s) different than 0"
	case !r.Offload.Packet:
		return badOffload
	case !upperOK(r.Sel.Proto):
		return badProto
	case r.Priority != 0 && p.knobs.NoPriority:
		return driver + "Device does not support policy priority"
	case r.Priority == math.MaxUint32:
		return driver + "Device does not support requested policy priority"
	case !p.packetCap():
		return noPacket
	}
	return ""
}
