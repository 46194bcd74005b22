package stentor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// Map is a map as the server shows it.
type Map struct {
	ID              string `json:"id"`
	Slug            string `json:"slug"`
	Name            string `json:"name"`
	WebhooksEnabled bool   `json:"webhooks_enabled"`
	// Token is its first token, with all scopes. Only in the answer to its creation.
	Token string `json:"token,omitempty"`
}

// Organization is an organization as the server shows it.
type Organization struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Token is its first token, with all scopes. Only in the answer to its creation.
	Token string `json:"token,omitempty"`
}

// Token is a token as the server shows it.
type Token struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	// Channels are those of a token of several, which has no Channel.
	Channels  []string `json:"channels"`
	Scopes    []string `json:"scopes"`
	Name      string   `json:"name"`
	ExpiresAt string   `json:"expires_at"`
	// Token is what is sent as Authorization: Bearer. Only in the answer to its creation.
	Token string `json:"token,omitempty"`
}

// Webhook is what the families of webhooks have in common; Raw has the rest, as the family spells it.
type Webhook struct {
	ID     string   `json:"id"`
	URL    string   `json:"url"`
	Events []string `json:"events"`
	Active bool     `json:"active"`
	Format string   `json:"format"`
	Health string   `json:"health"`
	// Secret signs the deliveries. Only in the answer to its creation.
	Secret string          `json:"secret,omitempty"`
	Raw    json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps the whole text beside the fields.
func (w *Webhook) UnmarshalJSON(text []byte) error {
	type plain Webhook
	if err := json.Unmarshal(text, (*plain)(w)); err != nil {
		return err
	}
	w.Raw = append(json.RawMessage(nil), text...)
	return nil
}

// Source is an inbound webhook as the server shows it.
type Source struct {
	ID             string `json:"id"`
	URL            string `json:"url"`
	Name           string `json:"name"`
	Channel        string `json:"channel"`
	Authentication string `json:"authentication"`
	Status         string `json:"status"`
	EventsReceived int64  `json:"eventsReceived"`
}

// one asks for an object that is wrapped in data.
func one[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var answer struct {
		Data T `json:"data"`
	}
	err := c.Do(ctx, method, path, query, body, &answer)
	return answer.Data, err
}

// list asks for all pages of a list.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	items, err := c.Pages(ctx, path, query)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(items))
	for at, item := range items {
		if err := json.Unmarshal(item, &all[at]); err != nil {
			return nil, broken(err)
		}
	}
	return all, nil
}

// CreateMap makes a map (admin). An empty slug is made of the name.
func (c *Client) CreateMap(ctx context.Context, name, slug string) (Map, error) {
	body := map[string]string{"name": name}
	if slug != "" {
		body["slug"] = slug
	}
	return one[Map](ctx, c, http.MethodPost, "/api/maps", nil, body)
}

// Maps lists the maps that the token may know of.
func (c *Client) Maps(ctx context.Context) ([]Map, error) { return list[Map](ctx, c, "/api/maps", nil) }

// DeleteMap deletes a map, by its id or slug, with its events.
func (c *Client) DeleteMap(ctx context.Context, name string) error {
	return c.Do(ctx, http.MethodDelete, "/api/maps/"+url.PathEscape(name), nil, nil, nil)
}

// CreateOrganization makes an organization (admin). An empty id is made by the server.
func (c *Client) CreateOrganization(ctx context.Context, name, id string) (Organization, error) {
	body := map[string]string{"name": name}
	if id != "" {
		body["id"] = id
	}
	return one[Organization](ctx, c, http.MethodPost, "/api/v1/organizations", nil, body)
}

// Organizations lists the organizations that the token may know of.
func (c *Client) Organizations(ctx context.Context) ([]Organization, error) {
	return list[Organization](ctx, c, "/api/v1/organizations", nil)
}

// DeleteOrganization deletes an organization with its events.
func (c *Client) DeleteOrganization(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/organizations/"+url.PathEscape(id), nil, nil, nil)
}

// CreateToken makes a token with scopes of subscribe, publish and manage. Of several channels between commas, or of a pattern such as
// map:*, the admin makes one that reads and publishes in all of them.
func (c *Client) CreateToken(ctx context.Context, channel, name string, scopes ...string) (Token, error) {
	body := map[string]any{"channel": channel, "scopes": scopes, "name": name}
	if place, err := placeOf(channel); err == nil && place.channels != nil {
		body = map[string]any{"channels": place.channels, "scopes": scopes, "name": name}
	}
	return one[Token](ctx, c, http.MethodPost, "/api/v1/tokens", nil, body)
}

// Tokens lists the tokens that the caller may manage.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return list[Token](ctx, c, "/api/v1/tokens", nil)
}

// RenameToken gives a token another name; an empty one is none.
func (c *Client) RenameToken(ctx context.Context, id, name string) (Token, error) {
	body := map[string]any{"name": nil}
	if name != "" {
		body["name"] = name
	}
	return one[Token](ctx, c, http.MethodPatch, "/api/v1/tokens/"+url.PathEscape(id), nil, body)
}

// RevokeToken makes a token void at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// webhooksOf gives the address of a channel's webhooks, and the query that goes with it.
func webhooksOf(channel string) (string, url.Values, error) {
	kind, name, _ := strings.Cut(channel, ":")
	switch {
	case kind == "map" && name != "":
		return "/api/maps/" + url.PathEscape(name) + "/webhooks", nil, nil
	case kind == "organization" && name != "":
		return "/api/v1/webhooks", url.Values{"channel": {channel}}, nil
	}
	return "", nil, errors.New("stentor: channel must be map:<id> or organization:<id>")
}

// CreateWebhook makes a webhook with the fields of the API, as the channel's family spells them; url is needed. A map's webhooks
// deliver once they are turned on.
func (c *Client) CreateWebhook(ctx context.Context, channel string, fields map[string]any) (Webhook, error) {
	path, query, err := webhooksOf(channel)
	if err != nil {
		return Webhook{}, err
	}
	return one[Webhook](ctx, c, http.MethodPost, path, query, fields)
}

// Webhooks lists the webhooks of a channel.
func (c *Client) Webhooks(ctx context.Context, channel string) ([]Webhook, error) {
	path, query, err := webhooksOf(channel)
	if err != nil {
		return nil, err
	}
	return list[Webhook](ctx, c, path, query)
}

// UpdateWebhook changes the fields that are given.
func (c *Client) UpdateWebhook(ctx context.Context, channel, id string, fields map[string]any) (Webhook, error) {
	path, query, err := webhooksOf(channel)
	if err != nil {
		return Webhook{}, err
	}
	return one[Webhook](ctx, c, http.MethodPatch, path+"/"+url.PathEscape(id), query, fields)
}

// DeleteWebhook deletes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, channel, id string) error {
	path, query, err := webhooksOf(channel)
	if err != nil {
		return err
	}
	return c.Do(ctx, http.MethodDelete, path+"/"+url.PathEscape(id), query, nil, nil)
}

// ToggleWebhooks turns all webhooks of a map on or off.
func (c *Client) ToggleWebhooks(ctx context.Context, name string, enabled bool) error {
	path := "/api/maps/" + url.PathEscape(strings.TrimPrefix(name, "map:")) + "/webhooks/toggle"
	return c.Do(ctx, http.MethodPut, path, nil, map[string]bool{"enabled": enabled}, nil)
}

// CreateSource makes an inbound webhook with the fields of the API; authentication is needed. The secret is shown only here; it is
// empty where none was made.
func (c *Client) CreateSource(ctx context.Context, channel string, fields map[string]any) (source Source, secret string, err error) {
	var answer struct {
		Endpoint Source `json:"endpoint"`
		Secret   string `json:"secret"`
	}
	err = c.Do(ctx, http.MethodPost, "/api/webhooks", url.Values{"channel": {channel}}, fields, &answer)
	return answer.Endpoint, answer.Secret, err
}

// Sources lists the inbound webhooks of a channel, or with an empty one all that the token may manage.
func (c *Client) Sources(ctx context.Context, channel string) ([]Source, error) {
	query := url.Values{}
	if channel != "" {
		query.Set("channel", channel)
	}
	return list[Source](ctx, c, "/api/webhooks", query)
}

// DeleteSource deletes an inbound webhook.
func (c *Client) DeleteSource(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/webhooks/"+url.PathEscape(id), nil, nil, nil)
}
