// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func defaults() Config {
	return Config{
		OVSDB: "unix:/run/openvswitch/db.sock", StateDir: "/var/lib/ovs-ipsec-offload",
		RunDir: "/run/ovs-ipsec-offload", KeysDir: "/etc/ovs-ipsec-offload/keys.d",
		LogLevel: slog.LevelInfo, LogFormat: LogText, Gate: GateAuto, Guard: GuardAuto, GuardPorts: []uint16{4789},
		Retrofit: RetrofitAsk, StrictSA: StrictDrain, Unguarded: UnguardedRefuse, IKE: IKEAuto, IKESocket: "/run/charon.vici", IKERekey: time.Hour, RetireAfter: 10 * time.Second, AuditEvery: 30 * time.Second, OnLeak: LeakReport, Report: true,
	}
}

// file writes a configuration file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name string
		file string
		env  []string
		args []string
		want func(*Config)
	}{
		{"nothing set", "", nil, nil, func(*Config) {}},
		{"empty flags and foreign environment", "", []string{"PATH=/bin", "OVS_IPSEC_LAB_CACHE=/x", "OVS_IPSEC_OFFLOAD_GATE=", "OVS_IPSEC_OFFLOAD_CONFIG="}, []string{}, func(*Config) {}},
		{"OVS's run directory", "", []string{"OVS_RUNDIR=/var/run/ovs"}, nil, func(c *Config) { c.OVSDB = "unix:/var/run/ovs/db.sock" }},
		{"every setting in the file", `
ovsdb: tcp:127.0.0.1:6640
state_dir: /a
run_dir: /b
keys_dir: /c
log_level: debug
log_format: json
gate: "off"
guard: tunnels
guard_ports: [6081, 4789, 4789]
retrofit: auto
strict_sa: wait
unguarded: allow
retire_after: 1m30s
audit_every: 5s
on_leak: block
ike: none
ike_socket: /run/other.vici
ike_rekey: 2h
report: false
monitor_socket: true
`, nil, nil, func(c *Config) {
			*c = Config{
				OVSDB: "tcp:127.0.0.1:6640", StateDir: "/a", RunDir: "/b", KeysDir: "/c",
				LogLevel: slog.LevelDebug, LogFormat: LogJSON, Gate: GateOff, Guard: GuardTunnels, GuardPorts: []uint16{4789, 6081},
				Retrofit: RetrofitAuto, StrictSA: StrictWait, Unguarded: UnguardedAllow, IKE: IKENone, IKESocket: "/run/other.vici", IKERekey: 2 * time.Hour, RetireAfter: 90 * time.Second, AuditEvery: 5 * time.Second, OnLeak: LeakBlock, MonitorSocket: true,
			}
		}},
		{"environment over file", "guard: tunnels\ngate: auto", []string{
			"OVS_IPSEC_OFFLOAD_GUARD=auto", "OVS_IPSEC_OFFLOAD_GUARD_PORTS=1, 2", "OVS_IPSEC_OFFLOAD_REPORT=false", "OVS_IPSEC_OFFLOAD_RETIRE_AFTER=1s",
		}, nil, func(c *Config) { c.GuardPorts, c.Report, c.RetireAfter = []uint16{1, 2}, false, time.Second }},
		{"flags over environment", "state_dir: /file", []string{"OVS_IPSEC_OFFLOAD_STATE_DIR=/env"}, []string{"--state-dir=/flag"},
			func(c *Config) { c.StateDir = "/flag" }},
		{"empty list", "guard_ports: []", nil, nil, func(c *Config) { c.GuardPorts = nil }},
		{"names in any case", "GUARD: tunnels", nil, nil, func(c *Config) { c.Guard = GuardTunnels }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults()
			tt.want(&want)
			src := Source{File: file(t, tt.file), Environ: tt.env}
			if tt.args != nil {
				src.Flags = flags(t, tt.args...)
			}
			got, err := Load(src)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadRefusals(t *testing.T) {
	const end = "." // of the text, where it matters
	tests := []struct {
		name string
		file string
		env  []string
		want string
	}{
		{"unknown name", "guardd: auto", nil, `unknown setting "guardd"; did you mean "guard"?`},
		{"unknown name without a value", "guardd:", nil, `"guardd"`},
		{"name below a name", "guard: {ports: [1]}", nil, `"guard::ports"`},
		{"unknown variable", "", []string{"OVS_IPSEC_OFFLOAD_STATEDIR=/x"}, `did you mean "state_dir"?`},
		{"far from every name", "", []string{"OVS_IPSEC_OFFLOAD_FOO=x"}, `unknown environment variable OVS_IPSEC_OFFLOAD_* "foo"` + end},
		{"unknown name of an empty map", "guardd: {}", nil, `unknown setting "guardd"; did you mean "guard"?`},
		{"empty map", "guard: {}", nil, "guard must not be a mapping"},
		{"not YAML", "guard: [", nil, "config.yaml"},
		{"a name twice", "guard: auto\nguard: tunnels", nil, "already"},
		{"a list for a text", "guard: [auto]", nil, "guard"},
		{"a number for a duration", "retire_after: 10", nil, "10 needs a unit, as 10s"},
		{"a word for a duration", "retire_after: soon", nil, "soon"},
		{"a word for a switch", "report: perhaps", nil, "perhaps"},
		{"a number for a switch", "report: 1", nil, "report"},
		{"a number for a list", "guard_ports: 4789", nil, "guard_ports"},
		{"half a port", "guard_ports: [4789.5]", nil, "guard_ports"},
		{"port too large", "guard_ports: [70000]", nil, "not 70000"},
		{"port as a word", "", []string{"OVS_IPSEC_OFFLOAD_GUARD_PORTS=vxlan"}, `"vxlan" is not a number`},
		{"bad choice", "guard: sometimes", nil, `guard must be auto or tunnels, not "sometimes"`},
		{"bad unguarded", "unguarded: yes", nil, "unguarded"},
		{"bad gate", "gate: open", nil, `gate must be auto or off, not "open"`},
		{"bad format", "log_format: xml", nil, "log_format must be text or json"},
		{"bad level", "log_level: loud", nil, "log_level must be debug, info, warn or error"},
		{"bad endpoint", "ovsdb: /run/db.sock", nil, "ovsdb must be unix:PATH or tcp:HOST:PORT"},
		{"endpoint without address", "ovsdb: 'unix:'", nil, "ovsdb must be"},
		{"relative path", "run_dir: run", nil, `run_dir must be an absolute path, not "run"`},
		{"ike", "ike: racoon", nil, "ike must be auto or strongswan or libreswan or none"},
		{"ike_rekey", "ike_rekey: 1s", nil, "ike_rekey must be between 10s and 24h0m0s"},
		{"on_leak", "on_leak: panic", nil, "on_leak must be report or block"},
		{"too often", "audit_every: 1ms", nil, "audit_every must be between 1s and 1h"},
		{"negative", "retire_after: -1s", nil, "retire_after must be between"},
		{"two at once", "gate: x\nguard: y", nil, `gate must be auto or off, not "x"; guard must be auto or tunnels, not "y"`},
		{"two types at once", "gate: []\nreport: 1", nil, "; "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Load(Source{File: file(t, tt.file), Environ: tt.env})
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if !strings.Contains(err.Error()+end, tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q lacks %q", err, tt.want)
			}
		})
	}
}

func TestLoadChoosesFile(t *testing.T) {
	a, b, c := file(t, "state_dir: /a"), file(t, "state_dir: /b"), file(t, "state_dir: /c")
	env := []string{EnvPrefix + "CONFIG=" + c}
	for _, tt := range []struct {
		src  Source
		want string
	}{
		{Source{File: a, Flags: flags(t, "--config", b), Environ: env}, "/b"},
		{Source{File: a, Environ: env}, "/a"},
		{Source{Environ: env}, "/c"},
	} {
		got, err := Load(tt.src)
		if err != nil || got.StateDir != tt.want {
			t.Errorf("state_dir %q, err %v, want %q", got.StateDir, err, tt.want)
		}
	}
	if _, err := Load(Source{Flags: flags(t, "--config", "/nonexistent")}); err == nil {
		t.Error("a file that was asked for and is missing is no error")
	}
}

func TestNeedsRestart(t *testing.T) {
	now, next := defaults(), defaults()
	next.Guard, next.Gate, next.LogLevel, next.GuardPorts = GuardTunnels, GateOff, slog.LevelDebug, nil
	if names := now.NeedsRestart(next); names != nil {
		t.Errorf("needs restart for %q", names)
	}
	next.StateDir, next.Report = "/x", false
	if diff := cmp.Diff([]string{"state_dir", "report"}, now.NeedsRestart(next)); diff != "" {
		t.Error(diff)
	}
}

// The manual must name every setting with its default.
func TestManualListsEverySetting(t *testing.T) {
	manual, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings(nil) {
		if row := "| `" + s.name + "` | `" + s.def + "` |"; !strings.Contains(string(manual), row) {
			t.Errorf("docs/configuration.md lacks the row %q", row)
		}
	}
}
