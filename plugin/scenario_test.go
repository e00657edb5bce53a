// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"flag"
	"fmt"
	"io"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the scenarios give into their files")

// TestScenarios plays the stories in testdata/scenarios. Each is a script whose
// commands act on a hypervisor with one PF (pf0, 10.0.0.1/24, fd00::1/64) and a
// daemon; see the functions below for what they do.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/scenarios",
		UpdateScripts: *update,
		Cmds:          scenarioCommands(),
		Setup: func(e *testscript.Env) error {
			e.Values[rigKey{}] = standardRig()
			return nil
		},
	})
}

type rigKey struct{}

type command func(r *rig, args []string, out io.Writer) error

func commands() map[string]command {
	return map[string]command{
		"pf": cmdPF, "link": cmdLink, "vxlan": cmdVXLAN, "addr": cmdAddr, "knob": cmdKnob, "devlink": cmdDevlink,
		"keys": cmdKeys, "port": cmdPort, "delport": cmdDelPort, "many": cmdMany, "ovs": cmdOVS, "settings": cmdSettings,
		"plan": cmdPlan, "round": cmdRound, "status": cmdStatus, "reports": cmdReports,
		"send": cmdSend, "receive": cmdReceive, "nic": cmdNIC, "kernel": cmdKernel,
		"lose": cmdLose, "restart": cmdRestart, "reboot": cmdReboot, "pass": cmdPass, "clock": cmdClock, "settled": cmdSettled, "fault": cmdFault,
		"repair": cmdRepair, "park": cmdPark, "unpark": cmdUnpark, "alarm": cmdAlarm, "ike": cmdIKE,
		"peer": cmdPeer, "rotate": cmdRotate, "traffic": cmdTraffic, "shadow": cmdShadow, "audit": cmdAudit,
	}
}

func scenarioCommands() map[string]func(*testscript.TestScript, bool, []string) {
	fs := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range commands() {
		fs[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			err := c(ts.Value(rigKey{}).(*rig), args, ts.Stdout())
			switch {
			case neg && err == nil:
				ts.Fatalf("%s: no error", name)
			case neg:
				fmt.Fprintln(ts.Stdout(), err)
			case err != nil:
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return fs
}
