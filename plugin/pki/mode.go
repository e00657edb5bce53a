// SPDX-License-Identifier: Apache-2.0

package pki

import "io/fs"

// judge says why a file is not to be relied on, or nil. What is secret nobody
// else may read, but for a group that root gave its own file to; what is believed
// nobody else may write. Files belong to root or to the user self.
func judge(ref Ref, mode fs.FileMode, size int64, owner, self int) *Problem {
	switch perm := mode.Perm(); {
	case !mode.IsRegular():
		return problem(CodeFile, "%s: is not a regular file", ref)
	case size > MaxFile:
		return problem(CodeFile, "%s: has %d bytes, and no more than %d are read", ref, size, MaxFile)
	case owner != 0 && owner != self:
		return problem(CodeMode, "%s: belongs to user %d, who could exchange it: run: chown root: %s", ref, owner, ref.Path)
	case perm&0o022 != 0:
		return problem(CodeMode, "%s: others may write to it (mode %04o): check what is in it, then run: chmod go-w %s", ref, perm, ref.Path)
	case ref.Role.secret() && (perm&0o007 != 0 || perm&0o070 != 0 && owner != 0):
		return problem(CodeMode, "%s: others may read it (mode %04o): replace it if anybody could have, then run: chmod 600 %s", ref, perm, ref.Path)
	}
	return nil
}
