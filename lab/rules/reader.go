// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// reader takes the words of a command one by one. After the first error it
// gives zero values only, so that callers look at err once.
type reader struct {
	words []string
	err   error
}

func newReader(line string) *reader { return &reader{words: strings.Fields(line)} }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) more() bool { return r.err == nil && len(r.words) > 0 }

func (r *reader) peek() string {
	if !r.more() {
		return ""
	}
	return r.words[0]
}

func (r *reader) word() string {
	if r.err == nil && len(r.words) == 0 {
		r.fail("ends too early")
	}
	if r.err != nil {
		return ""
	}
	w := r.words[0]
	r.words = r.words[1:]
	return w
}

// accept takes the words if they come next.
func (r *reader) accept(words ...string) bool {
	if r.err != nil || len(r.words) < len(words) {
		return false
	}
	for i, w := range words {
		if r.words[i] != w {
			return false
		}
	}
	r.words = r.words[len(words):]
	return true
}

func (r *reader) expect(words ...string) {
	if r.err == nil && !r.accept(words...) {
		r.fail("want %q, have %q", strings.Join(words, " "), strings.Join(r.words, " "))
	}
}

// oneOf takes a word that must be one of the list.
func (r *reader) oneOf(list ...string) string {
	w := r.word()
	for _, l := range list {
		if w == l {
			return w
		}
	}
	r.fail("%q is none of %s", w, strings.Join(list, ", "))
	return ""
}

func (r *reader) name() string {
	w := r.word()
	if r.err == nil && !isName(w) {
		r.fail("bad name %q", w)
	}
	return w
}

func (r *reader) addr() netip.Addr {
	w := r.word()
	a, err := netip.ParseAddr(w)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		r.fail("bad address %q", w)
		return netip.Addr{}
	}
	return a
}

// prefix takes a prefix, or an address for itself alone.
func (r *reader) prefix() netip.Prefix {
	w := r.peek()
	if !strings.Contains(w, "/") {
		a := r.addr()
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(r.word())
	if err != nil {
		r.fail("bad prefix %q", w)
	}
	return p
}

// scanUint reads a number as strconv does with base 0.
func scanUint(s string, bits int, n *uint64) bool {
	v, err := strconv.ParseUint(s, 0, bits)
	*n = v
	return err == nil && !strings.Contains(s, "_")
}

func (r *reader) uint(bits int) uint64 {
	var n uint64
	w := r.word()
	if r.err == nil && !scanUint(w, bits, &n) {
		r.fail("bad number %q", w)
	}
	return n
}

func (r *reader) uint16() uint16 { return uint16(r.uint(16)) }
func (r *reader) uint32() uint32 { return uint32(r.uint(32)) }

// done is the error of it all; words left over are one.
func (r *reader) done() error {
	if len(r.words) > 0 {
		r.fail("unknown words %q", strings.Join(r.words, " "))
	}
	return r.err
}
