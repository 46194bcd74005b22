// Package stentor is a client of Stentor, a server of real-time events: it publishes events, follows them over
// server-sent events or WebSocket, verifies webhooks, and manages a server. It needs the standard library only.
//
//	err := stentor.Follow("http://127.0.0.1:8080", token, "map:home", "home.cursor", func(event stentor.Event) {
//		fmt.Println(event.Type, string(event.Payload))
//	})
package stentor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// answerBytesMax is the largest answer that is read.
	answerBytesMax = 64 << 20
	// answerTimeout is the longest wait for an answer, its body included.
	answerTimeout = 30 * time.Second
	// retryAfterMax is the longest wait that a server may ask for.
	retryAfterMax = 24 * time.Hour
	// publishFor is how long publishing is tried again.
	publishFor = 30 * time.Second
	// pagesMax is how many pages of a list are read before it is taken to have no end.
	pagesMax = 10_000
)

// Client publishes, follows and manages, with one token. It may be used by several goroutines.
type Client struct {
	server string
	token  func(context.Context) (string, error)
	http   *http.Client
}

// Option changes how a client works.
type Option func(*Client)

// WithHTTPClient has requests sent by a client of your own, for proxies or certificates. Its timeout must be 0: streams have no end.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) { c.http = client }
}

// WithTokenSource asks for the token whenever a request is made, for tokens that expire.
func WithTokenSource(token func(context.Context) (string, error)) Option {
	return func(c *Client) { c.token = token }
}

// New makes a client of the server at an address such as https://events.example.org.
func New(server, token string, options ...Option) (*Client, error) {
	parsed, err := url.Parse(server)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" {
		return nil, errors.New("stentor: server must be an address such as https://events.example.org")
	}
	client := &Client{
		server: strings.TrimRight(server, "/"),
		http:   &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	for _, option := range options {
		option(client)
	}
	if client.token == nil {
		if token, err = bare(token); err != nil {
			return nil, err
		}
		client.token = func(context.Context) (string, error) { return token, nil }
	}
	return client, nil
}

// Error is an answer that is no success, or a connection that failed.
type Error struct {
	// Status is the HTTP status, 0 where no answer came.
	Status int
	// Code is the server's code of the error, such as UNAUTHORIZED.
	Code    string
	Message string
	// Details say what is wrong with which field, or which setting is the limit; empty where the server says nothing of it.
	Details json.RawMessage
	// RetryAfter is the least time to wait before the next try.
	RetryAfter time.Duration
	// Passing says whether the same request may well succeed a little later.
	Passing bool
	cause   error
}

func (e *Error) Error() string {
	text := "stentor: " + e.Message
	if e.Status != 0 {
		text = fmt.Sprintf("stentor: %d: %s", e.Status, e.Message)
	}
	if len(e.Details) > 0 {
		text += " (" + string(e.Details) + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.cause }

func broken(err error) *Error {
	return &Error{Message: "the connection failed: " + err.Error(), Passing: true, cause: err}
}

// refused reads an answer in either form in which the server writes errors.
func refused(status int, header http.Header, body []byte) *Error {
	problem := &Error{Status: status, Message: "no reason that Stentor would give", RetryAfter: waitAskedFor(header.Get("Retry-After"))}
	switch status {
	case 408, 425, 429, 500, 502, 503, 504:
		problem.Passing = true
	}
	var whole struct {
		Error   json.RawMessage `json:"error"`
		Code    string          `json:"code"`
		Details json.RawMessage `json:"details"`
	}
	if json.Unmarshal(body, &whole) != nil {
		return problem
	}
	var inner struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Details json.RawMessage `json:"details"`
	}
	if json.Unmarshal(whole.Error, &inner) == nil && inner.Message != "" {
		problem.Code, problem.Message, problem.Details = inner.Code, inner.Message, inner.Details
		return problem
	}
	var sentence string
	if json.Unmarshal(whole.Error, &sentence) == nil && sentence != "" {
		problem.Code, problem.Message, problem.Details = whole.Code, sentence, whole.Details
	}
	return problem
}

// waitAskedFor reads Retry-After: a number of seconds or a date (RFC 9110, 10.2.3).
func waitAskedFor(text string) time.Duration {
	if text == "" {
		return 0
	}
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 && seconds <= int(retryAfterMax/time.Second) {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	if wait < 0 {
		return 0
	}
	if wait > retryAfterMax {
		return retryAfterMax
	}
	return wait
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	address := c.server + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("stentor: the body is no JSON: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return nil, fmt.Errorf("stentor: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

func (c *Client) authorize(ctx context.Context, header http.Header) error {
	token, err := c.token(ctx)
	if err != nil {
		return fmt.Errorf("stentor: there is no token: %w", err)
	}
	if token, err = bare(token); err != nil {
		return err
	}
	header.Set("Authorization", "Bearer "+token)
	return nil
}

// bare gives a token as a header takes it: one that was read from a file may end with a line break.
func bare(token string) (string, error) {
	token = strings.TrimSpace(token)
	if token == "" {
		return "", errors.New("stentor: the token is empty; is the variable or the file that it comes from set?")
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", errors.New("stentor: the token has characters that no token has; was something else read?")
		}
	}
	return token, nil
}

// Do sends any request of the API and reads the JSON of its answer into out, unless out is nil or the answer is empty.
// A body that is not nil is sent as JSON. An answer that is no success is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body, out any) error {
	return c.do(ctx, method, path, query, nil, body, out)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, header http.Header, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	request, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if err := c.authorize(ctx, request.Header); err != nil {
		return err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return broken(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	if err != nil {
		return broken(err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return refused(answer.StatusCode, answer.Header, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return broken(fmt.Errorf("its answer is no JSON of this form; is this a Stentor server? %w", err))
	}
	return nil
}

// Pages reads a list over all its pages and gives its items.
func (c *Client) Pages(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	wanted := url.Values{}
	for name, values := range query {
		wanted[name] = values
	}
	var all []json.RawMessage
	for page := 0; page < pagesMax; page++ {
		var answer struct {
			Data       []json.RawMessage `json:"data"`
			NextCursor any               `json:"nextCursor"`
			Next       any               `json:"next"`
		}
		if err := c.Do(ctx, http.MethodGet, path, wanted, nil, &answer); err != nil {
			return nil, err
		}
		all = append(all, answer.Data...)
		after := answer.NextCursor
		if after == nil {
			after = answer.Next
		}
		if after == nil || len(answer.Data) == 0 {
			return all, nil
		}
		wanted.Set("after", fmt.Sprint(after))
	}
	return nil, fmt.Errorf("stentor: the list has more than %d pages; ask for less", pagesMax)
}

// NewEvent is an event to be published.
type NewEvent struct {
	Type string `json:"type"`
	// Payload is anything that becomes a JSON object; nil is an empty one.
	Payload any    `json:"payload,omitempty"`
	Session string `json:"session,omitempty"`
	// Timestamp is when it happened, ISO-8601; empty: now.
	Timestamp string `json:"ts,omitempty"`
	// DedupeID has the same event stored once, however often it is published with it within a day.
	DedupeID string `json:"dedupe_id,omitempty"`
}

// Publish publishes all events or none, and gives their ids in order: they are durable then, and stored once however often they
// were sent. What passes is tried again for half a minute, or until the context ends.
func (c *Client) Publish(ctx context.Context, channel string, events ...NewEvent) ([]string, error) {
	place, err := placeOf(channel)
	if err != nil {
		return nil, err
	}
	if place.channels != nil {
		return nil, errors.New("stentor: an event is published to one channel")
	}
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("stentor: no key can be made: %w", err)
	}
	// an answer that was lost on its way is asked for again under the same key
	header := http.Header{"Idempotency-Key": {hex.EncodeToString(key)}}
	deadline := time.Now().Add(publishFor)
	backoff := newBackoff()
	for {
		var answer struct {
			Data struct {
				IDs []string `json:"ids"`
			} `json:"data"`
		}
		err := c.do(ctx, http.MethodPost, place.events, nil, header, map[string]any{"events": events}, &answer)
		if err == nil {
			return answer.Data.IDs, nil
		}
		var problem *Error
		if !errors.As(err, &problem) || !problem.Passing || ctx.Err() != nil {
			return nil, err
		}
		wait := backoff.next(problem.RetryAfter)
		if time.Now().Add(wait).After(deadline) {
			return nil, err
		}
		if pause(ctx, wait) != nil {
			return nil, err
		}
	}
}

// History gives events that are stored, the oldest first, over all pages: since, until, after, events, filter ... as in the API.
// Several channels stand between commas.
func (c *Client) History(ctx context.Context, channel string, query url.Values) ([]Event, error) {
	place, err := placeOf(channel)
	if err != nil {
		return nil, err
	}
	wanted := url.Values{}
	for name, values := range query {
		wanted[name] = values
	}
	if place.channels != nil {
		wanted.Set("channel", strings.Join(place.channels, ","))
	}
	items, err := c.Pages(ctx, place.history, wanted)
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(items))
	for at, item := range items {
		if events[at], err = ReadEvent(item); err != nil {
			return nil, broken(err)
		}
	}
	return events, nil
}

// pause waits, or ends with the context.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

type place struct {
	events, history, stream, websocket, ticket string
	// channels says which, where the addresses do not.
	channels []string
}

// placeOf gives the addresses of map:<id or slug>, organization:<id>, source:<id>, feed, or of several channels between commas.
func placeOf(channel string) (place, error) {
	if channels := strings.Split(channel, ","); len(channels) > 1 || strings.HasSuffix(channel, ":*") {
		return place{"/events", "/events", "/events/stream", "/events/ws", "/events/ticket", channels}, nil
	}
	bases := map[string]string{"map": "/api/maps/", "organization": "/api/v1/organizations/", "source": "/api/webhooks/"}
	events, history := "/events", "/events"
	if channel != "feed" {
		kind, name, _ := strings.Cut(channel, ":")
		base, known := bases[kind]
		if !known || name == "" {
			return place{}, errors.New("stentor: channel must be map:<id>, organization:<id>, source:<id> or feed")
		}
		events = base + url.PathEscape(name) + "/events"
		history = events
		if kind == "source" {
			// the address of its events is that of their stream
			history += "/history"
		}
	}
	return place{events, history, events + "/stream", events + "/ws", events + "/ticket", nil}, nil
}
