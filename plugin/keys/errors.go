// SPDX-License-Identifier: Apache-2.0

package keys

import "fmt"

// The codes of an Error. They are stable: scripts may depend on them.
const (
	CodeName    = "KEY_NAME"    // not a name for a key set
	CodeMissing = "KEY_MISSING" // no such file
	CodeFile    = "KEY_FILE"    // not a readable, regular, small file below the directory
	CodeMode    = "KEY_MODE"    // others than the owner can get at the file
	CodeFormat  = "KEY_FORMAT"  // not a key set of a version this program knows
	CodeWeak    = "KEY_WEAK"    // key or SPI that must not be used
	CodeHost    = "KEY_HOST"    // made for another host
	CodeUsed    = "KEY_USED"    // the outbound key was installed before
	CodeChanged = "KEY_CHANGED" // the file changed between being looked up and being used
	CodeLedger  = "KEY_LEDGER"  // the ledger of outbound keys cannot be relied on
)

// Error is the refusal of a key set or of the ledger. Its text never holds
// anything that was read from a field of secret content.
type Error struct {
	Code string
	Text string // what is wrong and what to do
	err  error
}

// Error returns the text without the code.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause, such as an error of the file system.
func (e *Error) Unwrap() error { return e.err }

// refuse makes an Error; a trailing %w gives it a cause.
func refuse(code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	cause, _ := err.(interface{ Unwrap() error })
	e := &Error{Code: code, Text: err.Error()}
	if cause != nil {
		e.err = cause.Unwrap()
	}
	return e
}
