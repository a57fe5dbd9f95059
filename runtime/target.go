package runtime

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// A home is what is known of a target once it was contacted.
type home struct {
	user   string // the home directory
	os     string // as GOOS names it
	arch   string // as GOARCH names it
	dir    string // all that aifb writes there is below
	runDir string // the files of this run
}

// open contacts the target, once.
func (s *Session) open(ctx context.Context) (*home, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.home != nil {
		return s.home, nil
	}
	h, err := probeHome(ctx, s.Target)
	if err != nil {
		return nil, err
	}
	h.dir = path.Join(h.user, ".aifb")
	if d := s.Target.Dir; d != "" {
		h.dir = path.Clean(expandHome(d, h.user))
	}
	if !path.IsAbs(h.dir) {
		return nil, Faultf(FaultUsage, "", "target %s: workdir %q is not absolute", s.Target.Name, s.Target.Dir)
	}
	h.runDir = path.Join(h.dir, "runs", s.Run)
	s.view(func(st *RunState) {
		if len(st.Jobs) > 0 { // they are where they are, also if the target has another workdir by now
			h.runDir = path.Dir(st.Jobs[0].Job.Dir)
			h.dir = path.Dir(path.Dir(h.runDir))
		}
	})
	s.home = h
	return h, nil
}

func expandHome(name, home string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return path.Join(home, rest)
	}
	return name
}

// image resolves a recipe's image and makes sure that one that is named by its file is there.
func (s *Session) image(ctx context.Context, h *home, name string) (Image, error) {
	image, err := newImage(name, h.user, h.dir)
	if err != nil || image.URI != "" || image.SIF == "" {
		return image, err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.images[image.SIF] {
		return image, nil
	}
	readable, err := fileIs(ctx, s.Target.Conn, "-r", image.SIF)
	if err == nil && !readable {
		return image, fieldErrorf("image", "it is a path on the target; docker://, oras:// and library:// are pulled",
			"no readable file %s on %s", image.SIF, s.Target.Name)
	}
	s.images[image.SIF] = err == nil
	return image, err
}

// stage brings the aifb binary to the target, once per content, and returns its path there.
func (s *Session) stage(ctx context.Context, h *home) (string, error) {
	if s.Target.Binary != "" {
		return s.Target.Binary, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.aifb != "" {
		return s.aifb, nil
	}
	local, err := s.Binary(h.os, h.arch)
	if err != nil {
		return "", fmt.Errorf("stage aifb: %w", err)
	}
	f, err := os.Open(local)
	if err != nil {
		return "", fmt.Errorf("stage aifb: %w", err)
	}
	defer f.Close()
	if err := CheckStatic(f, h.os); err != nil {
		return "", fmt.Errorf("stage aifb: %s: %w", local, err)
	}
	dir, err := StagedDir(f)
	if err != nil {
		return "", fmt.Errorf("stage aifb: %w", err)
	}
	remote := path.Join(h.dir, dir, "aifb")
	there, err := fileIs(ctx, s.Target.Conn, "-x", remote)
	if err == nil && !there {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			if s.Tell != nil {
				s.Tell("bringing aifb to " + s.Target.Name + ", once")
			}
			err = s.Target.Conn.Put(ctx, remote, 0o755, f)
		}
	}
	if err != nil {
		return "", fmt.Errorf("stage aifb: %w", err)
	}
	s.aifb = remote
	return remote, nil
}

// StagedDir returns the directory, below that of a target, for the copy of an aifb that r reads.
func StagedDir(r io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return "", err
	}
	return path.Join("bin", hex.EncodeToString(hash.Sum(nil)[:8])), nil
}

// CheckStatic refuses a Linux binary that needs the C library of this machine, which the target may not have.
func CheckStatic(f io.ReaderAt, os string) error {
	if os != "linux" {
		return nil
	}
	exe, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	for _, p := range exe.Progs {
		if p.Type == elf.PT_INTERP {
			return Faultf(FaultUsage, "build it with CGO_ENABLED=0", "it is linked dynamically, and may not run on another machine")
		}
	}
	return nil
}

// removeRunDir removes the run's files from the target, and the directories above them that are then empty.
func (s *Session) removeRunDir(ctx context.Context) error {
	if s.home == nil {
		return nil
	}
	if err := removeRun(ctx, s.Target.Conn, s.home.runDir, s.home.dir); err != nil {
		return fmt.Errorf("remove %s: %w", s.home.runDir, err)
	}
	return nil
}

func (s *Session) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}
