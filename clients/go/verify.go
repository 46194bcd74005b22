package stentor

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// signaturesMax is how many signatures of one header are looked at; it comes from outside.
const signaturesMax = 16

// ErrInvalidSignature is why a request is not genuine: it was not signed with this secret, or too long ago. Answer it with 401.
var ErrInvalidSignature = errors.New("stentor: invalid signature")

// VerifyOptions say how a webhook is verified.
type VerifyOptions struct {
	// Format is map, standard, gateway or feed; empty: the headers tell, and those with a time in the signature are preferred.
	// gateway and feed have none, so they cannot tell a repetition.
	Format string
	// Tolerance is how far the time of a signature may be from now; 0: five minutes.
	Tolerance time.Duration
	// Now is the time to judge by; zero: the clock.
	Now time.Time
}

func invalid(format string, about ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidSignature, fmt.Sprintf(format, about...))
}

// VerifyWebhook checks that a request was sent by the server that knows the secret. The body is the raw one: the bytes that
// arrived, before anything parsed them.
func VerifyWebhook(body []byte, header http.Header, secret string, options VerifyOptions) error {
	if options.Tolerance == 0 {
		options.Tolerance = 5 * time.Minute
	}
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	format := options.Format
	if format == "" {
		format = formatOf(header)
	}
	switch format {
	case "map":
		at, err := recent(header, "X-Wanderer-Timestamp", options)
		if err != nil {
			return err
		}
		sum := hmac.New(sha256.New, []byte(secret))
		sum.Write([]byte(at + "."))
		sum.Write(body)
		wanted := "sha256=" + hex.EncodeToString(sum.Sum(nil))
		return oneOf(wanted, header.Get("X-Wanderer-Signature"), header.Get("X-Wanderer-Signature-Previous"))
	case "standard":
		at, err := recent(header, "Webhook-Timestamp", options)
		if err != nil {
			return err
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) < 24 || len(key) > 64 {
			return invalid("the secret is no key of Standard Webhooks: base64 of 24 to 64 bytes")
		}
		sum := hmac.New(sha256.New, key)
		sum.Write([]byte(header.Get("Webhook-Id") + "." + at + "."))
		sum.Write(body)
		given := strings.SplitN(header.Get("Webhook-Signature"), " ", signaturesMax+1)
		if len(given) > signaturesMax {
			given = given[:signaturesMax]
		}
		return oneOf("v1,"+base64.StdEncoding.EncodeToString(sum.Sum(nil)), given...)
	case "gateway":
		sum := hmac.New(sha512.New, []byte(secret))
		sum.Write(body)
		return oneOf(hex.EncodeToString(sum.Sum(nil)), header.Get("X-Webhook-Hmac"))
	case "feed":
		sum := hmac.New(sha256.New, []byte(secret))
		sum.Write(body)
		return oneOf("sha256="+hex.EncodeToString(sum.Sum(nil)), header.Get("X-AeorDB-Signature"))
	case "none":
		return invalid("the request has no signature of Stentor; is the secret set on the webhook?")
	}
	return fmt.Errorf("stentor: format must be map, standard, gateway or feed, not %q", format)
}

func formatOf(header http.Header) string {
	for _, known := range [][2]string{
		{"X-Wanderer-Signature", "map"}, {"Webhook-Signature", "standard"},
		{"X-Webhook-Hmac", "gateway"}, {"X-AeorDB-Signature", "feed"},
	} {
		if header.Get(known[0]) != "" {
			return known[1]
		}
	}
	return "none"
}

func recent(header http.Header, name string, options VerifyOptions) (string, error) {
	text := header.Get(name)
	seconds, err := strconv.ParseUint(text, 10, 40)
	if err != nil {
		return "", invalid("the header %s is missing or no time in seconds", name)
	}
	distance := options.Now.Sub(time.Unix(int64(seconds), 0))
	if distance < 0 {
		distance = -distance
	}
	if distance > options.Tolerance {
		return "", invalid("the signature is more than %s from now; is the clock right?", options.Tolerance)
	}
	return text, nil
}

func oneOf(wanted string, given ...string) error {
	matches := false
	for _, text := range given {
		// each is compared in a time that does not depend on where they differ
		matches = hmac.Equal([]byte(wanted), []byte(text)) || matches
	}
	if !matches {
		return invalid("the signature is another one: another secret, or a body that was changed on its way")
	}
	return nil
}
