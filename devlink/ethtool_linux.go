// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// lateCounter is the counter by which mlx5 shows that it judges inbound
// packets after decryption (Linux 6.15).
const lateCounter = "ipsec_rx_drop_mismatch_sa_sel"

// CounterNames returns the names of the IPsec counters that Counters reads, as
// mlx5 has them (en_accel/ipsec_stats.c). The first eight and the last come
// from the NIC, the others from the driver's software path.
func CounterNames() []string {
	return []string{
		"ipsec_rx_pkts", "ipsec_rx_bytes", "ipsec_rx_drop_pkts", "ipsec_rx_drop_bytes",
		"ipsec_tx_pkts", "ipsec_tx_bytes", "ipsec_tx_drop_pkts", "ipsec_tx_drop_bytes",
		"ipsec_rx_drop_sp_alloc", "ipsec_rx_drop_sadb_miss",
		"ipsec_tx_drop_bundle", "ipsec_tx_drop_no_state", "ipsec_tx_drop_not_ip", "ipsec_tx_drop_trailer",
		lateCounter,
	}
}

// Counters reads the IPsec counters of the netdev name (ethtool -S); those that
// its driver does not have are left out. mlx5 asks the firmware for all of its
// counters to answer that, which takes milliseconds: not for every round.
func (r *Reader) Counters(ctx context.Context, name string) (map[string]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", name, err)
	}
	defer e.Close()
	all, err := e.Stats(name)
	if err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", name, err)
	}
	cs := make(map[string]uint64)
	for _, n := range CounterNames() {
		if v, found := all[n]; found {
			cs[n] = v
		}
	}
	return cs, nil
}

// nic reads driver and features of one netdev; found is false when it is gone
// or its driver tells nothing.
func (r *Reader) nic(e *ethtool.Ethtool, l Link) (n nic, found bool, err error) {
	info, err := e.DriverInfo(l.Name)
	if err == nil {
		var features map[string]bool
		features, err = e.Features(l.Name)
		n = nic{driver: info.Driver, esp: features["esp-hw-offload"], tc: features["hw-tc-offload"]}
	}
	if n.esp && err == nil {
		n.afterDecrypt, err = r.late(e, l)
	}
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP):
		return nic{}, false, nil
	case err != nil:
		return nic{}, false, fmt.Errorf("read features of %s: %w", l.Name, err)
	}
	return n, true, nil
}

// late tells whether the netdev has lateCounter. The names of its counters are
// its driver's and stay for the life of the ifindex, so they are read once.
func (r *Reader) late(e *ethtool.Ethtool, l Link) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if late, known := r.lateByIndex[l.Ifindex]; known {
		return late, nil
	}
	all, err := e.Stats(l.Name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return false, err
	}
	_, late := all[lateCounter]
	r.lateByIndex[l.Ifindex] = late
	return late, nil
}
