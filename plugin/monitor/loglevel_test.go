// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"log/slog"
	"strings"
	"testing"
)

func TestParseLogLevel(t *testing.T) {
	for _, tc := range []struct{ spec, want string }{
		{"dbg", "DEBUG"}, {"info", "INFO"}, {"WARN", "WARN"}, {"err", "ERROR"}, {"off", "ERROR"}, {"emer", "ERROR"},
		{"any:any:info", "INFO"}, {"any:console:warn", "WARN"}, {"prog info", "INFO"}, {"console", "DEBUG"},
		{"any:file:dbg", "nothing"}, {"syslog:off", "nothing"},
		{"info:dbg", "cannot specify multiple levels"}, {"file:console", "cannot specify multiple destinations"},
		{"poller:dbg", `no destination, level, or module "poller"`},
	} {
		level, err := ParseLogLevel("prog", tc.spec)
		got := "nothing"
		switch {
		case err != nil:
			got = err.Error()
		case level != nil:
			got = level.String()
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.spec, got, tc.want)
		}
	}
}

func TestLogLevels(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelDebug: "dbg", slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "err"} {
		lines := strings.Split(LogLevels("prog", level), "\n")
		if f := strings.Fields(lines[2]); strings.Join(f, " ") != "prog "+want+" off off" {
			t.Errorf("%s: %q", level, lines)
		}
	}
}
