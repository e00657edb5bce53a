// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// Version is the version of the file format this package writes and reads.
const Version = 1

// MaxFile is the largest key set file that is read, in bytes; one has about 600.
const MaxFile = 4096

const (
	keyBytes  = 32 // AES-256
	saltBytes = 4  // RFC 4106, section 4
)

// Parse reads the file of the key set name. It wipes data, keeps no reference
// to it and never quotes it in an error. The caller wipes the Set.
func Parse(name string, data []byte) (Set, error) {
	defer clear(data)
	var f fileJSON
	defer f.wipe()
	if err := f.decode(data); err != nil {
		return Set{}, refuse(CodeFormat, "read key set %s: %w", name, err)
	}
	s, err := f.set()
	if err != nil {
		return Set{}, refuse(CodeFormat, "read key set %s: %w", name, err)
	}
	if err := s.check("read"); err != nil {
		s.Wipe()
		return Set{}, err
	}
	if s.Name != name {
		s.Wipe()
		return Set{}, refuse(CodeName, "read key set %s: the file holds key set %s; name the file %s.json", name, s.Name, s.Name)
	}
	return s, nil
}

// AppendTo appends the key set file to b. Both hold secrets from then on, so
// give b enough room (MaxFile) for it never to be copied, and wipe it.
func (s Set) AppendTo(b []byte) []byte {
	b = fmt.Appendf(b, "{\n  \"version\": %d,\n  \"name\": %q,\n  \"host\": %q,\n  \"peer\": %q,\n  \"created\": %q,\n",
		Version, s.Name, s.Host, s.Peer, s.Created.UTC().Format(time.RFC3339))
	b = s.Out.appendTo(append(b, "  \"out\": "...))
	b = s.In.appendTo(append(b, ",\n  \"in\": "...))
	return append(b, "\n}\n"...)
}

func (h Half) appendTo(b []byte) []byte {
	var raw [xfrm.KeyLen]byte
	defer clear(raw[:])
	h.Key.AppendTo(raw[:0])
	b = fmt.Appendf(b, "{\"spi\": \"0x%08x\", \"key\": \"", h.SPI)
	b = hex.AppendEncode(b, raw[:keyBytes])
	b = append(b, "\", \"salt\": \""...)
	b = hex.AppendEncode(b, raw[keyBytes:])
	return append(b, "\"}"...)
}

// fileJSON is the shape of the file. Secrets are decoded by hexBytes straight
// from the input: encoding/json would leave copies in strings otherwise.
type fileJSON struct {
	Version int      `json:"version"`
	Name    string   `json:"name"`
	Host    string   `json:"host"`
	Peer    string   `json:"peer"`
	Created created  `json:"created"`
	Out     halfJSON `json:"out"`
	In      halfJSON `json:"in"`
}

type halfJSON struct {
	SPI  spi      `json:"spi"`
	Key  hexBytes `json:"key"`
	Salt hexBytes `json:"salt"`
}

func (f *fileJSON) decode(data []byte) error {
	if !json.Valid(data) {
		return errors.New("not valid JSON; copy the file again or make a new set")
	}
	var v struct{ Version int }
	if json.Unmarshal(data, &v) != nil || v.Version != Version {
		return fmt.Errorf("version %d, this program reads version %d", v.Version, Version)
	}
	if err := onlyFields(data, "version", "name", "host", "peer", "created", "out", "in"); err != nil {
		return err
	}
	return quiet(json.Unmarshal(data, f))
}

func (f *fileJSON) set() (Set, error) {
	out, err := f.Out.half()
	if err != nil {
		return Set{}, fmt.Errorf("out: %w", err)
	}
	in, err := f.In.half()
	if err != nil {
		out.Key.Wipe()
		return Set{}, fmt.Errorf("in: %w", err)
	}
	return Set{Name: f.Name, Host: f.Host, Peer: f.Peer, Created: time.Time(f.Created).UTC(), Out: out, In: in}, nil
}

func (f *fileJSON) wipe() {
	for _, b := range [][]byte{f.Out.Key, f.Out.Salt, f.In.Key, f.In.Salt} {
		clear(b)
	}
}

// UnmarshalJSON refuses a field that is unknown or given twice.
func (h *halfJSON) UnmarshalJSON(data []byte) error {
	if h.Key != nil {
		return errors.New("given twice")
	}
	if err := onlyFields(data, "spi", "key", "salt"); err != nil {
		return err
	}
	type plain halfJSON // without this method
	return json.Unmarshal(data, (*plain)(h))
}

func (h *halfJSON) half() (Half, error) {
	if len(h.Key) != keyBytes || len(h.Salt) != saltBytes {
		return Half{}, fmt.Errorf("need a key of %d bytes and a salt of %d; make a new set", keyBytes, saltBytes)
	}
	raw := append(append(make([]byte, 0, xfrm.KeyLen), h.Key...), h.Salt...)
	key, _ := xfrm.NewKey(raw) // wipes raw
	return Half{SPI: uint32(h.SPI), Key: key, KeyPrint: key.Fingerprint()}, nil
}

// hexBytes is a secret in hexadecimal digits.
type hexBytes []byte

// UnmarshalJSON decodes without copying the digits.
func (h *hexBytes) UnmarshalJSON(data []byte) error {
	if *h != nil {
		return errors.New("a field is given twice")
	}
	digits, ok := unquote(data)
	if !ok {
		return errors.New("key and salt must be strings of hexadecimal digits")
	}
	b := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(b, digits); err != nil {
		clear(b)
		return errors.New("key and salt must be hexadecimal digits, two for each byte")
	}
	*h = b
	return nil
}

// spi is an SPI written as "0x…".
type spi uint32

// UnmarshalJSON accepts any base that Go's literals have; the file says "0x…".
func (s *spi) UnmarshalJSON(data []byte) error {
	text, ok := unquote(data)
	if !ok {
		return errors.New(`spi must be a string as "0x1234abcd"`)
	}
	n, err := strconv.ParseUint(string(text), 0, 32)
	if err != nil {
		return errors.New(`spi must be a 32-bit number as "0x1234abcd"`)
	}
	*s = spi(n)
	return nil
}

// created is a time as RFC 3339 writes it.
type created time.Time

// UnmarshalJSON reads the time; unlike time.Time's it does not quote the input
// in its error.
func (c *created) UnmarshalJSON(data []byte) error {
	text, _ := unquote(data)
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return errors.New("created must be a time as 2006-01-02T15:04:05Z")
	}
	*c = created(t)
	return nil
}

// unquote returns what stands between the quotes of a JSON string. Escapes stay
// as they are: no valid key or SPI has one.
func unquote(data []byte) ([]byte, bool) {
	inner, ok := bytes.CutPrefix(data, []byte(`"`))
	if !ok {
		return nil, false
	}
	return bytes.CutSuffix(inner, []byte(`"`))
}

// onlyFields refuses an object with a field that is not in names. A
// json.Decoder could do so, but its buffer cannot be wiped.
func onlyFields(data []byte, names ...string) error {
	var fields map[string]skip
	if json.Unmarshal(data, &fields) != nil {
		return errors.New("an object is expected")
	}
	for _, n := range names {
		delete(fields, n)
	}
	if len(fields) > 0 {
		return fmt.Errorf("a field is not one of %q", names)
	}
	return nil
}

// skip is a JSON value that is not kept.
type skip struct{}

// UnmarshalJSON does nothing.
func (*skip) UnmarshalJSON([]byte) error { return nil }

// quiet returns an error of encoding/json without the input that some of them
// quote.
func quiet(err error) error {
	if typ, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("field %q has the wrong type", typ.Field)
	}
	return err
}

func sameKey(a, b xfrm.Key) bool {
	var x, y [xfrm.KeyLen]byte
	defer clear(x[:])
	defer clear(y[:])
	a.AppendTo(x[:0])
	b.AppendTo(y[:0])
	// The cipher's key alone counts: a salt of its own does not keep two
	// senders with one key apart from each other's forgeries.
	return subtle.ConstantTimeCompare(x[:keyBytes], y[:keyBytes]) == 1
}

func zeroKey(k xfrm.Key) bool {
	var x, zero [xfrm.KeyLen]byte
	defer clear(x[:])
	k.AppendTo(x[:0])
	return subtle.ConstantTimeCompare(x[:keyBytes], zero[:keyBytes]) == 1
}
