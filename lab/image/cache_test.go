// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// makeSmall makes an image of a few bytes, in place of Debian's tools.
func makeSmall(_ context.Context, r Recipe, dir string, _ io.Writer) (string, error) {
	for _, name := range []string{diskFile, kernelFile, initrdFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(r.Suite+" "+name), 0o644); err != nil {
			return "", err
		}
	}
	return "6.12", os.Mkdir(filepath.Join(dir, treeDir), 0o755)
}

// testCache returns a cache and the number of images made in it.
func testCache(t *testing.T) (*Cache, *int, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := OpenCache(filepath.Join(t.TempDir(), "cache"), &log)
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	c.make = func(ctx context.Context, r Recipe, dir string, log io.Writer) (string, error) {
		made++
		return makeSmall(ctx, r, dir, log)
	}
	return c, &made, &log
}

func ensure(t *testing.T, c *Cache, r Recipe) *Image {
	t.Helper()
	img, err := c.Ensure(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestImageIsMadeOnce(t *testing.T) {
	c, made, _ := testCache(t)
	r := DefaultRecipe()
	first := ensure(t, c, r)
	second := ensure(t, c, r)
	if *made != 1 || *first != *second {
		t.Errorf("made %d images: %v, %v", *made, first, second)
	}
	if release, err := first.release(); release != "6.12" || err != nil {
		t.Errorf("release %q, %v", release, err)
	}
	r.Packages = append(r.Packages, "one-more")
	if other := ensure(t, c, r); *made != 2 || other.Disk() == first.Disk() {
		t.Errorf("another recipe gave the same image %s", other.Disk())
	}
}

func TestManyBuildersMakeOne(t *testing.T) {
	c, made, _ := testCache(t)
	c.log = io.Discard
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Ensure(t.Context(), DefaultRecipe()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if *made != 1 {
		t.Errorf("made %d images", *made)
	}
}

func TestBrokenImageIsMadeAgain(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(t *testing.T, i *Image){
		"disk cut off":    func(t *testing.T, i *Image) { write(t, i.Disk(), "") },
		"disk changed":    func(t *testing.T, i *Image) { write(t, i.Disk(), "trixie root.exx4") },
		"kernel missing":  func(t *testing.T, i *Image) { must(t, os.Remove(i.Kernel())) },
		"initrd changed":  func(t *testing.T, i *Image) { write(t, i.Initrd(), "x") },
		"tree missing":    func(t *testing.T, i *Image) { must(t, os.RemoveAll(i.Tree())) },
		"mark missing":    func(t *testing.T, i *Image) { must(t, os.Remove(filepath.Join(i.dir, markFile))) },
		"mark cut off":    func(t *testing.T, i *Image) { write(t, filepath.Join(i.dir, markFile), `{"Recipe":`) },
		"mark of another": func(t *testing.T, i *Image) { write(t, filepath.Join(i.dir, markFile), `{"Recipe":"x"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			c, made, _ := testCache(t)
			img := ensure(t, c, DefaultRecipe())
			spoil(t, img)
			again := ensure(t, c, DefaultRecipe())
			if *made != 2 {
				t.Fatalf("made %d images, want 2", *made)
			}
			text, err := os.ReadFile(again.Disk())
			if string(text) != "trixie root.ext4" {
				t.Errorf("disk is %q, %v", text, err)
			}
		})
	}
}

func TestTouchedImageIsTakenByItsChecksum(t *testing.T) {
	c, made, _ := testCache(t)
	img := ensure(t, c, DefaultRecipe())
	text, _ := os.ReadFile(img.Disk())
	if err := os.WriteFile(img.Disk(), text, 0o644); err != nil { // same bytes, another time
		t.Fatal(err)
	}
	if ensure(t, c, DefaultRecipe()); *made != 1 {
		t.Errorf("made %d images, want 1", *made)
	}
}

func TestVerifyReadsEverything(t *testing.T) {
	c, _, _ := testCache(t)
	img := ensure(t, c, DefaultRecipe())
	if _, err := c.Verify(DefaultRecipe()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(img.Disk())
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(img.Disk(), []byte("trixie root.exx4"), 0o644)) // same size
	must(t, os.Chtimes(img.Disk(), st.ModTime(), st.ModTime()))          // and time
	if _, err := c.Verify(DefaultRecipe()); err == nil {
		t.Error("a changed disk was not noticed")
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	c, _, _ := testCache(t)
	c.make = func(ctx context.Context, r Recipe, dir string, log io.Writer) (string, error) {
		_, err := makeSmall(ctx, r, dir, log)
		return "", errors.Join(err, errors.New("mirror is down"))
	}
	_, err := c.Ensure(t.Context(), DefaultRecipe())
	if err == nil || err.Error() != "build image: mirror is down" {
		t.Errorf("error %v", err)
	}
	if left := glob(filepath.Join(c.dir, "image-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestBrokenOffBuildIsRemoved(t *testing.T) {
	c, _, _ := testCache(t)
	half := c.path(DefaultRecipe()) + ".build-123"
	if err := os.MkdirAll(filepath.Join(half, treeDir), 0o755); err != nil {
		t.Fatal(err)
	}
	ensure(t, c, DefaultRecipe())
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half build is still there: %v", err)
	}
}

func TestPruneKeepsTheOne(t *testing.T) {
	c, made, _ := testCache(t)
	old := DefaultRecipe()
	old.Suite = "older"
	ensure(t, c, old)
	img := ensure(t, c, DefaultRecipe())
	if err := c.Prune(t.Context(), DefaultRecipe()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{img.dir}, glob(filepath.Join(c.dir, "image-*"))); d != "" || *made != 2 {
		t.Error(d)
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"OVS_IPSEC_LAB_CACHE": "/a", "HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/a"},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/ovs-ipsec-offload-lab"},
		{map[string]string{"HOME": "/h"}, "/h/.cache/ovs-ipsec-offload-lab"},
	} {
		got, err := DefaultDir(func(name string) string { return c.env[name] })
		if got != c.want || err != nil {
			t.Errorf("%v: got %s, %v; want %s", c.env, got, err, c.want)
		}
	}
	if _, err := DefaultDir(func(string) string { return "" }); err == nil {
		t.Error("no error without HOME")
	}
}

// must ends the test if preparing it failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
