// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseKernel reads the version from release, the text of uname -r, as
// "6.12.107+deb13-amd64", "6.12.0-55.9.1.el10_0.x86_64" or "6.18.0-rc3".
//
// Ubuntu's release keeps the patch level 0 for ever; its kernels say which
// upstream version they are in /proc/version_signature, as
// "Ubuntu 6.17.0-8.8-generic 6.17.4". Pass that as signature, "" elsewhere.
func ParseKernel(release, signature string) (Kernel, error) {
	k := Kernel{Release: release}
	major, minor, patch, ok := version(release)
	if !ok {
		return k, fmt.Errorf("parse kernel release %q: want MAJOR.MINOR[.PATCH]", release)
	}
	k.Major, k.Minor, k.Patch = major, minor, patch
	if f := strings.Fields(signature); len(f) > 1 {
		if a, b, c, ok := version(f[len(f)-1]); ok && a == major && b == minor {
			k.Patch = c
		}
	}
	return k, nil
}

// version reads the two or three numbers that s begins with.
func version(s string) (major, minor, patch int, ok bool) {
	major, s, ok = number(s)
	if !ok || !strings.HasPrefix(s, ".") {
		return 0, 0, 0, false
	}
	minor, s, ok = number(s[1:])
	if !ok {
		return 0, 0, 0, false
	}
	if strings.HasPrefix(s, ".") {
		patch, _, _ = number(s[1:])
	}
	return major, minor, patch, true
}

// number reads the decimal number that s begins with and returns what follows.
func number(s string) (n int, rest string, ok bool) {
	rest = strings.TrimLeft(s, "0123456789")
	v, err := strconv.ParseUint(s[:len(s)-len(rest)], 10, 16)
	return int(v), rest, err == nil
}

// String returns the release, or the version when there is none.
func (k Kernel) String() string {
	if k.Release != "" {
		return k.Release
	}
	return fmt.Sprintf("%d.%d.%d", k.Major, k.Minor, k.Patch)
}

// AtLeast tells whether k is the given version or a later one.
func (k Kernel) AtLeast(major, minor, patch int) bool {
	switch {
	case k.Major != major:
		return k.Major > major
	case k.Minor != minor:
		return k.Minor > minor
	}
	return k.Patch >= patch
}

// candidate tells whether k is a release candidate: "6.18.0-rc3",
// "6.18~rc5-amd64", "6.18.0-0.rc3.fc44.x86_64".
func (k Kernel) candidate() bool {
	before, after, found := strings.Cut(k.Release, "rc")
	for found {
		if _, _, ok := number(after); ok && strings.ContainsAny(last(before), "-~.0123456789") {
			return true
		}
		before, after, found = strings.Cut(after, "rc")
	}
	return false
}

// last returns the last byte of s.
func last(s string) string { return s[max(0, len(s)-1):] }

// Supported returns nil, or the reason why this kernel must not be used and
// the version that mends it. A vendor's backports cannot be seen from here.
func (k Kernel) Supported() error {
	switch {
	case !k.AtLeast(6, 6, 0):
		return fmt.Errorf("use kernel %s: no IPsec packet offload together with an eswitch before Linux 6.6: use 6.6.9 or later, best 6.12", k)
	case !k.AtLeast(6, 6, 9):
		return fmt.Errorf("use kernel %s: after the first IPsec object TC offload on the PF stays blocked for ever: fixed in Linux 6.6.9", k)
	case k.AtLeast(6, 17, 4) && !k.AtLeast(6, 17, 9):
		return fmt.Errorf("use kernel %s: it may acknowledge an SA without giving it to the NIC: fixed in Linux 6.17.9", k)
	case k.Major == 6 && k.Minor == 18 && k.candidate():
		return fmt.Errorf("use kernel %s: release candidates of 6.18 may acknowledge an SA without giving it to the NIC: fixed in Linux 6.18", k)
	}
	return nil
}
