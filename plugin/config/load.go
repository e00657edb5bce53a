// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix starts the names of environment variables: OVS_IPSEC_OFFLOAD_OVSDB
// is the setting ovsdb. OVS_IPSEC_OFFLOAD_CONFIG names the file.
const EnvPrefix = "OVS_IPSEC_OFFLOAD_"

// Source is where settings come from.
type Source struct {
	File    string         // "" for the environment's choice or DefaultFile
	Environ []string       // as os.Environ gives it
	Flags   *pflag.FlagSet // with the flags of AddFlags; may be nil
}

// setting is a name, its default and what it is for.
type setting struct{ name, def, usage string }

// settings returns all settings; env gives the environment.
func settings(env map[string]string) []setting {
	runDir := env["OVS_RUNDIR"]
	if runDir == "" {
		runDir = "/run/openvswitch"
	}
	return []setting{
		{"ovsdb", "unix:" + runDir + "/db.sock", "endpoint of Open vSwitch's database"},
		{"state_dir", "/var/lib/ovs-ipsec-offload", "directory for what must outlive a reboot"},
		{"run_dir", "/run/ovs-ipsec-offload", "directory for the lock and the control socket"},
		{"keys_dir", "/etc/ovs-ipsec-offload/keys.d", "directory of the key sets"},
		{"log_level", "info", "debug, info, warn or error"},
		{"log_format", "text", "text or json"},
		{"gate", "auto", "auto: set other_config:hw-offload if it is unset; off: leave it alone"},
		{"guard", "auto", "auto: guard every address of a NIC that can offload, from the start; tunnels: only those of tunnels that ask for IPsec"},
		{"guard_ports", "4789", "UDP ports guarded from the start, with commas between them"},
		{"retrofit", "ask", "flows that are offloaded before the tables stand: never (leave them), ask (until 'ovs-ipsec-offload repair') or auto (take them out and put them back)"},
		{"strict_sa", "drain", "for SAs on a kernel that takes none beside offloaded flows: drain (take them out for a moment) or wait"},
		{"unguarded", "refuse", "tunnels on a NIC without policy priorities, in which no guard can stand; refuse: block them; allow: encrypt them all the same"},
		{"ike", "auto", "the IKE daemon for tunnels with psk or certificates: auto (the one of this host), strongswan, libreswan, or none (refuse them)"},
		{"ike_socket", "/run/charon.vici", "VICI socket of strongSwan's charon"},
		{"ike_rekey", "1h", "age at which keys of IKE are replaced"},
		{"retire_after", "10s", "how long an SA that no port wants any more is kept"},
		{"audit_every", "30s", "look at the host at least this often"},
		{"on_leak", "report", "report: tell when clear text leaks; block: block the pair too"},
		{"report", "true", "write state into external_ids of the database"},
		{"monitor_socket", "false", "answer 'ovs-appctl -t ovs-monitor-ipsec' in the place of that program"},
	}
}

// AddFlags adds --config and a flag for each of the named settings, or for every
// setting if none is named.
func AddFlags(flags *pflag.FlagSet, only ...string) {
	flags.String("config", "", "configuration `FILE` (default "+DefaultFile+")")
	for _, s := range settings(nil) {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		flags.String(flagName(s.name), "", fmt.Sprintf("%s (default %s)", s.usage, s.def))
	}
}

func flagName(setting string) string { return strings.ReplaceAll(setting, "_", "-") }

// Load reads and checks the settings.
func Load(src Source) (Config, error) {
	c, err := load(src)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return c, nil
}

func load(src Source) (Config, error) {
	env := environ(src.Environ)
	known := settings(env)
	// The usual delimiter "." would tear keys with addresses apart.
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	path, mayMiss := src.file(env)
	names, err := readFile(v, path, mayMiss)
	if err != nil {
		return Config{}, err
	}
	if err := unknownKeys(known, slices.Concat(names, v.AllKeys()), "setting"); err != nil {
		return Config{}, err
	}
	if len(names) > 0 {
		return Config{}, fmt.Errorf("%s must not be a mapping", names[0])
	}
	for _, s := range known {
		v.SetDefault(s.name, s.def)
	}
	if err := override(v, known, env, src.Flags); err != nil {
		return Config{}, err
	}
	var r raw
	if err := v.UnmarshalExact(&r, strict); err != nil {
		return Config{}, flat(err)
	}
	return r.config()
}

func (s Source) file(env map[string]string) (path string, mayMiss bool) {
	if s.Flags != nil && s.Flags.Changed("config") {
		return s.Flags.Lookup("config").Value.String(), false
	}
	if s.File != "" {
		return s.File, false
	}
	if path := env[EnvPrefix+"CONFIG"]; path != "" {
		return path, false
	}
	return DefaultFile, true
}

// readFile reads the file into v and returns the names of empty maps: viper
// forgets them.
func readFile(v *viper.Viper, path string, mayMiss bool) (empty []string, err error) {
	text, err := os.ReadFile(path)
	if mayMiss && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, flat(err))
	}
	yaml, err := viper.NewCodecRegistry().Decoder("yaml")
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := yaml.Decode(text, all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, flat(err))
	}
	for name, value := range all {
		if m, is := value.(map[string]any); is && len(m) == 0 {
			empty = append(empty, strings.ToLower(name))
		}
	}
	return empty, nil
}

// environ returns the variables that are not empty.
func environ(list []string) map[string]string {
	env := make(map[string]string)
	for _, e := range list {
		if name, value, _ := strings.Cut(e, "="); value != "" {
			env[name] = value
		}
	}
	return env
}

// override sets what the environment and the command line say.
func override(v *viper.Viper, known []setting, env map[string]string, flags *pflag.FlagSet) error {
	var names []string
	for name := range env {
		if rest, ours := strings.CutPrefix(name, EnvPrefix); ours && rest != "CONFIG" {
			names = append(names, strings.ToLower(rest))
		}
	}
	if err := unknownKeys(known, names, "environment variable "+EnvPrefix+"*"); err != nil {
		return err
	}
	for _, s := range known {
		if value, ok := env[EnvPrefix+strings.ToUpper(s.name)]; ok {
			v.Set(s.name, value)
		}
		if f := flagName(s.name); flags != nil && flags.Changed(f) {
			v.Set(s.name, flags.Lookup(f).Value.String())
		}
	}
	return nil
}

// unknownKeys refuses names that are no setting and offers the nearest one.
func unknownKeys(known []setting, names []string, what string) error {
	slices.Sort(names)
	for _, n := range names {
		if !slices.ContainsFunc(known, func(s setting) bool { return s.name == n }) {
			return fmt.Errorf("unknown %s %q%s", what, n, suggest(known, n))
		}
	}
	return nil
}

// raw is the shape of the file; its field types are those that YAML gives.
type raw struct {
	OVSDB       string        `mapstructure:"ovsdb"`
	StateDir    string        `mapstructure:"state_dir"`
	RunDir      string        `mapstructure:"run_dir"`
	KeysDir     string        `mapstructure:"keys_dir"`
	LogLevel    string        `mapstructure:"log_level"`
	LogFormat   string        `mapstructure:"log_format"`
	Gate        string        `mapstructure:"gate"`
	Guard       string        `mapstructure:"guard"`
	GuardPorts  []int         `mapstructure:"guard_ports"`
	Retrofit    string        `mapstructure:"retrofit"`
	StrictSA    string        `mapstructure:"strict_sa"`
	Unguarded   string        `mapstructure:"unguarded"`
	IKE         string        `mapstructure:"ike"`
	IKESocket   string        `mapstructure:"ike_socket"`
	IKERekey    time.Duration `mapstructure:"ike_rekey"`
	RetireAfter time.Duration `mapstructure:"retire_after"`
	AuditEvery  time.Duration `mapstructure:"audit_every"`
	OnLeak      string        `mapstructure:"on_leak"`
	Report      bool          `mapstructure:"report"`

	MonitorSocket bool `mapstructure:"monitor_socket"`
}

// strict turns off the guesses of mapstructure (10 for a duration would be ten
// nanoseconds) and reads the texts that environment and flags give.
func strict(d *mapstructure.DecoderConfig) {
	d.WeaklyTypedInput = false
	d.DecodeHook = func(_, to reflect.Type, value any) (any, error) {
		text, isText := value.(string)
		switch {
		case to == reflect.TypeFor[time.Duration]() && !isText:
			return nil, fmt.Errorf("%v needs a unit, as 10s", value)
		case to.Kind() == reflect.Int && !isInt(value):
			return nil, fmt.Errorf("%v is not a whole number", value)
		case !isText:
			return value, nil
		case to == reflect.TypeFor[time.Duration]():
			return time.ParseDuration(text)
		case to == reflect.TypeFor[bool]():
			return strconv.ParseBool(text)
		case to == reflect.TypeFor[[]int]():
			return numbers(text)
		}
		return value, nil
	}
}

func isInt(value any) bool {
	_, is := value.(int)
	return is
}

func numbers(text string) ([]int, error) {
	var ns []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", field)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// flat brings the lines of an error into one, without mapstructure's heading.
func flat(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(err.Error(), "decoding failed due to the following error(s):\n\n")
	text = strings.ReplaceAll(text, ":\n", ":")
	return errors.New(strings.ReplaceAll(text, "\n", "; "))
}

// config checks every value.
func (r raw) config() (Config, error) {
	c := Config{
		OVSDB: r.OVSDB, StateDir: r.StateDir, RunDir: r.RunDir, KeysDir: r.KeysDir,
		LogFormat: LogFormat(r.LogFormat), Gate: Gate(r.Gate), Guard: Guard(r.Guard),
		Retrofit: Retrofit(r.Retrofit), StrictSA: StrictSA(r.StrictSA), Unguarded: Unguarded(r.Unguarded),
		IKE: IKE(r.IKE), IKESocket: r.IKESocket, IKERekey: r.IKERekey,
		RetireAfter: r.RetireAfter, AuditEvery: r.AuditEvery, OnLeak: OnLeak(r.OnLeak), Report: r.Report, MonitorSocket: r.MonitorSocket,
	}
	err := errors.Join(
		endpoint(r.OVSDB),
		absolute("state_dir", r.StateDir), absolute("run_dir", r.RunDir), absolute("keys_dir", r.KeysDir),
		level(r.LogLevel, &c.LogLevel),
		oneOf("log_format", r.LogFormat, string(LogText), string(LogJSON)),
		oneOf("gate", r.Gate, string(GateAuto), string(GateOff)),
		oneOf("guard", r.Guard, string(GuardAuto), string(GuardTunnels)),
		oneOf("retrofit", r.Retrofit, string(RetrofitNever), string(RetrofitAsk), string(RetrofitAuto)),
		oneOf("strict_sa", r.StrictSA, string(StrictDrain), string(StrictWait)),
		oneOf("on_leak", r.OnLeak, string(LeakReport), string(LeakBlock)),
		oneOf("ike", r.IKE, string(IKEAuto), string(IKEStrongSwan), string(IKELibreswan), string(IKENone)),
		absolute("ike_socket", r.IKESocket),
		between("ike_rekey", r.IKERekey, 10*time.Second, 24*time.Hour),
		ports(r.GuardPorts, &c.GuardPorts),
		oneOf("unguarded", r.Unguarded, string(UnguardedRefuse), string(UnguardedAllow)),
		between("retire_after", r.RetireAfter, 0, 24*time.Hour),
		between("audit_every", r.AuditEvery, time.Second, time.Hour),
	)
	return c, flat(err)
}

func endpoint(value string) error {
	proto, rest, _ := strings.Cut(value, ":")
	if rest == "" || proto != "unix" && proto != "tcp" {
		return fmt.Errorf("ovsdb must be unix:PATH or tcp:HOST:PORT, not %q", value)
	}
	return nil
}

func absolute(name, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s must be an absolute path, not %q", name, path)
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("%s must be %s, not %q", name, strings.Join(allowed, " or "), value)
	}
	return nil
}

func level(value string, to *slog.Level) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	l, ok := levels[value]
	if !ok {
		return fmt.Errorf("log_level must be debug, info, warn or error, not %q", value)
	}
	*to = l
	return nil
}

func ports(values []int, to *[]uint16) error {
	for _, n := range values {
		if n < 1 || n > 65535 {
			return fmt.Errorf("guard_ports must be UDP ports, 1 to 65535, not %d", n)
		}
		*to = append(*to, uint16(n))
	}
	slices.Sort(*to)
	*to = slices.Compact(*to)
	return nil
}

func between(name string, d, low, high time.Duration) error {
	if d < low || d > high {
		return fmt.Errorf("%s must be between %v and %v, not %v", name, low, high, d)
	}
	return nil
}
