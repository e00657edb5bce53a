// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin/keys"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make one-shot key sets, and change to them",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysNew(), newKeysRotate())
	return cmd
}

// keysNewFlags are the flags of "keys new".
type keysNewFlags struct{ pair, out, name string }

func newKeysNew() *cobra.Command {
	var f keysNewFlags
	cmd := &cobra.Command{
		Use:   "new --pair A,B --out DIR",
		Short: "Make the key set of two hosts, one file for each",
		Long: `Make the key set of two hosts: DIR/A/NAME.json and DIR/B/NAME.json, readable by
their owner only. Each direction has its own 256-bit key, salt and SPI.

NAME, printed on standard output, is the value for options:ipsec_keys on both
hosts. A key set is used once: after a reboot, or whenever its SAs are lost, the
pair stays blocked until it gets a new one.`,
		Example: "  ovs-ipsec-offload keys new --pair hv1,hv2 --out keys",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.pair, "pair", "", "the two hosts, `A,B`: the names that their database has as system-id, or any other labels")
	cmd.Flags().StringVar(&f.out, "out", "", "`DIR` to write to; it is made if it is missing")
	cmd.Flags().StringVar(&f.name, "name", "", "`NAME` of the set (default: made from the hosts and eight random digits)")
	return cmd
}

func (f keysNewFlags) run(stdout, stderr io.Writer) error {
	a, b, ok := strings.Cut(f.pair, ",")
	switch {
	case !ok || strings.Contains(b, ","):
		return wrongUsef("make key set: --pair must name two hosts, as --pair hv1,hv2")
	case f.out == "":
		return wrongUsef("make key set: --out must name a directory")
	}
	forA, forB, err := keys.NewPair(rand.Reader, time.Now(), f.name, a, b)
	if refused, ok := errors.AsType[*keys.Error](err); ok {
		return wrongUse(refused)
	} else if err != nil {
		return err
	}
	defer forA.Wipe() // both sets share their keys
	paths, err := writePair(f.out, forA, forB)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, forA.Name)
	fmt.Fprintf(stderr, `Give each host its own file, by a way that keeps it secret, as mode 600 in
/etc/ovs-ipsec-offload/keys.d:
  %s for %s
  %s for %s
Then, on both hosts, for the tunnel to the other:
  ovs-vsctl set interface PORT options:ipsec_keys=%s
Remove %s after that: the files are used once, and a copy is of no use to you.
`, paths[0], a, paths[1], b, forA.Name, f.out)
	return nil
}

// writePair writes both files or none.
func writePair(dir string, forA, forB keys.Set) (paths [2]string, err error) {
	if paths[0], err = keys.WriteFile(dir, forA); err != nil {
		return paths, err
	}
	if paths[1], err = keys.WriteFile(dir, forB); err != nil {
		return paths, errors.Join(err, os.Remove(paths[0]))
	}
	return paths, nil
}
