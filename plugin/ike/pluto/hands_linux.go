// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// libexec is where Debian and Fedora have libreswan's programs.
const libexec = "/usr/libexec/ipsec"

// Whack is the program by which pluto is asked: where it is libreswan is installed.
const Whack = libexec + "/whack"

// Socket is where pluto listens for whack.
const Socket = "/run/pluto/pluto.ctl"

// SecretsFile is the name of the file of secrets in Command.Dir.
const SecretsFile = "secrets"

// Command does what Hands asks by libreswan's own commands.
type Command struct {
	// Dir is a directory of ours in a tmpfs: configurations and secrets.
	Dir string
	// Libexec is where whack and addconn are; "" for where Debian and Fedora have
	// them. They are run as they are: the script ipsec costs ten times as much.
	Libexec string
}

func (h Command) tool(name string) string { return filepath.Join(cmp.Or(h.Libexec, libexec), name) }

// PID returns the process in pluto's pid file, if it lives.
func (h Command) PID(context.Context) (int, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(Socket), "pluto.pid"))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("read pluto.pid: %q is no process", text)
	}
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return 0, errors.New("pluto does not run")
	}
	return pid, nil
}

// Whack runs whack.
func (h Command) Whack(ctx context.Context, args ...string) (string, error) {
	return h.run(ctx, "whack", args...)
}

func (h Command) run(ctx context.Context, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, h.tool(tool), args...)
	cmd.WaitDelay = time.Second // a child of it may hold the pipe
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return string(out), ctx.Err()
	}
	return string(out), err
}

// Add writes the configuration of one connection and has addconn tell pluto.
func (h Command) Add(ctx context.Context, name, text string) (string, error) {
	path := h.path(name)
	h.Forget(name)
	if err := write(path+".conf", []byte(text)); err != nil {
		return "", err
	}
	out, err := h.run(ctx, "addconn", "--config", path+".conf", name)
	if err != nil {
		h.Forget(name)
		return out, err
	}
	pid, err := h.PID(ctx)
	if err != nil {
		return out, err
	}
	return out, write(path+".pid", []byte(strconv.Itoa(pid)))
}

// Kept returns the configurations that were given to the pluto of that process.
func (h Command) Kept(pid int) map[string]string {
	kept := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(h.Dir, "*.pid"))
	for _, file := range files {
		owner, err := os.ReadFile(file)
		base := strings.TrimSuffix(file, ".pid")
		if err != nil || string(owner) != strconv.Itoa(pid) {
			continue
		}
		if text, err := os.ReadFile(base + ".conf"); err == nil {
			kept[filepath.Base(base)] = string(text)
		}
	}
	return kept
}

// Forget removes the files of a connection.
func (h Command) Forget(name string) {
	_ = os.Remove(h.path(name) + ".pid")
	_ = os.Remove(h.path(name) + ".conf")
}

func (h Command) path(name string) string { return filepath.Join(h.Dir, filepath.Base(name)) }

// Secrets replaces the file that /etc/ipsec.d/ovs-ipsec-offload.secrets includes.
func (h Command) Secrets(text []byte) (bool, error) {
	path := filepath.Join(h.Dir, SecretsFile)
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	return true, write(path, text)
}

// write replaces a file that only this program's user may read.
func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
