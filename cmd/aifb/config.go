package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/aifb/aifb/runtime"
)

// A config is the config file.
type config struct {
	Target  string                  `yaml:"target"`
	Store   string                  `yaml:"store"`
	Targets map[string]targetConfig `yaml:"targets"`

	person *person // whom targets may ask; nil: nobody
}

// A targetConfig is what the config file says of a target.
type targetConfig struct {
	SSH       string         `yaml:"ssh"`       // an alias of the OpenSSH config, user@host:port, openssh or openssh:ALIAS; empty: this machine
	Scheduler string         `yaml:"scheduler"` // slurm or local; empty: slurm if there is SSH
	WorkDir   string         `yaml:"workdir"`
	Setup     []string       `yaml:"setup"`
	Defaults  targetDefaults `yaml:"defaults"`
}

// targetDefaults are the resources of jobs that say nothing else.
type targetDefaults struct {
	Account    string   `yaml:"account"`
	Partition  string   `yaml:"partition"`
	QOS        string   `yaml:"qos"`
	Constraint string   `yaml:"constraint"`
	Time       string   `yaml:"time"`
	Mem        string   `yaml:"mem"`
	Nodes      int      `yaml:"nodes"`
	Tasks      int      `yaml:"tasks"`
	CPUs       int      `yaml:"cpus"`
	GPUs       int      `yaml:"gpus"`
	Modules    []string `yaml:"modules"`
	Binds      []string `yaml:"binds"`
	Extra      []string `yaml:"extra"`
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "the config `FILE`", EnvVars: []string{"AIFB_CONFIG"},
		DefaultText: "$XDG_CONFIG_HOME/aifb/config.yaml"}
}

func configFile(c *cli.Context) string {
	return cmp.Or(c.String("config"), filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "aifb", "config.yaml"))
}

// readConfig reads the config file. Only one that the user named has to be there.
func readConfig(c *cli.Context) (*config, error) {
	name := configFile(c)
	data, err := os.ReadFile(name)
	if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && c.String("config") == "" {
		return &config{person: newPerson(c.App)}, nil
	}
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultUsage, "", "config: %w", err)
	}
	cfg := &config{person: newPerson(c.App)}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(cfg); err != nil && err != io.EOF {
		return nil, configError(name, err)
	}
	return cfg, nil
}

var (
	unknownKey = regexp.MustCompile(`^(line \d+): field (\S+) not found in type `)
	wrongType  = regexp.MustCompile("^(line \\d+): cannot unmarshal !!(\\w+)(?: `(.*)`)? into (\\S+)$")
)

// configKeys are the keys of a config file, at any depth.
var configKeys = []string{"target", "store", "targets", "ssh", "scheduler", "workdir", "setup", "defaults", "account",
	"partition", "qos", "constraint", "time", "mem", "nodes", "tasks", "cpus", "gpus", "modules", "binds", "extra"}

// configError says what is wrong with a config file, in the file's words and not in those of this program.
func configError(name string, err error) error {
	var hints []string
	if wrong := (*yaml.TypeError)(nil); errors.As(err, &wrong) {
		var texts []string
		for _, text := range wrong.Errors {
			hint := ""
			if m := unknownKey.FindStringSubmatch(text); m != nil {
				text = fmt.Sprintf("%s: there is no key %s", m[1], m[2])
				hint = cmp.Or(runtime.DidYouMean(m[2], configKeys), "its keys are "+strings.Join(configKeys, ", "))
			} else if m := wrongType.FindStringSubmatch(text); m != nil {
				text, hint = configType(m[1], m[2], m[3], m[4])
			}
			texts, hints = append(texts, text), append(hints, hint)
		}
		err = errors.New(strings.Join(texts, "; "))
	}
	return runtime.Faultf(runtime.FaultUsage, cmp.Or(hints...), "config: %s: %w", name, err)
}

// configType says that the value in a line of a config file has another type than the one of this program that is there.
func configType(line, tag, value, goType string) (text, hint string) {
	got := fmt.Sprintf("%q", value)
	switch {
	case tag == "seq":
		got = "a list"
	case tag == "map":
		got = "keys"
	}
	want := "keys and their values"
	switch goType {
	case "string":
		want = "text"
	case "int":
		want = "a whole number"
	case "[]string":
		want, hint = "a list", "write it in brackets, as in setup: [module load Apptainer]"
	case "map[string]main.targetConfig", "main.targetConfig":
		hint = "as in targets: {NAME: {ssh: HOST}}"
	case "main.config":
		hint = "its keys are " + strings.Join(configKeys, ", ")
	}
	return fmt.Sprintf("%s: got %s, want %s", line, got, want), hint
}

// xdg returns a base directory of the XDG specification, which has relative ones ignored.
func xdg(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home(), fallback)
}

// home returns the user's home directory, or "" if there is none.
func home() string {
	dir, _ := os.UserHomeDir()
	return dir
}

// resources turns the defaults of a target into the runtime's.
func (t targetConfig) resources() (runtime.Resources, error) {
	d := t.Defaults
	r := runtime.Resources{
		Account: d.Account, Partition: d.Partition, QOS: d.QOS, Constraint: d.Constraint,
		Nodes: d.Nodes, Tasks: d.Tasks, CPUs: d.CPUs, GPUs: d.GPUs,
		Modules: d.Modules, Binds: d.Binds, Extra: d.Extra, Setup: t.Setup,
	}
	var err1, err2 error
	if d.Time != "" {
		r.Time, err1 = runtime.ParseDuration(d.Time)
	}
	if d.Mem != "" {
		r.Mem, err2 = runtime.ParseBytes(d.Mem)
	}
	if err := errors.Join(err1, err2); err != nil {
		return r, fmt.Errorf("defaults: %w", err)
	}
	return r, nil
}
