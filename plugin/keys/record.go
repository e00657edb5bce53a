// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// Entry is an outbound key as the ledger knows it.
type Entry struct {
	Key  xfrm.Fingerprint
	Name string // of the key set
	SPI  uint32
	Pair string // addresses and port, for the reader of the file
}

// event is what happened to a key.
type event string

const (
	eventInstall event = "install" // written before the kernel gets the key
	eventRefused event = "refused" // the kernel answered with an error: the key was not used
	eventTorn    event = "torn"    // a line whose end was lost; its key counts as used
)

// record is one line of the ledger. The key comes first, so that a line whose
// end is lost still tells which key it was about.
type record struct {
	Key    string    `json:"key"` // fingerprint, or its first digits if torn
	Event  event     `json:"event"`
	Name   string    `json:"name,omitempty"`
	SPI    string    `json:"spi,omitempty"`
	Pair   string    `json:"pair,omitempty"`
	Time   time.Time `json:"time"`
	BootID string    `json:"boot_id,omitempty"`
}

const (
	lineStart = `{"key":"`
	sumStart  = `,"crc32c":"` // ends every line, so that no flipped bit passes for another key
	lineTail  = len(sumStart) + 8 + len("\"}\n")
	maxLine   = 1024

	// minTorn is how many digits of a fingerprint a torn line must show to
	// count. The line never stood for an installed key, since the write was
	// not complete; it counts for the case that a disk lost what it had
	// confirmed. Fewer digits than this would block keys by chance.
	minTorn = 8
)

// appendLine appends one line with its newline.
func appendLine(b []byte, r record) ([]byte, error) {
	start := len(b)
	body, err := json.Marshal(r)
	if err != nil {
		return b, err
	}
	b = append(b, body[:len(body)-1]...) // without the brace
	sum := crc32.Checksum(b[start:], castagnoli)
	b = fmt.Appendf(b, "%s%08x\"}\n", sumStart, sum)
	if len(b)-start > maxLine {
		return b[:start], fmt.Errorf("line of %d bytes", len(b)-start)
	}
	return b, nil
}

func appendLines(b []byte, recs []record) (_ []byte, err error) {
	for _, r := range recs {
		if b, err = appendLine(b, r); err != nil {
			return nil, err
		}
	}
	return b, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseLine reads a line with its newline.
func parseLine(line []byte) (record, error) {
	body := line[:max(0, len(line)-lineTail)]
	tail := fmt.Appendf(nil, "%s%08x\"}\n", sumStart, crc32.Checksum(body, castagnoli))
	if !bytes.Equal(line[len(body):], tail) {
		return record{}, errors.New("its checksum does not match")
	}
	var r record
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &r); err != nil {
		return record{}, err
	}
	switch {
	case r.Event != eventInstall && r.Event != eventRefused && r.Event != eventTorn:
		return record{}, fmt.Errorf("unknown event %q", r.Event)
	case r.Event == eventTorn && !hexDigits(r.Key, minTorn):
		return record{}, errors.New("its key is not the start of a fingerprint")
	case r.Event != eventTorn && !hexDigits(r.Key, 2*len(xfrm.Fingerprint{})):
		return record{}, errors.New("its key is not a fingerprint")
	}
	return r, nil
}

// tornKey returns the digits of the fingerprint that an incomplete line shows.
func tornKey(line []byte) (digits string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(lineStart))
	if !ok {
		return "", false
	}
	n := 0
	for n < len(rest) && n < 2*len(xfrm.Fingerprint{}) && isHex(rest[n]) {
		n++
	}
	return string(rest[:n]), n >= minTorn
}

func hexDigits(s string, atLeast int) bool {
	if len(s) < atLeast || len(s) > 2*len(xfrm.Fingerprint{}) {
		return false
	}
	for i := range len(s) {
		if !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func fingerprint(digits string) (f xfrm.Fingerprint) {
	_, _ = hex.Decode(f[:], []byte(digits)) // parseLine has checked it
	return f
}
