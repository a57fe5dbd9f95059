package runtime

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestHide(t *testing.T) {
	t.Parallel()
	hide := new(secrets)
	hide.add("A", "secret")
	hide.add("B", "secretly\n")
	hide.add("C", "abc") // too short
	hide.add("D", "ssss")
	for in, want := range map[string]string{
		"": "", "secre": "secre", "a secret.": "a ***.", "secretly": "***", "secretly\n": "***", "secretlysecret": "******", "sesecret": "se***",
		"abc": "abc", "sssss": "***s", "secretsecre": "***secre", strings.Repeat("x", 40<<10) + "secret": strings.Repeat("x", 40<<10) + "***",
	} {
		whole, err := io.ReadAll(hide.reader(strings.NewReader(in)))
		bytewise, err2 := io.ReadAll(hide.reader(iotest.OneByteReader(strings.NewReader(in))))
		if err != nil || err2 != nil || string(whole) != want || string(bytewise) != want {
			t.Errorf("%.40q: %.40q, %.40q (%v, %v); want %.40q", in, whole, bytewise, err, err2, want)
		}
	}
	if _, err := io.ReadAll(hide.reader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("secret"))))); err != iotest.ErrTimeout {
		t.Errorf("an error of the reader becomes %v", err)
	}
}

func FuzzHide(f *testing.F) {
	f.Add([]byte("a secretly secret"), []byte("secret"), []byte("secretly"))
	f.Fuzz(func(t *testing.T, in, a, b []byte) {
		hide := new(secrets)
		hide.add("A", string(a))
		hide.add("B", string(b))
		whole, _ := io.ReadAll(hide.reader(bytes.NewReader(in)))
		bytewise, _ := io.ReadAll(hide.reader(iotest.OneByteReader(bytes.NewReader(in))))
		if !bytes.Equal(whole, bytewise) {
			t.Errorf("%q without %q, %q: %q, or byte by byte %q", in, a, b, whole, bytewise)
		}
	})
}
