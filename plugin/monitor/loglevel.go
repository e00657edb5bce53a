// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// levelOf returns the level of a word of vlog, and false for other words. There
// is nothing above errors that could be left out.
func levelOf(word string) (slog.Level, bool) {
	switch word {
	case "off", "emer", "err":
		return slog.LevelError, true
	case "warn":
		return slog.LevelWarn, true
	case "info":
		return slog.LevelInfo, true
	case "dbg":
		return slog.LevelDebug, true
	}
	return 0, false
}

// LogLevels is the answer of vlog/list for one module that logs to standard error,
// which vlog calls the console.
func LogLevels(module string, level slog.Level) string {
	word := map[slog.Level]string{slog.LevelError: "err", slog.LevelWarn: "warn", slog.LevelInfo: "info", slog.LevelDebug: "dbg"}[level]
	return fmt.Sprintf("                 console    syslog    file\n"+
		"                 -------    ------    ------\n"+
		"%-16s  %4s       %4s       %4s\n", module, word, "off", "off")
}

// ParseLogLevel reads a specification of vlog/set: module, destination and level
// in any order, separated by colons or blanks. Without a level it is dbg. The
// level is nil where the specification is about a destination that has no log.
func ParseLogLevel(module, spec string) (*slog.Level, error) {
	level, where, set := slog.LevelDebug, "", false
	for _, word := range strings.FieldsFunc(strings.ToLower(spec), func(r rune) bool { return r == ':' || r == ' ' }) {
		l, isLevel := levelOf(word)
		switch {
		case isLevel && set:
			return nil, errors.New("cannot specify multiple levels")
		case isLevel:
			level, set = l, true
		case word == "console", word == "syslog", word == "file":
			if where != "" {
				return nil, errors.New("cannot specify multiple destinations")
			}
			where = word
		case word != "any" && word != module:
			return nil, fmt.Errorf("no destination, level, or module %q", word)
		}
	}
	if where == "syslog" || where == "file" {
		return nil, nil
	}
	return &level, nil
}
