// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCodeOf(t *testing.T) {
	refused := func(kind OpKind, n unix.Errno, ext string) error {
		return fmt.Errorf("round 1: %w", &OpError{Kind: kind, Errno: n, Ext: ext})
	}
	for _, test := range []struct {
		err  error
		want Code
	}{
		{nil, ""},
		{&OpError{NotOffloaded: true, Err: unix.EPERM}, CodeNotOffloaded},
		{refused(AddSA, unix.EBUSY, "mlx5_core: Device failed to offload this state"), CodeBusy},
		{refused(AddPolicy, unix.EBUSY, "mlx5_core: Eswitch busy, can't add policy"), CodeBusy},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Device failed to offload this state"), CodeTransient},
		{refused(AddPolicy, unix.EINVAL, "mlx5_core: Device failed to offload this policy"), CodeTransient},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Packet offload tunnel mode is disabled due to encap settings"), CodeTunnelEncap},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Packet offload is not supported for tunnel mode"), CodeNoTunnel},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Packet offload is not supported"), CodeNoPacket},
		{refused(AddPolicy, unix.EOPNOTSUPP, "mlx5_core: Device doesn't support IPsec packet offload"), CodeNoPacket},
		{refused(AddSA, unix.EINVAL, ""), CodeNoPacket},
		{refused(AddPolicy, unix.EINVAL, ""), CodeRefused},
		{refused(AddPolicy, unix.EINVAL, "Policy offload is not supported"), CodeNoPolicyOffload},
		{refused(AddPolicy, unix.EINVAL, "mlx5_core: Device does not support policy priority"), CodeNoPriority},
		{refused(AddPolicy, unix.EINVAL, "mlx5_core: Device does not support requested policy priority"), CodeNoPriority},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Cannot offload ESN xfrm states"), CodeNoESN},
		{refused(AddSA, unix.EINVAL, "Type doesn't support offload"), CodeModule},
		{refused(AddSA, unix.EPROTONOSUPPORT, "Requested type not found"), CodeModule},
		{refused(AddSA, unix.ENOSYS, "Requested AEAD algorithm not found"), CodeAlgorithm},
		{refused(AddSA, unix.EINVAL, "mlx5_core: Cannot offload without reqid"), CodeRefused},
		{refused(AddSA, unix.EEXIST, ""), CodeExists},
		{refused(DeleteSA, unix.ESRCH, ""), CodeNotFound},
		{refused(DeletePolicy, unix.ENOENT, ""), CodeNotFound},
		{refused(AddSA, unix.EPERM, ""), CodePermission},
		{refused(AddSA, unix.ENOMEM, ""), CodeNoSpace},
		{refused(AddSA, unix.EIO, ""), CodeFailed},
		{&OpError{Err: context.Canceled}, CodeCanceled},
		{&OpError{Err: errNoAnswer}, CodeNoAnswer},
		{&OpError{Err: errors.New("it has no key")}, CodeInvalid},
		{fmt.Errorf("open NETLINK_XFRM: %w", unix.EPROTONOSUPPORT), CodeNoXFRM},
		{errInterrupted, CodeFailed},
	} {
		if got := CodeOf(test.err); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}

func TestRemediesOfWhatCanBeRemedied(t *testing.T) {
	without := map[Code]bool{
		"": true, CodeNotFound: true, CodeNoAnswer: true, CodeCanceled: true, CodeInvalid: true, CodeFailed: true,
	}
	for _, c := range []Code{
		"", CodeNotOffloaded, CodeExists, CodeNotFound, CodePermission, CodeBusy, CodeTransient,
		CodeTunnelEncap, CodeNoTunnel, CodeNoPacket, CodeNoPolicyOffload, CodeNoPriority, CodeNoESN,
		CodeModule, CodeAlgorithm, CodeNoXFRM, CodeNoSpace, CodeNoAnswer, CodeCanceled, CodeRefused,
		CodeInvalid, CodeFailed,
	} {
		if (c.Remedy() == "") != without[c] {
			t.Errorf("%s: remedy %q", c, c.Remedy())
		}
	}
}
