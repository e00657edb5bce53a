// SPDX-License-Identifier: Apache-2.0

// Package image builds and caches what a lab machine boots from: the Debian
// root file system, the kernel, an initial RAM disk that does nothing but mount
// the root, and beside them the same tree as a directory in which the simulated
// NIC's kernel module is compiled.
//
// An image is named by the hash of its recipe. It is built in a directory of
// its own, marked complete with the checksums of its files, and moved into
// place in one step, so that a build that broke off is never taken for an
// image.
package image

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
)

// initScript is the first program of a lab machine. It is part of the image,
// hence of its hash; everything after it comes with each run's payload.
//
//go:embed init.sh
var initScript string

// A Recipe says what an image is made of. Two equal recipes give the same
// image, up to the versions Debian had on the day.
type Recipe struct {
	Suite       string
	Arch        string
	Packages    []string // installed, with their dependencies but without recommendations
	Beside      []string // unpacked under /opt/NAME, because they conflict with one of Packages
	Exclude     []string // dpkg path-exclude globs
	BootModules []string // kernel modules needed to mount the root
	Init        string   // the /init script of the initial RAM disk
	SpareMiB    int      // room left free in the root file system
	Format      int      // raised when the layout of the cache directory changes
}

// DefaultRecipe returns the lab's recipe: Debian 13 with its stock 6.12 kernel.
func DefaultRecipe() Recipe {
	return Recipe{
		Suite: "trixie",
		Arch:  "amd64",
		Packages: []string{
			"linux-image-amd64", "linux-headers-amd64", "make", "busybox-static",
			"openvswitch-switch", "ovn-common", "ovn-host", "ovn-central",
			"charon-systemd", "strongswan-swanctl", "libcharon-extra-plugins", "libstrongswan-standard-plugins",
			"iproute2", "ethtool", "nftables", "tcpdump", "iperf3", "iputils-ping",
			"python3", "python3-openvswitch", "jq", "kmod", "procps", "util-linux", "xz-utils", "less",
			// what libreswan's programs are linked with
			"libaudit1", "libcap-ng0", "libcurl3t64-gnutls", "libevent-core-2.1-7t64",
			"libevent-pthreads-2.1-7t64", "libldap2", "libldns3t64", "libnss3", "libnss3-tools",
			"libpam0g", "libselinux1", "libunbound8",
		},
		Beside:      []string{"libreswan", "openvswitch-ipsec", "strongswan-starter", "strongswan-charon"},
		Exclude:     []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"},
		BootModules: []string{"virtio_blk", "ext4", "crc32c_generic"},
		Init:        initScript,
		SpareMiB:    1024,
		Format:      1,
	}
}

// Hash names the image that the recipe gives: 16 hexadecimal digits.
func (r Recipe) Hash() string {
	// A struct of strings, numbers and slices of strings always marshals.
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
