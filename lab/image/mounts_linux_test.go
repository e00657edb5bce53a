// SPDX-License-Identifier: Apache-2.0

package image

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountsBelow(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /c/image-1.build-2/tree/proc ro,relatime - proc proc rw
31 22 0:26 / /c/image-1.build-2/tree/sys ro - sysfs sys rw
32 31 0:27 / /c/image-1.build-2/tree/sys/with\040blank\134 rw - tmpfs x rw
33 22 0:28 / /c/image-1.build-23/tree/proc rw - proc proc rw
34 22 0:28 / /c/image-1.build-2 rw - tmpfs tmpfs rw
broken line
`
	want := []string{
		"/c/image-1.build-2", "/c/image-1.build-2/tree/sys/with blank\\",
		"/c/image-1.build-2/tree/sys", "/c/image-1.build-2/tree/proc",
	}
	if d := cmp.Diff(want, mountsBelow(mountinfo, "/c/image-1.build-2")); d != "" {
		t.Error(d)
	}
	if got := mountsBelow(mountinfo, "/d"); len(got) > 0 {
		t.Errorf("mounts below /d: %v", got)
	}
}
