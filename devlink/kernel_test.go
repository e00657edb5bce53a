// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseKernel(t *testing.T) {
	tests := []struct {
		release, signature  string
		major, minor, patch int
	}{
		{"6.12.107+deb13-amd64", "", 6, 12, 107},
		{"6.12.38+deb13-cloud-amd64", "", 6, 12, 38},
		{"6.1.0-28-amd64", "", 6, 1, 0},
		{"6.18~rc5-amd64", "", 6, 18, 0},
		{"5.14.0-503.11.1.el9_5.x86_64", "", 5, 14, 0},
		{"6.12.0-55.9.1.el10_0.x86_64", "", 6, 12, 0},
		{"6.17.6-300.fc43.x86_64", "", 6, 17, 6},
		{"6.18.0-0.rc3.251030ge53642b87a4f.32.fc44.x86_64", "", 6, 18, 0},
		{"6.8.0-45-generic", "Ubuntu 6.8.0-45.45-generic 6.8.12", 6, 8, 12},
		{"6.17.0-8-generic", "Ubuntu 6.17.0-8.8-generic 6.17.4", 6, 17, 4},
		{"6.17.0-8-generic", "Ubuntu 6.17.0-8.8-generic", 6, 17, 0},
		{"6.17.0-8-generic", "Ubuntu 6.8.0-45.45-generic 6.8.12", 6, 17, 0},
		{"6.12.107", "", 6, 12, 107},
		{"6.18", "", 6, 18, 0},
		{"6.18.0-rc3-next-20251030", "", 6, 18, 0},
		{"6.17.8-arch1-1", "", 6, 17, 8},
		{"7.0.10", "", 7, 0, 10},
		{"6.12.107.custom", "", 6, 12, 107},
	}
	for _, tt := range tests {
		got, err := ParseKernel(tt.release, tt.signature)
		if err != nil {
			t.Errorf("ParseKernel(%q): %v", tt.release, err)
		}
		want := Kernel{Major: tt.major, Minor: tt.minor, Patch: tt.patch, Release: tt.release}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseKernel(%q, %q) (-want +got):\n%s", tt.release, tt.signature, diff)
		}
	}
}

func TestParseKernelRefuses(t *testing.T) {
	for _, release := range []string{"", "6", "linux", "6.", ".12.1", "6.x", "99999999.1.1", "-6.12"} {
		if k, err := ParseKernel(release, ""); err == nil {
			t.Errorf("ParseKernel(%q) = %+v, want an error", release, k)
		}
	}
}

func TestKernelSupported(t *testing.T) {
	tests := []struct{ release, signature, want string }{
		{"5.14.0-503.11.1.el9_5.x86_64", "", "use 6.6.9 or later"},
		{"6.1.0-28-amd64", "", "use 6.6.9 or later"},
		{"6.5.13", "", "use 6.6.9 or later"},
		{"6.6.8", "", "fixed in Linux 6.6.9"},
		{"6.6.0", "", "fixed in Linux 6.6.9"},
		{"6.6.9", "", ""},
		{"6.7.0", "", ""},
		{"6.8.0-45-generic", "", ""},
		{"6.12.107+deb13-amd64", "", ""},
		{"6.12.0-55.9.1.el10_0.x86_64", "", ""},
		{"6.17.3", "", ""},
		{"6.17.4", "", "fixed in Linux 6.17.9"},
		{"6.17.8-arch1-1", "", "fixed in Linux 6.17.9"},
		{"6.17.0-8-generic", "Ubuntu 6.17.0-8.8-generic 6.17.4", "fixed in Linux 6.17.9"},
		{"6.17.9", "", ""},
		{"6.18.0-rc3", "", "fixed in Linux 6.18"},
		{"6.18~rc5-amd64", "", "fixed in Linux 6.18"},
		{"6.18.0-0.rc3.251030ge53642b87a4f.32.fc44.x86_64", "", "fixed in Linux 6.18"},
		{"6.18.0-061800rc3-generic", "", "fixed in Linux 6.18"},
		{"6.18.0-arch1-1", "", ""},
		{"6.18.44", "", ""},
		{"6.19.0-rc1", "", ""},
		{"7.0.10", "", ""},
	}
	for _, tt := range tests {
		k, err := ParseKernel(tt.release, tt.signature)
		if err != nil {
			t.Fatal(err)
		}
		got := k.Supported()
		switch {
		case (got == nil) != (tt.want == ""):
			t.Errorf("%s: Supported() = %v, want %q", tt.release, got, tt.want)
		case got != nil && (!strings.Contains(got.Error(), tt.want) || !strings.Contains(got.Error(), tt.release)):
			t.Errorf("%s: Supported() = %v, want it to name the release and %q", tt.release, got, tt.want)
		}
	}
}
