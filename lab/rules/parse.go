// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Parse reads a script. Errors name the line.
func Parse(text string) (Rule, error) {
	var r Rule
	for i, line := range strings.Split(text, "\n") {
		if err := r.parseLine(i+1, strings.TrimSpace(line)); err != nil {
			return Rule{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	switch {
	case r.ID == "":
		return Rule{}, errors.New("no line says rule ID")
	case len(r.Steps) == 0:
		return Rule{}, errors.New("no steps")
	}
	return r, nil
}

func (r *Rule) parseLine(number int, line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	key, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch key {
	case "rule":
		return r.setID(rest)
	case "about":
		r.About = rest
		return nil
	case "param":
		return r.addParam(rest)
	}
	step, err := parseStep(key, rest)
	if err != nil {
		return err
	}
	step.Line = number
	r.Steps = append(r.Steps, step)
	return nil
}

func (r *Rule) setID(id string) error {
	if r.ID != "" || id == "" || strings.ContainsAny(id, " \t") {
		return fmt.Errorf("bad rule id %q", id)
	}
	r.ID = id
	return nil
}

func (r *Rule) addParam(text string) error {
	if len(r.Steps) > 0 {
		return errors.New("param after the first step: use knob")
	}
	p, err := parseParam(text)
	if err != nil {
		return err
	}
	r.Params = append(r.Params, p)
	return nil
}

func parseParam(text string) (Param, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || !isName(name) || !isName(value) {
		return Param{}, fmt.Errorf("bad parameter %q: want NAME=VALUE", text)
	}
	return Param{name, value}, nil
}

// isName tells whether s may stand in a path of the kernel's.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

func parseStep(key, rest string) (Step, error) {
	switch kind := CheckKind(key); kind {
	case State, Counter, Stat, Log, Out, In:
		c, err := parseCheck(kind, rest)
		return Step{Check: &c}, err
	}
	switch key {
	case "send":
		p, err := parsePacket(rest)
		return Step{Send: &p}, err
	case "knob":
		p, err := parseParam(rest)
		return Step{Request: &Request{Command: KnobSet{p}}}, err
	}
	want, err := parseWant(key)
	if err != nil {
		return Step{}, err
	}
	line, text, _ := strings.Cut(rest, " | ")
	want.Text = strings.TrimSpace(text)
	cmd, err := ParseCommand(line)
	if err != nil {
		return Step{}, err
	}
	if _, filter := cmd.(FilterAdd); want.Hardware != "" && !filter {
		return Step{}, fmt.Errorf("%s is for tc filter add only", key)
	}
	return Step{Request: &Request{Want: want, Command: cmd}}, nil
}

func parseWant(word string) (Want, error) {
	switch {
	case word == "ok":
		return Want{}, nil
	case word == "in_hw":
		return Want{Hardware: "yes"}, nil
	case word == "not_in_hw":
		return Want{Hardware: "no"}, nil
	case len(word) > 1 && word[0] == 'E' && isName(word) && strings.ToUpper(word) == word:
		return Want{Errno: word}, nil
	}
	return Want{}, fmt.Errorf("unknown word %q", word)
}

func parseCheck(kind CheckKind, rest string) (Check, error) {
	if kind == Log {
		if rest == "" {
			return Check{}, errors.New("log needs a text")
		}
		return Check{Kind: kind, Value: rest}, nil
	}
	words := strings.Fields(rest)
	c := Check{Kind: kind, Value: strings.Join(words, " ")}
	if kind == State || kind == Counter || kind == Stat {
		if len(words) != 2 {
			return Check{}, fmt.Errorf("%s needs a name and a value", kind)
		}
		c.Key, c.Value = words[0], words[1]
	}
	return c, c.validate()
}

func (c Check) validate() error {
	var ok bool
	switch c.Kind {
	case Counter:
		var n uint64
		ok = strings.HasPrefix(c.Value, "+") && scanUint(c.Value[1:], 32, &n)
	case Stat:
		ok = c.Value == "shown" || c.Value == "hidden"
	case In:
		ok = slices.Contains([]string{"pf", "vf", "none"}, c.Value)
	case Out:
		_, err := parseFrames(c.Value)
		return err
	default:
		ok = true
	}
	if !ok {
		return fmt.Errorf("bad %s %q", c.Kind, c.Value)
	}
	return nil
}
