// SPDX-License-Identifier: Apache-2.0

package vici

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Type is what a Packet is.
type Type byte

// The types of a Packet, as on the wire.
const (
	CmdRequest      Type = iota // named
	CmdResponse                 // the answer to CmdRequest
	CmdUnknown                  // the other answer to CmdRequest
	EventRegister               // named
	EventUnregister             // named
	EventConfirm                // the answer to both
	EventUnknown                // the other answer to both
	Event                       // named
	types
)

// MaxPacket is the largest packet in bytes, without its length, that charon
// sends and takes.
const MaxPacket = 512 << 10

// Packet is one unit of the protocol.
type Packet struct {
	Type    Type
	Name    string // for the named types
	Message Message
}

func (t Type) named() bool {
	return t == CmdRequest || t == EventRegister || t == EventUnregister || t == Event
}

// Write sends p with one call of w. It wipes what it made for that.
func (p Packet) Write(w io.Writer) error {
	b, err := p.encode()
	defer clear(b)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (p Packet) encode() ([]byte, error) {
	// Room for all, so that growing leaves no copy of a secret behind.
	b := append(make([]byte, 0, 8+len(p.Name)+size(p.Message)), 0, 0, 0, 0, byte(p.Type))
	if p.Type.named() {
		if len(p.Name) > 255 {
			return nil, fmt.Errorf("encode packet: name of %d bytes, at most 255 are possible", len(p.Name))
		}
		b = append(append(b, byte(len(p.Name))), p.Name...)
	}
	full, err := p.Message.AppendTo(b)
	if err != nil {
		return b[:cap(b)], err // with what was appended of it
	}
	if len(full)-4 > MaxPacket {
		return full, fmt.Errorf("encode packet: %d bytes, at most %d are possible", len(full)-4, MaxPacket)
	}
	binary.BigEndian.PutUint32(full, uint32(len(full)-4))
	return full, nil
}

// size returns at least the length of m's encoding.
func size(m Message) int {
	n := 0
	for _, e := range m {
		n += 4 + len(e.Name) + len(e.Value) + size(e.Section)
		for _, i := range e.List {
			n += 3 + len(i)
		}
	}
	return n
}

// ReadPacket reads one packet.
func ReadPacket(r io.Reader) (Packet, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return Packet{}, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > MaxPacket {
		return Packet{}, fmt.Errorf("read packet: a length of %d bytes, 1 to %d are possible", n, MaxPacket)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Packet{}, err
	}
	return ParsePacket(b)
}

// ParsePacket decodes a packet without its length. It keeps no reference to b.
func ParsePacket(b []byte) (Packet, error) {
	if len(b) == 0 || Type(b[0]) >= types {
		return Packet{}, fmt.Errorf("decode packet: unknown type in %d bytes", len(b))
	}
	p := Packet{Type: Type(b[0])}
	rest := b[1:]
	if p.Type.named() {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return Packet{}, fmt.Errorf("decode packet: name cut off")
		}
		n := 1 + int(rest[0])
		p.Name, rest = string(rest[1:n]), rest[n:]
	}
	m, err := Parse(rest)
	p.Message = m
	return p, err
}
