package stentor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// silenceMax is how long a stream may say nothing: the server writes at least every 30 s unless it was told otherwise.
	silenceMax = 75 * time.Second
	// openTimeout is how long the head of an answer may take.
	openTimeout  = 15 * time.Second
	backoffFirst = time.Second
	backoffMax   = 30 * time.Second
	// lostTicketsMax: a ticket is lost when the server restarts before it is used. That happens once, not three times in a row.
	lostTicketsMax = 3
	// frameBytesMax: a longer line of a stream does not come from a Stentor.
	frameBytesMax = 32 << 20
)

// Event is one event, whatever the family of its channel.
type Event struct {
	// ID is the cursor behind it: follow with After to go on from here.
	ID      string
	Type    string
	Time    time.Time
	Payload json.RawMessage
	// Session is the one that it belongs to, in organizations.
	Session string
	// Owner is the map, organization or source, where the envelope names it.
	Owner string
	// Raw is the envelope as the server wrote it: the same bytes as in history and webhooks.
	Raw json.RawMessage
}

// ReadEvent reads the envelope of any family, such as the body of a webhook.
func ReadEvent(raw []byte) (Event, error) {
	var wire struct {
		ID           string          `json:"id"`
		EventID      string          `json:"event_id"`
		Type         string          `json:"type"`
		Event        string          `json:"event"`
		EventType    string          `json:"event_type"`
		ListenerType string          `json:"eventType"`
		Timestamp    json.RawMessage `json:"timestamp"`
		Payload      json.RawMessage `json:"payload"`
		Session      string          `json:"session"`
		MapID        string          `json:"map_id"`
		Organization string          `json:"organization"`
		Source       string          `json:"source"`
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return Event{}, fmt.Errorf("stentor: this is no event: %w", err)
	}
	event := Event{
		ID:      first(wire.ID, wire.EventID),
		Type:    first(wire.Type, wire.Event, wire.EventType, wire.ListenerType),
		Payload: wire.Payload,
		Session: wire.Session,
		Owner:   first(wire.MapID, wire.Organization, wire.Source),
		Raw:     append(json.RawMessage(nil), raw...),
	}
	if event.ID == "" {
		return Event{}, errors.New("stentor: this is no event: it has no id")
	}
	var text string
	if json.Unmarshal(wire.Timestamp, &text) == nil {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return Event{}, fmt.Errorf("stentor: the event has no time: %w", err)
		}
		event.Time = at.UTC()
		return event, nil
	}
	ms, err := strconv.ParseInt(string(wire.Timestamp), 10, 64)
	if err != nil {
		return Event{}, fmt.Errorf("stentor: the event has no time: %w", err)
	}
	event.Time = time.UnixMilli(ms).UTC()
	return event, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// Gap says that events are missing: retention (expired) or damage (damaged) took them, or the cursor is ahead of the log (ahead).
type Gap struct {
	Requested string `json:"requested"`
	Oldest    string `json:"oldest"`
	Reason    string `json:"reason"`
}

// Cursor is where a consumer keeps the id of the last event that it has handled.
type Cursor interface {
	// Load gives the id, or an empty text where nothing was handled yet.
	Load() (string, error)
	Save(id string) error
}

// FileCursor keeps the cursor in the file of this name, which is replaced as a whole.
type FileCursor string

// Load reads the file; a missing one has no id.
func (f FileCursor) Load() (string, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// Save replaces the file.
func (f FileCursor) Save(id string) error {
	if err := os.WriteFile(string(f)+".new", []byte(id), 0o666); err != nil {
		return err
	}
	return os.Rename(string(f)+".new", string(f))
}

// FollowOptions choose events and how they come. All may be left out.
type FollowOptions struct {
	// Cursor marks each event as handled when the handler has returned, and a later call goes on behind the last that was.
	Cursor Cursor
	// After is the id of the event behind which it begins; it wins over Cursor.
	After string
	// Events are the types that are wanted; nil: all.
	Events []string
	// PathPrefix is what payload.path has to begin with.
	PathPrefix []string
	// Filter is a CEL expression over event.
	Filter  string
	Session string
	// WebSocket has the events come over a WebSocket instead of server-sent events.
	WebSocket bool
	// Tickets has each connection opened by a ticket of its own, so that no token stands in what proxies see of streams.
	Tickets bool
	// SilenceMax is the silence after which a connection is taken for dead; 0: 75 seconds.
	SilenceMax time.Duration
	// OnGap is told where events are missing; nil: they are logged.
	OnGap func(Gap)
	// OnError is told of connections that failed, and when the next one is made; it may be nil.
	OnError func(err *Error, wait time.Duration)
}

// Follow is the whole of a simple consumer: it gives the events of a channel to the handler, in order and each once, keeps the cursor in
// a file, and goes on behind the last event that was handled when it is called again. It returns what waiting does not help, such as a
// token that was revoked. A consumer that chooses events, has a context or can fail is made by New and Client.Follow.
func Follow(server, token, channel, cursorFile string, handle func(Event)) error {
	client, err := New(server, token)
	if err != nil {
		return err
	}
	options := FollowOptions{Cursor: FileCursor(cursorFile)}
	return client.Follow(context.Background(), channel, options, func(event Event) error {
		handle(event)
		return nil
	})
}

// Follow gives the events of a channel to the handler, in order and each once, over every disconnection and restart. The channel is
// map:<id or slug>, organization:<id>, source:<id> or feed; several between commas are read in one order, and map:* and organization:* are
// all of a kind. The next event is read when the handler has returned. It ends when the context does, when the handler or the cursor fails, or with an *Error that
// waiting does not help.
func (c *Client) Follow(ctx context.Context, channel string, options FollowOptions, handle func(Event) error) error {
	place, err := placeOf(channel)
	if err != nil {
		return err
	}
	if options.SilenceMax == 0 {
		options.SilenceMax = silenceMax
	}
	if options.OnGap == nil {
		options.OnGap = func(gap Gap) {
			log.Printf("stentor: events are missing after %s (%s); the oldest left is %s", gap.Requested, gap.Reason, gap.Oldest)
		}
	}
	course := &course{options: options, channels: place.channels, cursor: options.After, backoff: newBackoff(), handle: handle}
	if course.cursor == "" && options.Cursor != nil {
		if course.cursor, err = options.Cursor.Load(); err != nil {
			return fmt.Errorf("stentor: the cursor cannot be read: %w", err)
		}
	}
	for {
		connect := c.sse
		if options.WebSocket {
			connect = c.websocket
		}
		err := connect(ctx, place, course)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var own *handlerError
		if errors.As(err, &own) {
			return own.err
		}
		var problem *Error
		if !errors.As(err, &problem) {
			return err
		}
		if !course.passes(problem) {
			return problem
		}
		wait := course.backoff.next(problem.RetryAfter)
		if options.OnError != nil {
			options.OnError(problem, wait)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// handlerError marks what the consumer's own code failed with.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// course is how a reader stands between connections.
type course struct {
	options     FollowOptions
	channels    []string
	handle      func(Event) error
	backoff     *backoff
	cursor      string
	newest      string
	lostTickets int
	// byMoment: the cursor is a moment and no event, so that lying ahead of the log only means that nothing happened since.
	byMoment bool
}

// take deals with one message: an event, or something about the stream. id is the one of its frame.
func (c *course) take(name, id string, data []byte) error {
	var head struct {
		ID        *string `json:"id"`
		EventID   *string `json:"event_id"`
		Timestamp json.RawMessage
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return broken(fmt.Errorf("a frame is no JSON: %w", err))
	}
	if head.ID == nil && head.EventID == nil {
		return c.notice(name, id, head.Timestamp, data)
	}
	event, err := ReadEvent(data)
	if err != nil {
		return broken(err)
	}
	c.backoff.reset()
	c.lostTickets = 0
	// ids only grow; one that came before is a repetition
	bare := strings.TrimPrefix(event.ID, "evt_")
	if bare <= c.newest {
		return nil
	}
	if err := c.handle(event); err != nil {
		return &handlerError{err}
	}
	if c.options.Cursor != nil {
		if err := c.options.Cursor.Save(event.ID); err != nil {
			return &handlerError{fmt.Errorf("stentor: the cursor cannot be written: %w", err)}
		}
	}
	c.newest, c.cursor, c.byMoment = bare, event.ID, false
	return nil
}

func (c *course) notice(name, id string, timestamp, data []byte) error {
	switch name {
	case "connected":
		c.backoff.reset()
		c.lostTickets = 0
		if id != "" {
			c.cursor = id
		}
		if c.cursor == "" {
			// a WebSocket names no cursor at its start, but the moment of it, of which one can be made
			ms, err := strconv.ParseInt(string(timestamp), 10, 64)
			if err != nil {
				return broken(fmt.Errorf("the stream does not say when it began: %w", err))
			}
			c.cursor, c.byMoment = ulidAt(ms), true
		}
	case "gap":
		var gap Gap
		if err := json.Unmarshal(data, &gap); err != nil {
			return broken(err)
		}
		if gap.Reason == "ahead" {
			c.newest = ""
		}
		if gap.Reason != "ahead" || !c.byMoment {
			c.options.OnGap(gap)
		}
	}
	return nil
}

func (c *course) passes(problem *Error) bool {
	if c.options.Tickets && problem.Status == http.StatusUnauthorized {
		c.lostTickets++
		return c.lostTickets < lostTicketsMax
	}
	return problem.Passing
}

// query gives the parameters of the next connection.
func (c *course) query(ticket string) url.Values {
	query := url.Values{}
	if c.channels != nil {
		query.Set("channel", strings.Join(c.channels, ","))
	}
	if c.options.Events != nil {
		query.Set("events", strings.Join(c.options.Events, ","))
	}
	for _, prefix := range c.options.PathPrefix {
		query.Add("path_prefix", prefix)
	}
	for name, value := range map[string]string{
		"filter": c.options.Filter, "session": c.options.Session, "ticket": ticket, "last_event_id": c.cursor,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// opening gives the query and the headers of a connection: a ticket in the one, or the token in the other.
func (c *Client) opening(ctx context.Context, place place, course *course) (url.Values, http.Header, error) {
	header := http.Header{}
	if !course.options.Tickets {
		return course.query(""), header, c.authorize(ctx, header)
	}
	var answer struct {
		Data struct {
			Ticket string `json:"ticket"`
		} `json:"data"`
	}
	wish := map[string]any{}
	if place.channels != nil {
		wish["channels"] = place.channels
	}
	err := c.Do(ctx, http.MethodPost, place.ticket, nil, wish, &answer)
	if err != nil {
		// a refused token is not a lost ticket
		var problem *Error
		if errors.As(err, &problem) && problem.Status == http.StatusUnauthorized {
			course.lostTickets = lostTicketsMax
		}
	}
	return course.query(answer.Data.Ticket), header, err
}

func (c *Client) sse(ctx context.Context, place place, course *course) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query, header, err := c.opening(ctx, place, course)
	if err != nil {
		return err
	}
	request, err := c.request(ctx, http.MethodGet, place.stream, query, nil)
	if err != nil {
		return err
	}
	request.Header = header
	request.Header.Set("Accept", "text/event-stream")
	// ends the request when nothing comes for too long; whoever handles an event may take its time
	watch := time.AfterFunc(openTimeout, cancel)
	defer watch.Stop()
	answer, err := c.http.Do(request)
	if err != nil {
		return broken(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
		if err != nil {
			return broken(err)
		}
		return refused(answer.StatusCode, answer.Header, body)
	}
	lines := bufio.NewReaderSize(answer.Body, 64<<10)
	var name, id string
	var data []byte
	for {
		watch.Reset(course.options.SilenceMax)
		line, err := readLine(lines)
		if err != nil {
			return broken(err)
		}
		watch.Stop()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if len(data) > 0 {
				if err := course.take(name, id, data[:len(data)-1]); err != nil {
					return err
				}
			}
			name, data = "", nil
		case field == "data":
			if len(data)+len(value) > frameBytesMax {
				return broken(errors.New("a frame of the stream is too long"))
			}
			data = append(append(data, value...), '\n')
		case field == "event":
			name = value
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				course.backoff.first = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// readLine reads up to LF; our streams have no other ends of lines, and a CR before it is taken off.
func readLine(lines *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, isPrefix, err := lines.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server ended the stream")
			}
			return "", err
		}
		line = append(line, part...)
		if !isPrefix {
			return string(line), nil
		}
		if len(line) > frameBytesMax {
			return "", errors.New("a frame of the stream is too long")
		}
	}
}

// ulidAt gives the first id that an event of this moment could have.
func ulidAt(ms int64) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	id := []byte(strings.Repeat("0", 26))
	for at := 9; at >= 0; at-- {
		id[at] = alphabet[ms&31]
		ms >>= 5
	}
	return string(id)
}

// backoff gives waits that double, each between half of it and all of it, so that clients who were cut together spread.
type backoff struct {
	first    time.Duration
	failures int
	random   *rand.Rand
}

func newBackoff() *backoff {
	return &backoff{first: backoffFirst, random: rand.New(rand.NewSource(time.Now().UnixNano()))}
}

func (b *backoff) reset() { b.failures = 0 }

func (b *backoff) next(retryAfter time.Duration) time.Duration {
	limit := math.Max(float64(backoffMax), float64(b.first))
	most := math.Min(float64(b.first)*math.Pow(2, math.Min(float64(b.failures), 16)), limit)
	b.failures++
	return retryAfter + time.Duration(most*(0.5+b.random.Float64()/2))
}
