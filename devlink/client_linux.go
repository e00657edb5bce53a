// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// client asks the kernel's devlink family. It lives for one reading: a socket
// whose reply was not waited for holds that reply for ever.
type client struct {
	conn   *genetlink.Conn
	family genetlink.Family
	stop   func() bool
}

// dial opens a client that ends with ctx. It returns nil when the kernel has no
// devlink.
func dial(ctx context.Context) (*client, error) {
	conn, err := genetlink.Dial(&netlink.Config{Strict: true})
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	family, err := conn.GetFamily(unix.DEVLINK_GENL_NAME)
	if err != nil {
		_ = conn.Close()
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("find devlink: %w", kernelError(err))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &client{conn: conn, family: family, stop: stop}, nil
}

func (c *client) close() {
	if c.stop() {
		_ = c.conn.Close()
	}
}

// ask sends one request and returns the replies.
func (c *client) ask(cmd uint8, flags netlink.HeaderFlags, attrs []byte) ([]genetlink.Message, error) {
	req := genetlink.Message{Header: genetlink.Header{Command: cmd, Version: unix.DEVLINK_GENL_VERSION}, Data: attrs}
	msgs, err := c.conn.Execute(req, c.family.ID, netlink.Request|flags)
	if err != nil {
		return nil, kernelError(err)
	}
	return msgs, nil
}

// ports returns the devlink ports of all instances. It is one dump, however
// many functions there are.
func (c *client) ports() ([]port, error) {
	msgs, err := c.ask(unix.DEVLINK_CMD_PORT_GET, netlink.Dump, nil)
	if err != nil {
		return nil, fmt.Errorf("list devlink ports: %w", err)
	}
	ps := make([]port, 0, len(msgs))
	for _, m := range msgs {
		p, err := decodePort(m.Data)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// eswitch reads the eswitch of one instance; found is false when it has none
// or is gone.
func (c *client) eswitch(handle string) (e eswitch, found bool, err error) {
	msgs, err := c.get(unix.DEVLINK_CMD_ESWITCH_GET, handle, "")
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV):
		return e, false, nil
	case err != nil:
		return e, false, fmt.Errorf("read eswitch mode of %s: %w", handle, err)
	case len(msgs) == 0:
		return e, false, nil
	}
	e, err = decodeEswitch(msgs[0].Data)
	return e, err == nil, err
}

// param reads one parameter of an instance, "" when it has none of that name.
func (c *client) param(handle, name string) (string, error) {
	msgs, err := c.get(unix.DEVLINK_CMD_PARAM_GET, handle, name)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV):
		return "", nil // EINVAL is the kernel's word for an unknown parameter
	case err != nil:
		return "", fmt.Errorf("read parameter %s of %s: %w", name, handle, err)
	case len(msgs) == 0:
		return "", nil
	}
	return decodeParam(msgs[0].Data)
}

// params reads the parameters this package knows.
func (c *client) params(handle string) (params, error) {
	steering, err := c.param(handle, "flow_steering_mode")
	if err != nil {
		return params{}, err
	}
	multiport, err := c.param(handle, "esw_multiport")
	return params{steering: steering, multiport: multiport == "true"}, err
}

// get asks one instance, and names a parameter if param is not "".
func (c *client) get(cmd uint8, handle, param string) ([]genetlink.Message, error) {
	bus, dev, _ := strings.Cut(handle, "/")
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.DEVLINK_ATTR_BUS_NAME, bus)
	ae.String(unix.DEVLINK_ATTR_DEV_NAME, dev)
	if param != "" {
		ae.String(unix.DEVLINK_ATTR_PARAM_NAME, param)
	}
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	return c.ask(cmd, 0, attrs)
}

// kernelError puts the kernel's own words before the error number.
func kernelError(err error) error {
	var op *netlink.OpError
	switch {
	case !errors.As(err, &op):
		return err
	case op.Message != "":
		return fmt.Errorf("%s (%w)", op.Message, op.Err)
	}
	return op.Err
}
