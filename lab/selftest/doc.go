// SPDX-License-Identifier: Apache-2.0

// Package selftest tests the lab by booting it: that output, exit codes and
// files come through, that a machine that hangs or dies is an error, that
// nothing is left running, and that the topology does what it promises. Its
// tests have the build tag "selftest": `go test -tags selftest ./lab/selftest`.
package selftest
