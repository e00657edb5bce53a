// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	etherFence   = 0x88b5 // IEEE 802 local experimental
	fenceTimeout = 10 * time.Second
)

// ports are packet sockets on the ends of the setting. Order is what they are
// about: a fence is a frame of our own that follows the packet through the
// same queues of the same CPU, so that once it has come out, all that the
// packet caused has happened.
type ports struct {
	pf, vf, rep, far *port
	fence            uint64
}

// port is a packet socket bound to one device.
type port struct {
	fd  int
	mac mac
}

func openPorts() (*ports, error) {
	p := &ports{}
	var errs []error
	open := func(ns, dev string) *port {
		o, err := openPort(ns, dev)
		if err != nil {
			errs = append(errs, fmt.Errorf("open %s in %s: %w", dev, ns, err))
		}
		return o
	}
	p.pf, p.rep = open(nsHost, "pf0"), open(nsHost, "rep0")
	p.vf, p.far = open(nsVM, "vf0"), open(nsWire, "far")
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, p.close())...)
	}
	return p, nil
}

func (p *ports) close() error {
	if p == nil {
		return nil
	}
	var errs []error
	for _, o := range []*port{p.pf, p.vf, p.rep, p.far} {
		if o != nil {
			errs = append(errs, unix.Close(o.fd))
		}
	}
	return errors.Join(errs...)
}

// openPort opens a socket from within a namespace, on a thread that ends with
// it if it cannot come back.
func openPort(ns, dev string) (*port, error) {
	type result struct {
		port *port
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		o, err := openPortIn(ns, dev)
		done <- result{o, err}
	}()
	r := <-done
	return r.port, r.err
}

// openPortIn leaves the thread in the namespace.
func openPortIn(ns, dev string) (*port, error) {
	h, err := netns.GetFromName(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := netns.Set(h); err != nil {
		return nil, err
	}
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	all := binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, unix.ETH_P_ALL >> 8})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	o := &port{fd: fd}
	copy(o.mac[:], link.HardwareAddr)
	return o, nil
}

func (o *port) write(frame []byte) error {
	_, err := unix.Write(o.fd, frame)
	return err
}

// read gives the next frame that came in, nil if there is none within the
// time.
func (o *port) read(wait time.Duration) ([]byte, error) {
	buf := make([]byte, 1<<16)
	for {
		fds := []unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(wait.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return nil, err
		}
		n, from, err := unix.Recvfrom(o.fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return nil, err
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
			return buf[:n], nil
		}
	}
}

// drain gives the frames that are waiting.
func (o *port) drain() ([][]byte, error) {
	var frames [][]byte
	for {
		b, err := o.read(0)
		if b == nil || err != nil {
			return frames, err
		}
		frames = append(frames, b)
	}
}

// pass sends a fence from one port and gives the frames that came out at
// another before it.
func (p *ports) pass(from, to *port) ([][]byte, error) {
	p.fence++
	frame := append(append([]byte{}, to.mac[:]...), from.mac[:]...)
	frame = binary.BigEndian.AppendUint16(frame, etherFence)
	frame = binary.BigEndian.AppendUint64(frame, p.fence)
	frame = append(frame, make([]byte, 46)...)
	if err := from.write(frame); err != nil {
		return nil, err
	}
	var before [][]byte
	for {
		b, err := to.read(fenceTimeout)
		if err != nil {
			return nil, err
		}
		if b == nil {
			return nil, fmt.Errorf("a frame of our own did not come through in %v", fenceTimeout)
		}
		if isFence(b, p.fence) {
			return before, nil
		}
		before = append(before, b)
	}
}

func isFence(b []byte, number uint64) bool {
	return len(b) >= 22 && binary.BigEndian.Uint16(b[12:]) == etherFence && binary.BigEndian.Uint64(b[14:]) == number
}

// oneCPU runs a function on one CPU, whose queues then keep the order.
func oneCPU(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var was, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		return err
	}
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(do(), unix.SchedSetaffinity(0, &was))
}

// Send lets a frame loose at a port.
func (k *Kernel) Send(_ context.Context, p Packet) (Fate, error) {
	frame, from, err := k.frame(p)
	if err != nil {
		return Fate{}, err
	}
	var fate Fate
	err = oneCPU(func() error {
		for _, o := range []*port{k.ports.pf, k.ports.vf, k.ports.rep, k.ports.far} {
			if _, err := o.drain(); err != nil {
				return err
			}
		}
		if err := from.write(frame); err != nil {
			return err
		}
		return k.ports.follow(p.From, &fate)
	})
	return fate, err
}

// follow waits until all that a packet from a port causes has happened.
func (p *ports) follow(from Port, fate *Fate) error {
	switch from {
	case VF:
		if _, err := p.pass(p.vf, p.rep); err != nil {
			return err
		}
	case Wire:
		in, err := p.pass(p.far, p.pf)
		if err != nil {
			return err
		}
		if err := p.arrival(in, fate); err != nil {
			return err
		}
	}
	out, err := p.pass(p.pf, p.far)
	if err != nil {
		return err
	}
	fate.Out = decodeAll(out)
	return nil
}

func (p *ports) arrival(atPF [][]byte, fate *Fate) error {
	atVF, err := p.vf.drain()
	if err != nil {
		return err
	}
	switch {
	case len(decodeAll(atVF)) > 0:
		fate.In = VF
	case len(decodeAll(atPF)) > 0:
		fate.In = PF
	}
	return nil
}

func decodeAll(raw [][]byte) []Frame {
	var frames []Frame
	for _, b := range raw {
		if f, ok := decode(b); ok {
			frames = append(frames, f)
		}
	}
	return frames
}

// frame gives the bytes of a packet and the port to let them loose at.
func (k *Kernel) frame(p Packet) ([]byte, *port, error) {
	switch {
	case p.From == PF:
		return p.encode(k.ports.far.mac, k.ports.pf.mac), k.ports.pf, nil
	case p.From == VF:
		return p.encode(k.ports.far.mac, k.ports.vf.mac), k.ports.vf, nil
	case p.ESP == nil:
		return p.encode(k.ports.pf.mac, k.ports.far.mac), k.ports.far, nil
	}
	key, err := k.keyFor(p)
	if err != nil {
		return nil, nil, err
	}
	b, err := p.encodeESP(k.ports.pf.mac, k.ports.far.mac, key)
	return b, k.ports.far, err
}

// keyFor finds the inbound state that an ESP packet is for.
func (k *Kernel) keyFor(p Packet) (espKey, error) {
	for i := len(k.states) - 1; i >= 0; i-- {
		if s := k.states[i]; s.SPI == p.ESP.SPI && s.Dst == p.Dst {
			return keyOf(s)
		}
	}
	return espKey{}, fmt.Errorf("no inbound state of spi %#x was added", p.ESP.SPI)
}
