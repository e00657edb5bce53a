// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"hash/fnv"
	"time"
)

// Limits of the wait between two tries of a pair, or of the host.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 30 * time.Second
)

// trouble is a pair's or the host's last failure.
type trouble struct {
	err   error
	count int
	until time.Time
}

// after returns the trouble that follows from one more failure at now. The wait
// doubles and is spread by the name of what failed, so that pairs that failed
// together do not all come back together.
func (t trouble) after(now time.Time, name string, err error) trouble {
	wait := backoffFirst << min(t.count, 10)
	wait = min(wait, backoffMost)
	h := fnv.New32a()
	h.Write([]byte(name))
	wait += time.Duration(h.Sum32()%256) * wait / 1024
	return trouble{err: err, count: t.count + 1, until: now.Add(wait)}
}
