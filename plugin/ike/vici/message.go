// SPDX-License-Identifier: Apache-2.0

package vici

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The types of a message's elements on the wire.
const (
	sectionStart = 1
	sectionEnd   = 2
	keyValue     = 3
	listStart    = 4
	listItem     = 5
	listEnd      = 6
)

// maxDepth is how deep sections may be nested; charon's own go to 5.
const maxDepth = 16

// Kind tells what an Element is.
type Kind uint8

// The kinds of an Element.
const (
	IsValue Kind = iota
	IsList
	IsSection
)

// Message is a section, the whole message being one too: its elements in the
// order of the wire.
type Message []Element

// Element is a value, a list or a section, and has the field of its Kind.
type Element struct {
	Name    string // at most 255 bytes
	Kind    Kind
	Value   []byte   // at most 65535 bytes
	List    [][]byte // each at most 65535 bytes
	Section Message
}

// Text returns a value element.
func Text(name, value string) Element { return Data(name, []byte(value)) }

// Data returns a value element that holds value, not a copy.
func Data(name string, value []byte) Element { return Element{Name: name, Value: value} }

// List returns a list element.
func List(name string, items ...string) Element {
	e := Element{Name: name, Kind: IsList}
	for _, i := range items {
		e.List = append(e.List, []byte(i))
	}
	return e
}

// Blobs returns a list element that holds the items, not copies.
func Blobs(name string, items ...[]byte) Element {
	return Element{Name: name, Kind: IsList, List: items}
}

// Section returns a section element.
func Section(name string, elements ...Element) Element {
	return Element{Name: name, Kind: IsSection, Section: elements}
}

// Get returns the value of a name as text, "" if there is none.
func (m Message) Get(name string) string { return string(m.find(name, IsValue).Value) }

// Items returns the list of a name as text.
func (m Message) Items(name string) []string {
	var items []string
	for _, i := range m.find(name, IsList).List {
		items = append(items, string(i))
	}
	return items
}

// Sub returns the section of a name, nil if there is none.
func (m Message) Sub(name string) Message { return m.find(name, IsSection).Section }

func (m Message) find(name string, k Kind) Element {
	for _, e := range m {
		if e.Name == name && e.Kind == k {
			return e
		}
	}
	return Element{}
}

// AppendTo appends the message's encoding to b.
func (m Message) AppendTo(b []byte) ([]byte, error) { return m.appendTo(b, 0) }

func (m Message) appendTo(b []byte, depth int) (_ []byte, err error) {
	if depth > maxDepth {
		return nil, errors.New("encode message: sections nested too deep")
	}
	for _, e := range m {
		switch e.Kind {
		case IsValue:
			if b, err = appendName(b, keyValue, e.Name); err == nil {
				b, err = appendBlob(b, e.Name, e.Value)
			}
		case IsList:
			b, err = appendList(b, e)
		case IsSection:
			if b, err = appendName(b, sectionStart, e.Name); err == nil {
				b, err = e.Section.appendTo(b, depth+1)
			}
			b = append(b, sectionEnd)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendList(b []byte, e Element) ([]byte, error) {
	b, err := appendName(b, listStart, e.Name)
	for _, item := range e.List {
		if err != nil {
			return nil, err
		}
		b, err = appendBlob(append(b, listItem), e.Name, item)
	}
	return append(b, listEnd), err
}

func appendName(b []byte, typ byte, name string) ([]byte, error) {
	if len(name) > 255 {
		return nil, fmt.Errorf("encode message: name of %d bytes, at most 255 are possible", len(name))
	}
	return append(append(b, typ, byte(len(name))), name...), nil
}

func appendBlob(b []byte, name string, value []byte) ([]byte, error) {
	if len(value) > 0xffff {
		return nil, fmt.Errorf("encode message: %s has %d bytes, at most 65535 are possible", name, len(value))
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...), nil
}

// Parse decodes a message. It keeps no reference to data.
func Parse(data []byte) (Message, error) {
	p := parser{rest: data}
	m := p.section(0)
	if p.err != nil {
		return nil, fmt.Errorf("decode message: %w", p.err)
	}
	return m, nil
}

// parser reads elements off rest until it is empty or err is set.
type parser struct {
	rest []byte
	err  error
}

func (p *parser) section(depth int) Message {
	var m Message
	for p.err == nil {
		if len(p.rest) == 0 {
			if depth > 0 {
				p.fail("a section does not end")
			}
			return m
		}
		switch typ := p.take(1)[0]; {
		case typ == sectionEnd && depth > 0:
			return m
		case typ == sectionStart && depth < maxDepth:
			m = append(m, Element{Name: p.name(), Kind: IsSection, Section: p.section(depth + 1)})
		case typ == keyValue:
			m = append(m, Element{Name: p.name(), Value: p.blob()})
		case typ == listStart:
			m = append(m, Element{Name: p.name(), Kind: IsList, List: p.list()})
		default:
			p.fail("unexpected element of type %d", typ)
		}
	}
	return m
}

func (p *parser) list() [][]byte {
	var items [][]byte
	for p.err == nil {
		switch typ := p.take(1); {
		case p.err != nil:
		case typ[0] == listEnd:
			return items
		case typ[0] == listItem:
			items = append(items, p.blob())
		default:
			p.fail("element of type %d in a list", typ[0])
		}
	}
	return items
}

func (p *parser) name() string {
	if n := p.take(1); p.err == nil {
		return string(p.take(int(n[0])))
	}
	return ""
}

func (p *parser) blob() []byte {
	if n := p.take(2); p.err == nil {
		return append([]byte(nil), p.take(int(binary.BigEndian.Uint16(n)))...)
	}
	return nil
}

func (p *parser) take(n int) []byte {
	if p.err == nil && len(p.rest) < n {
		p.fail("%d bytes expected, %d are left", n, len(p.rest))
	}
	if p.err != nil {
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}
