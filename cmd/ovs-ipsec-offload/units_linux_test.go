// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The order that the distributions give their units, by the names of both.
var neighbours = map[string]string{
	// Debian: before the network is brought up.
	"debian/ovsdb-server.service": `[Unit]
After=network-pre.target local-fs.target
Before=network.target networking.service
DefaultDependencies=no
[Service]
ExecStart=/bin/true
`,
	"debian/ovs-vswitchd.service": `[Unit]
After=ovsdb-server.service network-pre.target systemd-udev-settle.service
Before=network.target networking.service
Requires=ovsdb-server.service
DefaultDependencies=no
[Service]
ExecStart=/bin/true
`,
	"debian/openvswitch-switch.service": `[Unit]
After=network-pre.target ovsdb-server.service ovs-vswitchd.service
Before=network.target
Requires=ovsdb-server.service ovs-vswitchd.service
[Service]
Type=oneshot
ExecStart=/bin/true
`,
	"debian/networking.service": `[Unit]
After=local-fs.target network-pre.target
Before=network.target
DefaultDependencies=no
[Service]
ExecStart=/bin/true
`,
	// cloud-init's network stage.
	"debian/cloud-init.service": `[Unit]
After=networking.service
Before=sysinit.target
DefaultDependencies=no
[Service]
ExecStart=/bin/true
[Install]
WantedBy=sysinit.target
`,
	"debian/strongswan.service": `[Unit]
After=network-online.target
Wants=network-online.target
[Service]
Type=notify
ExecStart=/bin/true
Restart=on-abnormal
`,
	"rhel/strongswan.service": `[Unit]
After=network-online.target
Wants=network-online.target
[Service]
Type=notify
ExecStart=/bin/true
Restart=on-abnormal
`,
	"rhel/ovsdb-server.service": `[Unit]
After=syslog.target network-pre.target
Before=network.target network.service
Wants=ovs-delete-transient-ports.service
[Service]
ExecStart=/bin/true
`,
	"rhel/ovs-delete-transient-ports.service": `[Unit]
After=ovsdb-server.service
Before=ovs-vswitchd.service
[Service]
Type=oneshot
ExecStart=/bin/true
`,
	"rhel/ovs-vswitchd.service": `[Unit]
After=ovsdb-server.service network-pre.target systemd-udev-settle.service
Before=network.target network.service
Requires=ovsdb-server.service
[Service]
ExecStart=/bin/true
`,
	"rhel/openvswitch.service": `[Unit]
After=network-pre.target
Before=network.target network.service
BindsTo=ovsdb-server.service ovs-vswitchd.service
[Service]
Type=oneshot
ExecStart=/bin/true
`,
}

const unitDir = "../../examples/systemd"

// TestUnits lets systemd judge the units beside those of Open vSwitch: what it
// does not understand, and cycles, which it would break by leaving one out.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for _, distribution := range []string{"debian", "rhel"} {
		t.Run(distribution, func(t *testing.T) {
			dir := installUnits(t, distribution)
			cmd := exec.Command(analyze, "verify", "--man=no", "ovs-ipsec-offload.service", "ovs-ipsec-offload-guard.service", "ovs-vswitchd.service", "strongswan.service", "multi-user.target")
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("systemd-analyze verify: %v", err)
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "ovs") || strings.Contains(line, "strongswan") || strings.Contains(line, "cycle") {
					t.Error(strings.TrimSpace(line))
				}
			}
		})
	}
}

// installUnits makes a directory with ours and the neighbours, as "systemctl
// enable" would, with programs that exist.
func installUnits(t *testing.T, distribution string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	enable := func(target, name string) {
		wants := filepath.Join(dir, target+".wants")
		if err := errors.Join(os.MkdirAll(wants, 0o755), os.Symlink("../"+name, filepath.Join(wants, name))); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range neighbours {
		if of, unit, _ := strings.Cut(name, "/"); of == distribution {
			write(unit, text)
			if strings.Contains(text, "WantedBy=sysinit.target") {
				enable("sysinit.target", unit)
			} else {
				enable("multi-user.target", unit)
			}
		}
	}
	programs := strings.NewReplacer("/usr/local/sbin/ovs-ipsec-offload-gate", "/bin/true", "/usr/local/sbin/ovs-ipsec-offload", "/bin/true")
	for _, name := range []string{"ovs-ipsec-offload.service", "ovs-ipsec-offload-guard.service", "ovs-vswitchd.service.d/ipsec-offload.conf", "strongswan.service.d/ipsec-offload.conf"} {
		text, err := os.ReadFile(filepath.Join(unitDir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, programs.Replace(string(text)))
		if strings.HasSuffix(name, ".service") {
			enable("multi-user.target", name)
		}
	}
	return dir
}

// TestUnitsWait holds the order that the guarantee rests on, where systemd is not
// there to judge it.
func TestUnitsWait(t *testing.T) {
	for name, wants := range map[string][]string{
		"ovs-ipsec-offload-guard.service": {"DefaultDependencies=no", "ovsdb-server.service", "\nBefore=ovs-vswitchd.service ", "\nTimeoutStartSec=20\n", "guard --timeout=10s"},
		"ovs-ipsec-offload.service":       {"DefaultDependencies=no", "ovsdb-server.service", "\nBefore=ovs-vswitchd.service ", "\nTimeoutStartSec=30\n", "\nType=notify\n"},
		"ovs-vswitchd.service.d/ipsec-offload.conf": {"\nAfter=ovs-ipsec-offload-guard.service ovs-ipsec-offload.service\n",
			"\nExecStartPre=/usr/local/sbin/ovs-ipsec-offload-gate\n"},
		"strongswan.service.d/ipsec-offload.conf": {"\nAfter=ovs-ipsec-offload-guard.service\n", "\nLimitCORE=0\n"},
	} {
		text, err := os.ReadFile(filepath.Join(unitDir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
}
