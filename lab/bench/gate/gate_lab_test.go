// SPDX-License-Identifier: Apache-2.0

//go:build lab

package gate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// program is where the test binary lies for all the lab's hosts: they share /tmp.
const program = "/tmp/gate.test"

// firstPort is the UDP port of the first of the flows.
const firstPort = 20000

// TestMain plays one of the parts: this program is the sender in VM 1, the
// answerer in VM 2, and the one who works the gate in hypervisor 1.
func TestMain(m *testing.M) {
	n, _ := strconv.Atoi(os.Getenv("GATE_FLOWS"))
	var err error
	switch role := os.Getenv("GATE_ROLE"); role {
	case "":
		os.Exit(m.Run())
	case "answer":
		err = answer(n)
	case "send":
		err = send(n, os.Stdout)
	case "work":
		err = work(context.Background(), n)
	default:
		err = fmt.Errorf("there is no part %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// part prepares this program in another part, on one of the lab's hosts.
func part(role string, flows int, host ...string) *exec.Cmd {
	cmd := exec.Command(host[0], append(host[1:], program)...)
	cmd.Env = append(os.Environ(), "GATE_ROLE="+role, fmt.Sprintf("GATE_FLOWS=%d", flows))
	cmd.Stderr = os.Stderr
	return cmd
}

func sh(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestGate(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, self, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, local := range []string{"10.0.0.1", "10.0.0.2"} {
		hv, remote := strconv.Itoa(i+1), []string{"10.0.0.2", "10.0.0.1"}[i]
		sh(t, "", "lab-hv", hv, "ovs-vsctl", "set", "Open_vSwitch", ".", "other_config:hw-offload=true",
			"--", "add-port", "br-int", "vx0", "--", "set", "interface", "vx0", "type=vxlan", "options:key=100", "options:local_ip="+local, "options:remote_ip="+remote)
	}
	for _, n := range []int{5, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { measure(t, n) })
	}
}

// measure has n flows in each direction go through the gate.
func measure(t *testing.T, n int) {
	sh(t, flows(n, "tp_dst", "tp_src"), "lab-hv", "1", "ovs-ofctl", "replace-flows", "br-int", "-")
	sh(t, flows(n, "tp_src", "tp_dst"), "lab-hv", "2", "ovs-ofctl", "replace-flows", "br-int", "-")
	answerer := part("answer", n, "lab-vm", "2")
	if err := answerer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answerer.Process.Kill(); _ = answerer.Wait() }()
	worker := part("work", n, "lab-hv", "1")
	turns, err := worker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"hold", "hold", "hold", "hold", "hold", "evict", "evict", "evict", "evict", "evict", "unfenced", "unfenced", "both", "both", "both"} {
		turn(t, n, way, turns, out)
	}
	if err := turns.Close(); err != nil {
		t.Error(err)
	}
	if err := worker.Wait(); err != nil {
		t.Error(err)
	}
}

// turn goes through the gate once, with traffic from before to after.
func turn(t *testing.T, n int, way string, turns io.Writer, out io.Reader) {
	sender := part("send", n, "lab-vm", "1")
	var sent bytes.Buffer
	sender.Stdout = &sent
	if err := sender.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(turns, way)
	figures := make([]byte, 4096)
	k, err := out.Read(figures)
	if err != nil {
		t.Fatalf("the one who works the gate: %v", err)
	}
	if err := sender.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := sender.Wait(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%d flows, %-8s %s; %s\n", 2*n, way, strings.TrimSpace(string(figures[:k])), strings.TrimSpace(sent.String()))
}

// flows is an OpenFlow table that tells n UDP ports apart, so that each becomes
// a flow of its own in the datapath. there and back name the field that holds
// the number on the way out of the VM and into it.
func flows(n int, there, back string) string {
	var b strings.Builder
	fmt.Fprintln(&b, "in_port=rep0,arp,actions=output:vx0\nin_port=vx0,arp,actions=output:rep0")
	for p := firstPort; p < firstPort+n; p++ {
		fmt.Fprintf(&b, "in_port=rep0,udp,%s=%d,actions=output:vx0\nin_port=vx0,udp,%s=%d,actions=output:rep0\n", there, p, back, p)
	}
	return b.String()
}
