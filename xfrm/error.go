// SPDX-License-Identifier: Apache-2.0

package xfrm

import "golang.org/x/sys/unix"

// OpError is why an Op failed. errors.Is finds the kernel's error number, or
// the error of the context. It never holds a key.
type OpError struct {
	Kind    OpKind
	Subject string // addresses, SPI, reqid, selector

	Errno unix.Errno // what the kernel answered; 0: see the other fields
	Ext   string     // the driver's own words (NLMSGERR_ATTR_MSG), or what was found instead

	// NotOffloaded: the kernel acknowledged the object, but it is not on the
	// device it was meant for. It was deleted again.
	NotOffloaded bool

	Err error // a reason on this side: the op makes no sense, the context is done
}

// Error returns "verb subject: reason: the driver's words".
func (e *OpError) Error() string {
	text := e.Kind.String() + " " + e.Subject + ": " + e.reason()
	if e.Ext != "" {
		text += ": " + e.Ext
	}
	return text
}

func (e *OpError) reason() string {
	switch {
	case e.NotOffloaded && e.Err != nil:
		return "the kernel took it but did not offload it, and it cannot be deleted: " + e.Err.Error()
	case e.NotOffloaded:
		return "the kernel took it but did not offload it"
	case e.Err != nil:
		return e.Err.Error()
	}
	return e.Errno.Error()
}

// Unwrap returns the error number, or the reason on this side.
func (e *OpError) Unwrap() error {
	switch {
	case e.Err != nil:
		return e.Err
	case e.Errno != 0:
		return e.Errno
	}
	return nil
}
