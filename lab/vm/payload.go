// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/guest"
)

// A File is put into the machine before it boots.
type File struct {
	From string // file or directory of the host; "" makes To an empty directory
	To   string // path in the machine below /lab, with no leading slash
	Mode fs.FileMode
}

// sectorSize is what the size of a disk is a multiple of.
const sectorSize = 512

// writePayload writes the archive that the machine unpacks to /lab: itself (the
// program self is also the machine's first process), the guest's scripts, the
// plan, and files.
func writePayload(w io.Writer, self string, plan guest.Plan, files []File) error {
	archive := tar.NewWriter(w)
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err := addBytes(archive, path.Base(guest.PlanFile), 0o600, text); err != nil {
		return err
	}
	if err := addScripts(archive); err != nil {
		return err
	}
	own := []File{{To: path.Base(guest.WorkDir)}, {To: path.Base(guest.OutDir)}, {From: self, To: "init", Mode: 0o755}}
	for _, f := range append(own, files...) {
		if err := addFile(archive, f); err != nil {
			return fmt.Errorf("pack %s: %w", f.From, err)
		}
	}
	return archive.Close()
}

func addScripts(archive *tar.Writer) error {
	return fs.WalkDir(guest.Scripts, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := guest.Scripts.ReadFile(name)
		if err != nil {
			return err
		}
		return addBytes(archive, name, 0o755, text)
	})
}

func addBytes(archive *tar.Writer, name string, mode int64, data []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := archive.Write(data)
	return err
}

// addFile adds a file, or a directory with what is in it. Symbolic links are
// followed at the top and copied as links below.
func addFile(archive *tar.Writer, f File) error {
	if f.From == "" {
		return archive.WriteHeader(&tar.Header{Name: f.To + "/", Mode: 0o777, Typeflag: tar.TypeDir})
	}
	from, err := filepath.EvalSymlinks(f.From)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return addEntry(archive, name, path.Join(f.To, filepath.ToSlash(rel)), f.Mode)
	})
}

// addEntry adds one file, directory or link; mode 0 keeps the file's own. Other
// kinds (sockets, devices) are left out.
func addEntry(archive *tar.Writer, from, to string, mode fs.FileMode) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(from); err != nil {
			return err
		}
	} else if !info.IsDir() && !info.Mode().IsRegular() {
		return nil
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Uid, header.Gid, header.Uname, header.Gname = to, 0, 0, "", ""
	if info.IsDir() {
		header.Name += "/"
	}
	if mode != 0 && info.Mode().IsRegular() {
		header.Mode = int64(mode.Perm())
	}
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	_, err = archive.Write(data)
	return err
}

// payloadDisk writes the payload to a file in memory that has no name.
func payloadDisk(self string, plan guest.Plan, files []File) (*os.File, error) {
	var buf bytes.Buffer
	if err := writePayload(&buf, self, plan, files); err != nil {
		return nil, err
	}
	buf.Write(make([]byte, (sectorSize-buf.Len()%sectorSize)%sectorSize))
	fd, err := unix.MemfdCreate("lab-payload", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make payload: %w", err)
	}
	disk := os.NewFile(uintptr(fd), "lab-payload")
	if _, err := disk.Write(buf.Bytes()); err != nil {
		disk.Close()
		return nil, fmt.Errorf("make payload: %w", err)
	}
	return disk, nil
}
