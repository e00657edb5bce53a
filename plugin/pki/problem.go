// SPDX-License-Identifier: Apache-2.0

package pki

import "fmt"

// The codes of a Problem. They are stable: scripts may depend on them.
const (
	CodeMissing     = "CERT_MISSING"       // no such file
	CodeFile        = "CERT_FILE"          // not a readable, regular, small file
	CodeMode        = "CERT_MODE"          // others can read what is secret, or write what is believed
	CodeFormat      = "CERT_FORMAT"        // not PEM, or not of the kind that is expected
	CodeEncrypted   = "CERT_KEY_ENCRYPTED" // private key with a passphrase
	CodeKeyType     = "CERT_KEY_TYPE"      // a kind of key that IKE daemons do not sign with
	CodeKeyMismatch = "CERT_KEY_MISMATCH"  // the private key is not that of the certificate
	CodeExpired     = "CERT_EXPIRED"       // too late for the certificate
	CodeNotYet      = "CERT_NOT_YET"       // too early for the certificate
	CodeName        = "CERT_NAME"          // no usable CN, or none in subjectAltName
	CodeRemoteName  = "CERT_REMOTE_NAME"   // remote_cert is another host's than remote_name says
	CodeOwn         = "CERT_OWN"           // remote_cert is this host's own certificate
	CodePSK         = "PSK_FILE"           // the file of a pre-shared key is empty or has several lines

	CodePSKInOVSDB = "PSK_IN_OVSDB"  // note: a pre-shared key stands in the database
	CodeExpires    = "CERT_EXPIRES"  // note: the certificate expires soon
	CodeUnsigned   = "CERT_UNSIGNED" // note: certificate is not signed by ca_cert
	CodeStale      = "CERT_FORMER"   // note: the files cannot be used; what they held before stays in use
)

// Problem is something that an operator can do something about.
type Problem struct {
	Code string // one of the constants
	Text string // what is wrong and what to do; never holds a secret
}

// Error returns the text without the code.
func (p *Problem) Error() string { return p.Text }

func problem(code, format string, args ...any) *Problem {
	return &Problem{Code: code, Text: fmt.Sprintf(format, args...)}
}
