package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"regexp"
	"strings"
)

var imageURI = regexp.MustCompile(`^(docker|oras|library)://.+$`)

// newImage finds the file of an image: a URI is pulled to a file below dir that is named after it, so that all jobs
// and runs share it; anything else is the path of a file on the target, where ~/ is the home directory.
func newImage(image, home, dir string) (Image, error) {
	switch {
	case image == "":
		return Image{}, nil
	case imageURI.MatchString(image):
		sum := sha256.Sum256([]byte(image))
		name := regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(image[strings.Index(image, "://")+3:], "_")
		return Image{URI: image, SIF: path.Join(dir, "images", name+"-"+hex.EncodeToString(sum[:6])+".sif")}, nil
	case strings.Contains(image, "://"):
		return Image{}, fieldErrorf("image", "an image is a SIF file on the target, or docker://, oras:// or library://",
			"%q has an unknown scheme", image)
	case strings.HasPrefix(image, "~/"):
		return Image{SIF: path.Join(home, image[2:])}, nil
	case !strings.HasPrefix(image, "/"):
		hint := "write docker://" + image + " if it is in a registry, or the absolute path of a SIF file on the target"
		return Image{}, fieldErrorf("image", hint, "%q is neither a URI nor an absolute path", image)
	}
	return Image{SIF: image}, nil
}

// command returns the argument vector that runs the spec's command, in its container if it has one. Below dir are the
// job's files, which a container must see.
func command(spec *JobSpec, image Image, dir string) []string {
	argv := spec.Args
	if spec.Command != "" {
		argv = []string{"/bin/sh", "-c", spec.Command}
		if len(spec.Args) > 0 {
			argv = append([]string{spec.Command}, spec.Args...)
		}
	}
	if image.SIF == "" {
		return argv
	}
	verb := "exec"
	if spec.Command == "" {
		verb = "run" // the image's own entry point
	}
	apptainer := []string{"apptainer", "--silent", verb, "--bind", dir}
	for _, b := range spec.Binds {
		apptainer = append(apptainer, "--bind", b)
	}
	if spec.GPUs > 0 {
		apptainer = append(apptainer, "--nv")
	}
	return append(append(apptainer, image.SIF), argv...)
}
