// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package devlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// inNamespace moves the test to a network namespace of its own. The thread is
// never unlocked, so it ends with the test and the namespace goes with it.
func inNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
}

// sh runs commands, one a line, and fails the test with the first that fails.
func sh(t testing.TB, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
}

// addPF makes a simulated PF with the address 10.0.0.1 and two representors,
// and returns the handle of its devlink instance.
func addPF(t testing.TB) string {
	t.Helper()
	sh(t, `ip link set lo up
		ip link add wire0 type veth peer name wire1
		ip link set wire0 up
		ip link set wire1 up
		ip link add link wire0 name pf0 type simpf
		ip address add 10.0.0.1/24 dev pf0
		ip link set pf0 up
		ip link add link pf0 name rep0 type simrep
		ip link add link pf0 name rep1 type simrep`)
	return facts(t).PFs[0].Handle
}

func facts(t testing.TB) Facts {
	t.Helper()
	f, err := NewReader().Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func linkOf(t testing.TB, name string) Link {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return Link{i.Index, name}
}

func TestLabFacts(t *testing.T) {
	inNamespace(t)
	handle := addPF(t)
	want := PF{
		Link: linkOf(t, "pf0"), Handle: handle, Driver: "simnic", Up: true, ESPOffload: true, TCOffload: true,
		EswitchMode: "switchdev", EncapMode: "basic", Steering: "dmfs", Representors: []Link{linkOf(t, "rep0"), linkOf(t, "rep1")},
	}
	steps := []struct {
		name, do string
		change   func(*PF)
	}{
		{"as made", "", func(*PF) {}},
		{"features", "ethtool -K pf0 hw-tc-offload off", func(p *PF) { p.TCOffload = false }},
		{"encap mode", "devlink dev eswitch set " + handle + " encap-mode none", func(p *PF) { p.EncapMode = "none" }},
		{"legacy", "devlink dev eswitch set " + handle + " mode legacy", func(p *PF) { p.EswitchMode = "legacy" }},
		{"steering", "devlink dev param set " + handle + " name flow_steering_mode value smfs cmode runtime", func(p *PF) { p.Steering = "smfs" }},
		{"switchdev", "devlink dev eswitch set " + handle + " mode switchdev", func(p *PF) { p.EswitchMode = "switchdev" }},
		{"down", "ip link set pf0 down", func(p *PF) { p.Up = false }},
		{"enslaved", "ip link add br0 type bridge\nip link set pf0 master br0", func(p *PF) { p.Master = "br0" }},
		{"VF with IPsec", "devlink port function set " + handle + "/1 ipsec_packet enable", func(p *PF) { p.VFIPsec = []string{handle + "/1"} }},
		{"two VFs with IPsec", "devlink port function set " + handle + "/0 ipsec_crypto enable", func(p *PF) { p.VFIPsec = []string{handle + "/0", handle + "/1"} }},
		{"renamed", "ip link set pf0 name uplink", func(p *PF) { p.Name = "uplink" }},
		{"representor gone", "ip link del rep1", func(p *PF) { p.Representors, p.VFIPsec = p.Representors[:1], p.VFIPsec[:1] }},
	}
	for _, s := range steps {
		sh(t, s.do)
		s.change(&want)
		if diff := cmp.Diff([]PF{want}, facts(t).PFs); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}

func TestLabPFOf(t *testing.T) {
	inNamespace(t)
	handle := addPF(t)
	sh(t, `ip link add bond0 type bond
		ip address add 10.1.0.1/24 dev bond0
		ip link add br0 type bridge
		ip address add 10.2.0.1/24 dev br0
		ip link add link pf0 name pf0.7 type vlan id 7
		ip address add 10.3.0.1/24 dev pf0.7
		ip address add 10.4.0.1/32 dev lo
		ip address add 10.5.0.1/24 dev pf0
		ip address add 10.5.0.1/32 dev lo
		ip address add fd00::1/64 dev pf0 nodad`)
	f := facts(t)
	for local, code := range map[string]string{
		"10.0.0.1": "", "fd00::1": "", "10.1.0.1": "NIC_ADDR_BOND", "10.2.0.1": "NIC_ADDR_BRIDGE", "10.3.0.1": "NIC_ADDR_VLAN",
		"10.4.0.1": "NIC_ADDR_DEV", "10.5.0.1": "NIC_ADDR_SHARED", "10.9.0.1": "NIC_ADDR_ABSENT",
	} {
		pf, refusal := PFOf(f, netip.MustParseAddr(local), "")
		switch {
		case code == "" && (refusal != nil || pf.Name != "pf0"):
			t.Errorf("%s: %+v, %+v", local, pf, refusal)
		case code != "" && (refusal == nil || refusal.Code != code):
			t.Errorf("%s: %+v, want %s", local, refusal, code)
		}
	}
	if diff := cmp.Diff(sorted(t, "pf0", "rep0", "rep1", "pf0.7"), f.RuleDevs(f.PFs[0])); diff != "" {
		t.Errorf("devices with rules (-want +got):\n%s", diff)
	}
	// The remedy that a refusal names must be one that works.
	sh(t, "devlink dev eswitch set "+handle+" mode legacy")
	_, refusal := PFOf(facts(t), netip.MustParseAddr("10.0.0.1"), "")
	if refusal == nil || refusal.Code != "NIC_ESWITCH_LEGACY" {
		t.Fatalf("got %+v, want NIC_ESWITCH_LEGACY", refusal)
	}
	sh(t, strings.Split(refusal.Text, "`")[1])
	if _, refusal := PFOf(facts(t), netip.MustParseAddr("10.0.0.1"), ""); refusal != nil {
		t.Errorf("after its remedy: %+v", *refusal)
	}
}

func sorted(t *testing.T, names ...string) []int {
	var is []int
	for _, n := range names {
		is = append(is, linkOf(t, n).Ifindex)
	}
	slices.Sort(is)
	return is
}

func TestLabTunnelDevs(t *testing.T) {
	inNamespace(t)
	addPF(t)
	sh(t, `ip link add vxlan_sys_4789 type vxlan external dstport 4789
		ip link add genev_sys_6081 type geneve external dstport 6081
		ip link add vx7 type vxlan id 7 dstport 8472 remote 10.0.0.2
		ip link add gt0 type gretap remote 10.0.0.2`)
	f := facts(t)
	if diff := cmp.Diff([]int{linkOf(t, "vxlan_sys_4789").Ifindex, linkOf(t, "genev_sys_6081").Ifindex}, f.TunnelDevs); diff != "" {
		t.Errorf("tunnels of Open vSwitch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]VXLANLink{{linkOf(t, "vx7"), 8472}}, f.ForeignVXLAN); diff != "" {
		t.Errorf("foreign VXLAN (-want +got):\n%s", diff)
	}
	// The kernel makes gretap0 with the first GRE device.
	want := sorted(t, "pf0", "rep0", "rep1", "vxlan_sys_4789", "genev_sys_6081", "vx7", "gretap0", "gt0")
	if diff := cmp.Diff(want, f.RuleDevs(f.PFs[0])); diff != "" {
		t.Errorf("devices with rules (-want +got):\n%s", diff)
	}
}

// The datapath of Open vSwitch, by its own tool, without its daemons.
func TestLabOVS(t *testing.T) {
	inNamespace(t)
	addPF(t)
	sh(t, `ovs-dpctl add-dp ovs-system
		ovs-dpctl add-if ovs-system rep0
		ovs-dpctl add-if ovs-system br-ex,type=internal
		ip link add vx9 type vxlan external dstport 4789
		ovs-dpctl add-if ovs-system vx9
		ip address add 10.6.0.1/24 dev br-ex`)
	f := facts(t)
	if _, refusal := PFOf(f, netip.MustParseAddr("10.6.0.1"), ""); refusal == nil || refusal.Code != "NIC_ADDR_OVS" {
		t.Errorf("address on an internal port: %+v, want NIC_ADDR_OVS", refusal)
	}
	if _, refusal := PFOf(f, netip.MustParseAddr("10.0.0.1"), ""); refusal != nil {
		t.Errorf("a representor is a port: %+v", *refusal)
	}
	if diff := cmp.Diff([]int{linkOf(t, "vx9").Ifindex}, f.TunnelDevs); diff != "" {
		t.Errorf("tunnels (-want +got):\n%s", diff)
	}
	if !slices.Contains(f.IndirectDevs, linkOf(t, "br-ex").Ifindex) {
		t.Errorf("br-ex is not among the indirect devices %v", f.IndirectDevs)
	}
	sh(t, "ovs-dpctl add-if ovs-system pf0")
	if _, refusal := PFOf(facts(t), netip.MustParseAddr("10.0.0.1"), ""); refusal == nil || refusal.Code != "NIC_PF_OVS" {
		t.Errorf("the PF is a port: %+v, want NIC_PF_OVS", refusal)
	}
}

func TestLabTwoPFs(t *testing.T) {
	inNamespace(t)
	addPF(t)
	sh(t, `ip link add link wire1 name pf1 type simpf
		ip address add 10.0.0.2/24 dev pf1
		ip link add link pf1 name rep9 type simrep`)
	f := facts(t)
	if len(f.PFs) != 2 || f.PFs[0].Handle == f.PFs[1].Handle {
		t.Fatalf("got %+v, want two PFs", f.PFs)
	}
	if diff := cmp.Diff([]Link{linkOf(t, "rep9")}, f.PFs[1].Representors); diff != "" {
		t.Errorf("representors of pf1 (-want +got):\n%s", diff)
	}
	if pf, refusal := PFOf(f, netip.MustParseAddr("10.0.0.1"), "pf1"); refusal == nil || refusal.Code != "NIC_DEV_ADDR" {
		t.Errorf("%+v, %+v, want NIC_DEV_ADDR", pf, refusal)
	}
}

// unprivilegedEnv makes the test binary read facts as nobody.
const unprivilegedEnv = "DEVLINK_TEST_UNPRIVILEGED"

func TestLabUnprivileged(t *testing.T) {
	if os.Getenv(unprivilegedEnv) != "" {
		f, err := NewReader().Facts(t.Context())
		_, refusal := PFOf(f, netip.MustParseAddr("10.0.0.1"), "")
		fmt.Printf("EPERM %v, refusal %s, error %v\n", errors.Is(err, unix.EPERM), refusal.Code, err)
		return
	}
	inNamespace(t)
	addPF(t)
	// Through /proc, since the binary may lie where nobody must not look.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run", "^TestLabUnprivileged$", "-test.count=1")
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{self}
	cmd.Env = append(os.Environ(), unprivilegedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "EPERM true, refusal NIC_ESWITCH_UNKNOWN, error read NIC facts: read eswitch mode of platform/simnic.") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func TestLabRoute(t *testing.T) {
	inNamespace(t)
	addPF(t)
	sh(t, `ip address add fd00::1/64 dev pf0 nodad
		ip address add 10.0.0.77/24 dev pf0
		ip route add 198.51.100.0/24 via 10.0.0.9
		ip route add 203.0.113.0/24 via 10.0.0.9 src 10.0.0.77
		ip route add unreachable 192.0.2.0/24`)
	pf0, r := linkOf(t, "pf0"), NewReader()
	for remote, want := range map[string]string{"10.0.0.2": "10.0.0.1", "198.51.100.1": "10.0.0.1", "203.0.113.1": "10.0.0.77", "fd00::2": "fd00::1"} {
		got, err := r.Route(t.Context(), netip.MustParseAddr(remote))
		if err != nil || got != (Route{netip.MustParseAddr(want), pf0}) {
			t.Errorf("route to %s: %+v, %v, want %s by %+v", remote, got, err, want, pf0)
		}
	}
	for remote, want := range map[string]error{"192.0.2.1": unix.EHOSTUNREACH, "8.8.8.8": unix.ENETUNREACH, "10.0.0.1": nil} {
		got, err := r.Source(t.Context(), netip.MustParseAddr(remote))
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("source for %s: %v, %v, want %v", remote, got, err, want)
		}
	}
}

func TestLabCounters(t *testing.T) {
	inNamespace(t)
	addPF(t)
	got, err := NewReader().Counters(t.Context(), "pf0")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range CounterNames()[:8] {
		if v, found := got[name]; !found || v != 0 {
			t.Errorf("%s: %d, %v, want 0", name, v, found)
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, "ipsec_") {
			t.Errorf("%s was not asked for", name)
		}
	}
}

// The counter of Linux 6.15 tells that policies are asked after decryption.
func TestLabRXPolicyAfterDecrypt(t *testing.T) {
	const param = "/sys/module/simnic/parameters/rx_policy_after_decrypt"
	inNamespace(t)
	addPF(t)
	if f := facts(t); f.PFs[0].RXPolicyAfterDecrypt {
		t.Errorf("on %s: %+v", f.Kernel, f.PFs[0])
	}
	if err := os.WriteFile(param, []byte("Y"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(param, []byte("N"), 0); err != nil {
			t.Error(err)
		}
	}()
	sh(t, "ip link add link wire1 name pf1 type simpf")
	if f := facts(t); f.PFs[0].RXPolicyAfterDecrypt || !f.PFs[1].RXPolicyAfterDecrypt {
		t.Errorf("got %+v", f.PFs)
	}
}

// watch runs a monitor and returns its events; the test waits for one with the
// returned function.
func watch(t *testing.T) (await func(what string, is func(Event) bool), m *Monitor) {
	t.Helper()
	m, err := NewMonitor()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan Event, 1000), make(chan error)
	go func() { done <- m.Run(ctx, func(e Event) { events <- e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(what string, is func(Event) bool) {
		t.Helper()
		limit := time.NewTimer(20 * time.Second)
		defer limit.Stop()
		for {
			select {
			case e := <-events:
				if is(e) {
					return
				}
			case <-limit.C:
				t.Fatalf("no event: %s", what)
			}
		}
	}, m
}

func TestLabMonitor(t *testing.T) {
	inNamespace(t)
	handle := addPF(t)
	pf0, rep0 := linkOf(t, "pf0"), linkOf(t, "rep0")
	await, _ := watch(t)
	steps := []struct {
		do   string
		want Event
	}{
		{"ip link set pf0 down", Event{Kind: LinkChanged, Link: pf0}},
		{"ip link set pf0 up", Event{Kind: LinkChanged, Link: pf0, Up: true}},
		{"ethtool -K pf0 hw-tc-offload off", Event{Kind: LinkChanged, Link: pf0, Up: true}},
		{"ip address add 10.0.7.1/24 dev pf0", Event{Kind: AddrChanged, Link: Link{Ifindex: pf0.Ifindex}}},
		{"ip address del 10.0.7.1/24 dev pf0", Event{Kind: AddrChanged, Link: Link{Ifindex: pf0.Ifindex}}},
		{"ip address add fd00::7/64 dev pf0", Event{Kind: AddrChanged, Link: Link{Ifindex: pf0.Ifindex}}},
		// The kernel is silent about the mode, and devlink(8) sets only what differs.
		{"devlink dev eswitch set " + handle + " mode legacy\ndevlink dev param set " + handle + " name flow_steering_mode value smfs cmode runtime", Event{Kind: DevlinkChanged}},
		{"ip link set rep0 up", Event{Kind: LinkChanged, Link: rep0, Up: true}},
		{"ip link del rep0", Event{Kind: LinkChanged, Link: rep0, Gone: true}},
	}
	for _, s := range steps {
		sh(t, s.do)
		await(s.do, func(e Event) bool { return e == s.want })
	}
}

// A bridge's word that a port left it is not the end of the port.
func TestLabMonitorBridgePort(t *testing.T) {
	inNamespace(t)
	addPF(t)
	sh(t, `ip link add br0 type bridge
		ip link set rep0 master br0`)
	rep0 := linkOf(t, "rep0")
	await, _ := watch(t)
	sh(t, `ip link set rep0 nomaster
		ip link set rep1 up`)
	var gone bool
	await("rep1 up", func(e Event) bool {
		gone = gone || e.Gone && e.Link == rep0
		return e.Link.Name == "rep1" && e.Up
	})
	if gone {
		t.Error("rep0 was said to be gone when it left its bridge")
	}
}

// Lost events must show, or the daemon would believe old facts.
func TestLabMonitorOverrun(t *testing.T) {
	inNamespace(t)
	addPF(t)
	m, err := NewMonitor()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.route.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		sh(t, "ip link set rep0 down\nip link set rep0 up")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var kinds []EventKind
	err = m.Run(ctx, func(e Event) {
		if kinds = append(kinds, e.Kind); e.Kind == Overrun {
			cancel()
		}
	})
	cancel()
	if err != nil || !slices.Contains(kinds, Overrun) {
		t.Errorf("events %v, %v, want an overrun", kinds, err)
	}
}

// BenchmarkLabFacts reads the facts of a host with one PF and 100 VFs.
func BenchmarkLabFacts(b *testing.B) {
	addPF(b)
	b.Cleanup(func() { sh(b, "ip link del wire0") })
	var lines strings.Builder
	for i := 2; i < 100; i++ {
		fmt.Fprintf(&lines, "link add link pf0 name rep%d type simrep\n", i)
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	r := NewReader()
	b.ReportAllocs()
	for b.Loop() {
		if f, err := r.Facts(b.Context()); err != nil || len(f.PFs[0].Representors) != 100 {
			b.Fatal(f.PFs, err)
		}
	}
}
