// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespaces of the setting: the hypervisor, its VM, and the far end of the
// wire.
const (
	nsHost = "rules-hv"
	nsVM   = "rules-vm"
	nsWire = "rules-wire"
)

const (
	debugDir = "/sys/kernel/debug/simnic"
	paramDir = "/sys/module/simnic/parameters"
)

// paramDefaults is what the module's parameters are when a script sets none.
var paramDefaults = map[string]string{
	"strict_sa": "0", "rx_policy_after_decrypt": "0", "no_policy_priority": "0",
	"max_rx_sa": "2047", "fail_einval": "0", "legacy": "0", "steering": "dmfs",
}

// Kernel is the simulated NIC in this machine's kernel, worked by ip, tc,
// devlink and ethtool. It wants root and the module simnic. It is not safe for
// concurrent use.
type Kernel struct {
	dir    string // debugfs directory of the NIC
	handle string // devlink handle
	ports  *ports
	states []StateAdd // inbound states that were added: their keys open ESP
}

// NewKernel makes the namespaces and the wire. Close takes them away.
func NewKernel(ctx context.Context) (*Kernel, error) {
	if _, err := os.Stat(paramDir); err != nil {
		return nil, fmt.Errorf("find module simnic: %w", err)
	}
	k := &Kernel{}
	if err := k.makeWire(ctx); err != nil {
		return nil, errors.Join(err, k.Close(ctx))
	}
	return k, nil
}

func (k *Kernel) makeWire(ctx context.Context) error {
	for _, ns := range []string{nsHost, nsVM, nsWire} {
		if _, err := tool(ctx, "ip", "netns", "add", ns); err != nil {
			return err
		}
		if _, err := tool(ctx, "ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0"); err != nil {
			return err
		}
	}
	return batch(ctx, "ip", nsHost,
		"link set lo up",
		"link add wire1 mtu 9000 type veth peer name far netns "+nsWire+" mtu 9000",
		"link set wire1 addrgenmode none up",
		"-n "+nsWire+" link set far addrgenmode none up")
}

// Close removes what NewKernel and Reset made.
func (k *Kernel) Close(ctx context.Context) error {
	errs := []error{k.ports.close(), setParams(nil)}
	for _, ns := range []string{nsHost, nsVM, nsWire} {
		if _, err := os.Stat(filepath.Join("/run/netns", ns)); err == nil {
			_, err := tool(ctx, "ip", "netns", "del", ns)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// setParams writes the module's parameters, those not given as they are by
// default.
func setParams(params []Param) error {
	values := maps.Clone(paramDefaults)
	for _, p := range params {
		if _, ok := values[p.Name]; !ok {
			return fmt.Errorf("set parameter %s: there is none of this name", p.Name)
		}
		values[p.Name] = p.Value
	}
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(paramDir, name), []byte(value), 0); err != nil {
			return fmt.Errorf("set parameter %s: %w", name, err)
		}
	}
	return nil
}

// Reset makes a new PF with two VFs and a tunnel device.
func (k *Kernel) Reset(ctx context.Context, params []Param) error {
	if err := k.clear(ctx); err != nil {
		return err
	}
	if err := setParams(params); err != nil {
		return err
	}
	if err := k.makeNIC(ctx); err != nil {
		return err
	}
	if err := k.find(ctx); err != nil {
		return err
	}
	var err error
	k.ports, err = openPorts()
	return err
}

func (k *Kernel) clear(ctx context.Context) error {
	if err := k.ports.close(); err != nil {
		return err
	}
	k.ports, k.states = nil, nil
	if k.dir != "" {
		if err := batch(ctx, "ip", nsHost, "link del pf0", "link del vxlan0"); err != nil {
			return err
		}
		k.dir = ""
	}
	return batch(ctx, "ip", nsHost, "xfrm policy flush", "xfrm state flush")
}

func (k *Kernel) makeNIC(ctx context.Context) error {
	const far = "02:00:00:00:00:02"
	err := batch(ctx, "ip", nsHost,
		"-n "+nsWire+" link set far address "+far,
		"link add link wire1 name pf0 type simpf",
		"link set pf0 addrgenmode none up",
		"addr add 10.0.0.1/24 dev pf0",
		"addr add fd00::1/64 dev pf0 nodad",
		"neigh add 10.0.0.2 lladdr "+far+" dev pf0 nud permanent",
		"neigh add fd00::2 lladdr "+far+" dev pf0 nud permanent",
		"link add link pf0 name rep0 type simrep",
		"link add link pf0 name rep1 type simrep",
		"link set rep0v netns "+nsVM+" name vf0",
		"link set rep1v netns "+nsVM+" name vf1",
		"link set rep0 addrgenmode none up",
		"link set rep1 addrgenmode none up",
		"link add vxlan0 type vxlan external dstport 4789 nolearning udp6zerocsumrx",
		"link set vxlan0 addrgenmode none up",
		"-n "+nsVM+" link set vf0 addrgenmode none up",
		"-n "+nsVM+" link set vf1 addrgenmode none up")
	if err != nil {
		return err
	}
	return batch(ctx, "tc", nsHost, "qdisc add dev pf0 clsact", "qdisc add dev rep0 clsact",
		"qdisc add dev rep1 clsact", "qdisc add dev vxlan0 clsact")
}

var busInfo = regexp.MustCompile(`(?m)^bus-info: (simnic\.\d+)$`)

func (k *Kernel) find(ctx context.Context) error {
	out, err := tool(ctx, "ip", "netns", "exec", nsHost, "ethtool", "-i", "pf0")
	if err != nil {
		return err
	}
	m := busInfo.FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("find pf0's NIC: ethtool says %q", out)
	}
	k.dir, k.handle = filepath.Join(debugDir, m[1]), "platform/"+m[1]
	return nil
}

// Apply runs the command by its tool.
func (k *Kernel) Apply(ctx context.Context, c Command) (Answer, error) {
	if knob, ok := c.(KnobSet); ok {
		return Answer{}, os.WriteFile(filepath.Join(k.dir, knob.Name), []byte(knob.Value), 0)
	}
	before, err := k.Status(ctx)
	if err != nil {
		return Answer{}, err
	}
	_, err = tool(ctx, k.commandLine(c)...)
	var failed *toolError
	if errors.As(err, &failed) {
		return k.refused(ctx, failed, len(before.Log))
	}
	if err != nil {
		return Answer{}, err
	}
	if s, ok := c.(StateAdd); ok && s.Offload != nil && s.Offload.Dir == "in" {
		k.states = append(k.states, s)
	}
	return k.accepted(ctx, c)
}

// commandLine gives the words for the shell's job without a shell.
func (k *Kernel) commandLine(c Command) []string {
	w := strings.Fields(c.String())
	switch w[0] {
	case "ip", "tc":
		return slices.Insert(w, 1, "-n", nsHost)
	case "devlink":
		for i := range w {
			if w[i] == "pf0" || strings.HasPrefix(w[i], "pf0/") {
				w[i] = k.handle + strings.TrimPrefix(w[i], "pf0")
			}
		}
		return slices.Insert(w, 1, "-N", nsHost)
	}
	return append([]string{"ip", "netns", "exec", nsHost}, w...)
}

var notInHW = regexp.MustCompile(`\bnot_in_hw\b`)

func (k *Kernel) accepted(ctx context.Context, c Command) (Answer, error) {
	f, ok := c.(FilterAdd)
	if !ok {
		return Answer{}, nil
	}
	out, err := tool(ctx, "tc", "-n", nsHost, "filter", "show", "dev", f.Dev, "ingress", "pref", fmt.Sprint(f.Pref))
	if err != nil {
		return Answer{}, err
	}
	return Answer{InHW: strings.Contains(out, "in_hw") && !notInHW.MatchString(out)}, nil
}

var refusal = regexp.MustCompile(`^refused .* (E[A-Z0-9]+)(:|$)`)

// refused takes the error's name from the NIC's log, since ip tells none where
// there is an ext-ack; and from the tool's words if the NIC was not asked.
func (k *Kernel) refused(ctx context.Context, failed *toolError, seen int) (Answer, error) {
	now, err := k.Status(ctx)
	if err != nil {
		return Answer{}, err
	}
	for _, event := range now.Log[min(seen, len(now.Log)):] {
		if m := refusal.FindStringSubmatch(event); m != nil {
			return Answer{Errno: m[1], Text: failed.text}, nil
		}
	}
	if name := errnoIn(failed.text); name != "" {
		return Answer{Errno: name, Text: failed.text}, nil
	}
	return Answer{}, failed
}

var answers = regexp.MustCompile(`(?m)answers?: (.*)$`)

// errnoIn finds the name of the error that a tool gives in words.
func errnoIn(text string) string {
	m := answers.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	words := strings.TrimSpace(m[1])
	if strings.EqualFold(words, unix.EOPNOTSUPP.Error()) {
		return "EOPNOTSUPP" // which has two names
	}
	for e := unix.Errno(1); e < 134; e++ {
		if strings.EqualFold(e.Error(), words) {
			return unix.ErrnoName(e)
		}
	}
	return ""
}

// Status reads the NIC's files.
func (k *Kernel) Status(context.Context) (Status, error) {
	state, err := os.ReadFile(filepath.Join(k.dir, "state"))
	if err != nil {
		return Status{}, err
	}
	log, err := os.ReadFile(filepath.Join(k.dir, "log"))
	if err != nil {
		return Status{}, err
	}
	return Status{Values: parseState(string(state)), Log: parseLog(string(log))}, nil
}

// Counters asks ethtool.
func (k *Kernel) Counters(ctx context.Context) ([]string, error) {
	out, err := tool(ctx, "ip", "netns", "exec", nsHost, "ethtool", "-S", "pf0")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && value != "" {
			names = append(names, name)
		}
	}
	return names, nil
}
