// Drives the Go client as the conformance suite says: one JSON object on standard input, one JSON object a line back.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	stentor "stentor.dev/client"
)

type object = map[string]any

type verifyCase struct {
	Body    string            `json:"body"`
	Headers map[string]string `json:"headers"`
	Secret  string            `json:"secret"`
	Format  string            `json:"format"`
	Now     int64             `json:"now"`
}

type task struct {
	Do        string       `json:"do"`
	Server    string       `json:"server"`
	Token     string       `json:"token"`
	Channel   any          `json:"channel"`
	Transport string       `json:"transport"`
	Tickets   bool         `json:"tickets"`
	After     string       `json:"after"`
	Cursor    string       `json:"cursor"`
	Events    []string     `json:"events"`
	Count     int          `json:"count"`
	SlowMs    int          `json:"slow_ms"`
	From      int          `json:"from"`
	To        int          `json:"to"`
	URL       string       `json:"url"`
	Cases     []verifyCase `json:"cases"`
}

func say(what object) {
	text, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// status is null where no answer came.
func status(err *stentor.Error) any {
	if err.Status == 0 {
		return nil
	}
	return err.Status
}

func shown(event stentor.Event) object {
	var payload struct {
		N *int `json:"n"`
	}
	if err := json.Unmarshal(event.Payload, &payload); err != nil {
		panic(err)
	}
	return object{"id": event.ID, "type": event.Type, "n": payload.N, "at": float64(event.Time.UnixMilli()) / 1000}
}

// channel is one, or several between commas.
func (t task) channel() string {
	several, is := t.Channel.([]any)
	if !is {
		return fmt.Sprint(t.Channel)
	}
	names := []string{}
	for _, name := range several {
		names = append(names, fmt.Sprint(name))
	}
	return strings.Join(names, ",")
}

var errEnough = errors.New("enough")

func follow(ctx context.Context, client *stentor.Client, task task) error {
	options := stentor.FollowOptions{
		After:     task.After,
		Events:    task.Events,
		WebSocket: task.Transport == "websocket",
		Tickets:   task.Tickets,
		OnGap:     func(gap stentor.Gap) { say(object{"gap": gap}) },
		OnError: func(err *stentor.Error, wait time.Duration) {
			say(object{"error": object{"status": status(err), "code": err.Code, "wait_ms": wait.Milliseconds()}})
		},
	}
	if task.Cursor != "" {
		options.Cursor = stentor.FileCursor(task.Cursor)
	}
	count := 0
	err := client.Follow(ctx, task.channel(), options, func(event stentor.Event) error {
		say(object{"event": shown(event)})
		time.Sleep(time.Duration(task.SlowMs) * time.Millisecond)
		count++
		if count == task.Count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func publish(ctx context.Context, client *stentor.Client, task task) error {
	for n := task.From; n < task.To; n++ {
		ids, err := client.Publish(ctx, task.channel(), stentor.NewEvent{Type: "add_system", Payload: object{"n": n}})
		if err != nil {
			return err
		}
		say(object{"id": ids[0]})
	}
	ids, err := client.Publish(ctx, task.channel(),
		stentor.NewEvent{Type: "map_kill", Payload: object{"n": -1}}, stentor.NewEvent{Type: "map_kill", Payload: object{"n": -2}})
	say(object{"ids": ids})
	return err
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func done(err error) {
	if err != nil {
		panic(err)
	}
}

func manage(ctx context.Context, client *stentor.Client, task task) {
	made := must(client.CreateMap(ctx, "Managed", "managed"))
	organization := must(client.CreateOrganization(ctx, "Managed", "managed"))
	for channel, session := range map[string]string{"map:" + made.Slug: "", "organization:managed": "s1"} {
		token := must(client.CreateToken(ctx, channel, "driver", "subscribe", "publish"))
		renamed := must(client.RenameToken(ctx, token.ID, "renamed"))
		own := must(stentor.New(task.Server, token.Token))
		must(own.Publish(ctx, channel, stentor.NewEvent{Type: "add_system", Payload: object{"n": 1}, Session: session}))
		first := must(own.History(ctx, channel, nil))[0]
		webhook := must(client.CreateWebhook(ctx, channel, object{"url": task.URL, "events": []string{"add_system"}}))
		changed := must(client.UpdateWebhook(ctx, channel, webhook.ID, object{"active": false}))
		listed := must(client.Webhooks(ctx, channel))
		done(client.DeleteWebhook(ctx, channel, webhook.ID))
		left := must(client.Webhooks(ctx, channel))
		source, secret, err := client.CreateSource(ctx, channel, object{"authentication": "api_key", "name": "game"})
		done(err)
		sources := must(client.Sources(ctx, channel))
		done(client.DeleteSource(ctx, source.ID))
		done(client.RevokeToken(ctx, token.ID))
		revoked := true
		for _, known := range must(client.Tokens(ctx)) {
			revoked = revoked && known.ID != token.ID
		}
		say(object{
			"event": shown(first), "active": changed.Active, "token": revoked, "named": renamed.Name,
			"webhook": len(listed) == 1 && listed[0].ID == webhook.ID && len(left) == 0,
			"source":  len(sources) == 1 && sources[0].ID == source.ID && secret != "",
		})
	}
	done(client.ToggleWebhooks(ctx, made.ID, true))
	on := []bool{}
	for _, known := range must(client.Maps(ctx)) {
		if known.ID == made.ID {
			on = append(on, known.WebhooksEnabled)
		}
	}
	say(object{"on": on})
	done(client.DeleteMap(ctx, made.ID))
	done(client.DeleteOrganization(ctx, organization.ID))
	var problem *stentor.Error
	if err := client.Do(ctx, http.MethodPatch, "/api/maps/managed", nil, object{"name": "x"}, nil); errors.As(err, &problem) {
		say(object{"refused": object{"status": problem.Status, "code": problem.Code}})
	}
}

func verify(task task) {
	valid := []bool{}
	for _, given := range task.Cases {
		header := http.Header{}
		for name, value := range given.Headers {
			header.Set(name, value)
		}
		body := must(base64.StdEncoding.DecodeString(given.Body))
		options := stentor.VerifyOptions{Format: given.Format}
		if given.Now != 0 {
			options.Now = time.Unix(given.Now, 0)
		}
		err := stentor.VerifyWebhook(body, header, given.Secret, options)
		if err != nil && !errors.Is(err, stentor.ErrInvalidSignature) {
			panic(err)
		}
		valid = append(valid, err == nil)
	}
	say(object{"valid": valid})
}

func main() {
	var task task
	done(json.NewDecoder(os.Stdin).Decode(&task))
	if task.Do == "verify" {
		verify(task)
		return
	}
	ctx := context.Background()
	client := must(stentor.New(task.Server, task.Token))
	var err error
	switch task.Do {
	case "follow":
		err = follow(ctx, client, task)
	case "publish":
		err = publish(ctx, client, task)
	case "manage":
		manage(ctx, client, task)
	}
	var problem *stentor.Error
	if errors.As(err, &problem) {
		say(object{"fatal": object{"status": status(problem), "code": problem.Code, "passing": problem.Passing}})
	} else if err != nil {
		panic(err)
	}
}
