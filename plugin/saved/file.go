// SPDX-License-Identifier: Apache-2.0

package saved

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Version is the version of the file format this package writes and reads.
const Version = 1

// MaxFile is the largest file that is read, in bytes: room for 100,000 bypasses.
const MaxFile = 16 << 20

// fileJSON is the shape of the file.
type fileJSON struct {
	Version  int          `json:"version"`
	Boot     string       `json:"boot"`
	PFs      []pfJSON     `json:"pfs"`
	Guards   []guardJSON  `json:"guards"`
	Bypasses []bypassJSON `json:"bypasses"`
}

type pfJSON struct {
	Handle    string `json:"handle"`
	Name      string `json:"name"`
	Protected string `json:"protected,omitempty"`
}

type guardJSON struct {
	Local  netip.Addr `json:"local"`
	Port   uint16     `json:"port"`
	PF     string     `json:"pf,omitempty"`
	Absent int        `json:"absent,omitempty"`
}

type bypassJSON struct {
	Local  netip.Addr `json:"local"`
	Remote netip.Addr `json:"remote"`
	Port   uint16     `json:"port"`
	PF     string     `json:"pf,omitempty"`
}

// Encode returns the file.
func (s State) Encode() []byte {
	f := fileJSON{Version: Version, Boot: s.Boot, PFs: []pfJSON{}, Guards: []guardJSON{}, Bypasses: []bypassJSON{}}
	for _, p := range s.PFs {
		f.PFs = append(f.PFs, pfJSON(p))
	}
	for _, g := range s.Guards {
		f.Guards = append(f.Guards, guardJSON(g))
	}
	for _, b := range s.Bypasses {
		f.Bypasses = append(f.Bypasses, bypassJSON(b))
	}
	// Nothing in a fileJSON can fail to be encoded.
	data, _ := json.MarshalIndent(f, "", " ")
	return append(data, '\n')
}

// Decode reads a file. What it returns without an error can be put into the
// kernel as it is.
func Decode(data []byte) (State, error) {
	var f fileJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return State{}, fmt.Errorf("read saved guards: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return State{}, errors.New("read saved guards: there is something after the end")
	}
	s, err := f.state()
	if err != nil {
		return State{}, fmt.Errorf("read saved guards: %w", err)
	}
	return s, nil
}

func (f fileJSON) state() (State, error) {
	if f.Version != Version {
		return State{}, fmt.Errorf("version %d, and this program knows %d", f.Version, Version)
	}
	s := State{Boot: f.Boot}
	if !plain(f.Boot, longest) {
		return State{}, errors.New("the boot id is not one")
	}
	for _, p := range f.PFs {
		if err := p.check(s); err != nil {
			return State{}, err
		}
		s.PFs = append(s.PFs, PF(p))
	}
	for _, g := range f.Guards {
		if err := s.checkPlace(g.PF, g.Port, g.Local); err != nil {
			return State{}, fmt.Errorf("guard of %s: %w", g.Local, err)
		}
		if g.Absent < 0 {
			return State{}, fmt.Errorf("guard of %s: absent for %d boots", g.Local, g.Absent)
		}
		s.Guards = append(s.Guards, Guard(g))
	}
	for _, b := range f.Bypasses {
		if err := s.checkPlace(b.PF, b.Port, b.Local, b.Remote); err != nil {
			return State{}, fmt.Errorf("bypass from %s to %s: %w", b.Local, b.Remote, err)
		}
		s.Bypasses = append(s.Bypasses, Bypass(b))
	}
	return s, nil
}

const (
	longest     = 64 // of a handle or a boot id
	longestName = 15 // of a netdev: IFNAMSIZ less one, linux/if.h
)

func (p pfJSON) check(s State) error {
	_, twice := s.PF(p.Handle)
	switch {
	case p.Handle == "" || !plain(p.Handle, longest):
		return fmt.Errorf("NIC %q: no devlink handle", p.Handle)
	case p.Name == "" || !plain(p.Name, longestName) || strings.ContainsAny(p.Name, "/#'\"\\"):
		return fmt.Errorf("NIC %s: %q is no name of a device", p.Handle, p.Name)
	case !plain(p.Protected, longest):
		return fmt.Errorf("NIC %s: the boot id is not one", p.Handle)
	case twice:
		return fmt.Errorf("NIC %s is named twice", p.Handle)
	}
	return nil
}

// checkPlace checks what a guard and a bypass have in common.
func (s State) checkPlace(pf string, port uint16, as ...netip.Addr) error {
	if _, is := s.PF(pf); pf != "" && !is {
		return fmt.Errorf("NIC %q is not in the list", pf)
	}
	if port == 0 {
		return errors.New("no UDP port")
	}
	for _, a := range as {
		if !a.IsValid() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "" || a.Is4() != as[0].Is4() {
			return fmt.Errorf("%s is no address for it", a)
		}
	}
	return nil
}

// plain tells whether s is printable ASCII without spaces, and not too long.
func plain(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
