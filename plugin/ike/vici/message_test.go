// SPDX-License-Identifier: Apache-2.0

package vici

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// example is the one of strongSwan's README.md, with its bytes.
var (
	example = Message{
		Text("key1", "value1"),
		Section("section1",
			Section("sub-section", Text("key2", "value2")),
			List("list1", "item1", "item2")),
	}
	exampleBytes = "\x03\x04key1\x00\x06value1" +
		"\x01\x08section1\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02" +
		"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06\x02"
)

func TestExample(t *testing.T) {
	b, err := example.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleBytes, string(b)); diff != "" {
		t.Errorf("encoded (-want +got):\n%s", diff)
	}
	m, err := Parse([]byte(exampleBytes))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example, m); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if got := m.Sub("section1").Items("list1"); !cmp.Equal(got, []string{"item1", "item2"}) {
		t.Errorf("list: %q", got)
	}
	if m.Get("key1") != "value1" || m.Get("section1") != "" || m.Sub("nothing") != nil || m.Items("key1") != nil {
		t.Error("look-up by name goes wrong")
	}
}

func TestParseRefusals(t *testing.T) {
	for name, data := range map[string]string{
		"name cut off":        "\x03\x04ke",
		"no length of a name": "\x03",
		"value cut off":       "\x03\x01k\x00\x05valu",
		"no length":           "\x03\x01k\x00",
		"section open":        "\x01\x01s\x03\x01k\x00\x00",
		"section end":         "\x02",
		"list open":           "\x04\x01l\x05\x00\x00",
		"section in a list":   "\x04\x01l\x01\x01s\x02\x06",
		"item alone":          "\x05\x00\x00",
		"list end alone":      "\x06",
		"type 0":              "\x00",
		"type 7":              "\x07",
		"too deep":            strings.Repeat("\x01\x01s", maxDepth+1) + strings.Repeat("\x02", maxDepth+1),
	} {
		if m, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s: accepted as %v", name, m)
		}
	}
}

func TestEncodeRefusals(t *testing.T) {
	deep := Message{}
	for range maxDepth + 2 {
		deep = Message{Section("s", deep...)}
	}
	for name, m := range map[string]Message{
		"long name":         {Text(strings.Repeat("n", 256), "")},
		"long section name": {Section(strings.Repeat("n", 256))},
		"long list name":    {List(strings.Repeat("n", 256), "x")},
		"long value":        {Text("n", strings.Repeat("v", 1<<16))},
		"long item":         {List("n", strings.Repeat("v", 1<<16))},
		"too deep":          deep,
	} {
		if _, err := m.AppendTo(nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPackets(t *testing.T) {
	var wire bytes.Buffer
	want := []Packet{
		{Type: CmdRequest, Name: "version"},
		{Type: CmdResponse, Message: example},
		{Type: Event, Name: "log", Message: Message{Text("msg", "")}},
		{Type: EventConfirm},
	}
	for _, p := range want {
		if err := p.Write(&wire); err != nil {
			t.Fatal(err)
		}
	}
	if head := wire.Bytes()[:13]; string(head) != "\x00\x00\x00\x09\x00\x07version" {
		t.Errorf("first packet begins with %q", head)
	}
	var got []Packet
	for wire.Len() > 0 {
		p, err := ReadPacket(&wire)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadPacketRefusals(t *testing.T) {
	for name, data := range map[string]string{
		"empty":        "\x00\x00\x00\x00",
		"too large":    "\x00\x08\x00\x01\x01",
		"cut off":      "\x00\x00\x00\x03\x01",
		"no packet":    "\x00\x00\x00\x02",
		"type 8":       "\x00\x00\x00\x01\x08",
		"no name":      "\x00\x00\x00\x01\x00",
		"name cut off": "\x00\x00\x00\x03\x00\x05v",
		"bad message":  "\x00\x00\x00\x02\x01\x07",
	} {
		if p, err := ReadPacket(strings.NewReader(data)); err == nil {
			t.Errorf("%s: accepted as %v", name, p)
		}
	}
	big := Packet{Type: CmdRequest, Name: "x", Message: Message{Blobs("l", make([]byte, 60000), make([]byte, 60000))}}
	for range 3 {
		big.Message = append(big.Message, big.Message...)
	}
	if err := big.Write(&bytes.Buffer{}); err == nil {
		t.Error("a packet of 960 kB was written")
	}
}

func TestWriteLeavesNoCopy(t *testing.T) {
	const secret = "a pre-shared key"
	var kept capture
	p := Packet{Type: CmdRequest, Name: "load-shared", Message: Message{Data("data", []byte(secret)), List("owners", "a", "b")}}
	if err := p.Write(&kept); err != nil {
		t.Fatal(err)
	}
	if !kept.had(secret) {
		t.Fatal("the secret was not written at all")
	}
	if bytes.Contains(kept.b, []byte(secret)) {
		t.Error("the buffer still holds the secret after it was written")
	}
}

// capture keeps the very slice that is written.
type capture struct {
	b    []byte
	text string
}

func (c *capture) Write(b []byte) (int, error) {
	c.b, c.text = b, string(b)
	return len(b), nil
}

func (c *capture) had(s string) bool { return strings.Contains(c.text, s) }

func FuzzParsePacket(f *testing.F) {
	for _, p := range []Packet{{CmdRequest, "version", nil}, {CmdResponse, "", example}, {Event, "list-sa", example}} {
		b, err := p.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePacket(data)
		if err != nil {
			return
		}
		b, err := p.encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		q, err := ParsePacket(b[4:])
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(p, q, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("decoded, encoded and decoded again (-first +second):\n%s", diff)
		}
	})
}
