package runtime

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bytes is an amount of memory.
type Bytes int64

// String returns b with the largest unit that leaves a whole number, such as "4G" or "1536M".
func (b Bytes) String() string {
	units := []string{"", "K", "M", "G", "T"}
	i := 0
	for ; i < len(units)-1 && b != 0 && b%1024 == 0; i++ {
		b /= 1024
	}
	return strconv.FormatInt(int64(b), 10) + units[i]
}

var bytesForm = regexp.MustCompile(`(?i)^(\d{1,12})([KMGT]?)(?:i?B)?$`)

// ParseBytes reads an amount of memory: a number and K, M, G or T, in powers of 1024. Without a unit it is MiB, as in
// Slurm's --mem.
func ParseBytes(s string) (Bytes, error) {
	m := bytesForm.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, fmt.Errorf("%q is not an amount of memory such as 4G or 512M", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]int{"K": 10, "": 20, "M": 20, "G": 30, "T": 40}[strings.ToUpper(m[2])]
	if err != nil || n > int64(1)<<62>>shift {
		return 0, fmt.Errorf("%q is too much memory", s)
	}
	return Bytes(n << shift), nil
}

var clockForm = regexp.MustCompile(`^(?:(\d{1,4})-)?(\d{1,4})(?::(\d{1,2})(?::(\d{1,2}))?)?$`)

// ParseDuration reads a duration as Go writes it ("90s", "1h30m") or as Slurm does: "MM:SS", "HH:MM:SS", "D-HH",
// "D-HH:MM" and "D-HH:MM:SS". A number alone is none: Slurm takes it for minutes, others for seconds.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return 0, fmt.Errorf("%q is a negative duration", s)
		}
		return d, nil
	}
	m := clockForm.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[3] == "" {
		return 0, fmt.Errorf(`%q is not a duration such as "90s", "1h30m" or "01:30:00"`, s)
	}
	n := func(i int) time.Duration { v, _ := strconv.Atoi(m[i]); return time.Duration(v) }
	switch {
	case m[1] != "": // D-HH[:MM[:SS]]
		return n(1)*24*time.Hour + n(2)*time.Hour + n(3)*time.Minute + n(4)*time.Second, nil
	case m[4] != "": // HH:MM:SS
		return n(2)*time.Hour + n(3)*time.Minute + n(4)*time.Second, nil
	}
	return n(2)*time.Minute + n(3)*time.Second, nil // MM:SS
}
