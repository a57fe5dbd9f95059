// The program is each of Slurm's commands in the tests of package slurm, by the name that it is called by. It tells the
// test, over a socket, how it was called, and prints what that answers.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 99
	}
	os.Exit(code)
}

func run() (code int, err error) {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 0, err
	}
	conn, err := net.Dial("unix", os.Getenv("AIFB_TEST_SOCKET"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = json.NewEncoder(conn).Encode(struct {
		Name      string
		Args, Env []string
		Stdin     string
	}{filepath.Base(os.Args[0]), os.Args[1:], os.Environ(), string(stdin)})
	if err != nil {
		return 0, err
	}
	var result struct {
		Stdout, Stderr string
		Code           int
	}
	if err := json.NewDecoder(conn).Decode(&result); err != nil {
		return 0, err
	}
	io.WriteString(os.Stdout, result.Stdout)
	io.WriteString(os.Stderr, result.Stderr)
	return result.Code, nil
}
