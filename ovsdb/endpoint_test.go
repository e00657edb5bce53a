// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/openvswitch/db.sock": "/run/openvswitch/db.sock",
		"unix:/a b/%41?#/db.sock":       "/a b/%41?#/db.sock",
		"tcp:127.0.0.1:6640":            "127.0.0.1:6640",
		"tcp:[::1]:6640":                "[::1]:6640",
	} {
		e, err := parseEndpoint(in)
		if err != nil || e.address != want {
			t.Errorf("%s: address %q, error %v, want %q", in, e.address, err, want)
			continue
		}
		// This is how libovsdb reads it.
		u, err := url.Parse(e.url)
		if err != nil || u.Path+u.Opaque != want {
			t.Errorf("%s: libovsdb would connect to %q, error %v", in, u.Path+u.Opaque, err)
		}
	}
	for in, why := range map[string]string{
		"":                   "must begin with",
		"/run/db.sock":       "must begin with",
		"unix:":              "must be absolute",
		"unix:db.sock":       "must be absolute",
		"tcp:":               "ADDRESS:PORT",
		"tcp:127.0.0.1":      "ADDRESS:PORT",
		"tcp::6640":          "ADDRESS:PORT",
		"ssl:127.0.0.1:6640": "not supported",
		"punix:/x":           "must begin with",
	} {
		if _, err := New(Config{Endpoint: in}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: error %v, want %q", in, err, why)
		}
	}
}
