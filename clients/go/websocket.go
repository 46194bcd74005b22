package stentor

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// controlBytesMax is the largest control frame's payload (RFC 6455, 5.5).
	controlBytesMax = 125
	closeRevoked    = 4401
)

// The opcodes of RFC 6455, 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// websocket follows over one WebSocket, as far as RFC 6455 is needed to listen: text in, pongs and a close out.
func (c *Client) websocket(ctx context.Context, place place, course *course) error {
	query, header, err := c.opening(ctx, place, course)
	if err != nil {
		return err
	}
	conn, reader, err := c.upgrade(ctx, place.websocket, query, header)
	if err != nil {
		return err
	}
	defer conn.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			conn.Close()
		case <-ended:
		}
	}()
	socket := &socket{conn: conn, reader: reader, silence: course.options.SilenceMax}
	for {
		text, err := socket.message()
		if err != nil {
			return err
		}
		var head struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal(text, &head); err != nil {
			return broken(err)
		}
		if err := course.take(head.Event, "", text); err != nil {
			return err
		}
	}
}

// upgrade opens a connection of its own and makes a WebSocket of it.
func (c *Client) upgrade(ctx context.Context, path string, query url.Values, header http.Header) (net.Conn, *bufio.Reader, error) {
	request, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, nil, err
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, nil, broken(err)
	}
	key := base64.StdEncoding.EncodeToString(nonce)
	request.Header = header
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Sec-WebSocket-Version", "13")
	request.Header.Set("Sec-WebSocket-Key", key)
	conn, err := c.dial(ctx, request.URL)
	if err != nil {
		return nil, nil, broken(err)
	}
	opened := false
	defer func() {
		if !opened {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(openTimeout)); err != nil {
		return nil, nil, broken(err)
	}
	if err := request.Write(conn); err != nil {
		return nil, nil, broken(err)
	}
	reader := bufio.NewReaderSize(conn, 64<<10)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, nil, broken(err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
		if err != nil {
			return nil, nil, broken(err)
		}
		return nil, nil, refused(answer.StatusCode, answer.Header, body)
	}
	hash := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(hash[:]) {
		return nil, nil, broken(errors.New("the answer is none of a WebSocket"))
	}
	opened = true
	return conn, reader, nil
}

// dial connects as the transport of the HTTP client would, without its proxies: those of WebSockets need a tunnel.
func (c *Client) dial(ctx context.Context, address *url.URL) (net.Conn, error) {
	port := address.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[address.Scheme]
	}
	target := net.JoinHostPort(address.Hostname(), port)
	dialer := &net.Dialer{Timeout: openTimeout}
	if address.Scheme == "http" {
		return dialer.DialContext(ctx, "tcp", target)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if transport, is := c.http.Transport.(*http.Transport); is && transport.TLSClientConfig != nil {
		config = transport.TLSClientConfig.Clone()
		config.NextProtos = nil
	}
	return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", target)
}

type socket struct {
	conn    net.Conn
	reader  *bufio.Reader
	silence time.Duration
}

// message gives the next text. Pings are answered meanwhile; a close is an *Error.
func (s *socket) message() ([]byte, error) {
	var text []byte
	for {
		// whoever handles an event may take its time: silence is counted from here
		if err := s.conn.SetDeadline(time.Now().Add(s.silence)); err != nil {
			return nil, broken(err)
		}
		final, opcode, payload, err := s.frame()
		if err != nil {
			return nil, broken(err)
		}
		switch opcode {
		case opText, opContinuation:
			if len(text)+len(payload) > frameBytesMax {
				return nil, broken(errors.New("a message of the WebSocket is too long"))
			}
			text = append(text, payload...)
			if final {
				return text, nil
			}
		case opPing:
			if err := s.send(opPong, payload); err != nil {
				return nil, broken(err)
			}
		case opClose:
			return nil, s.closed(payload)
		case opPong:
		default:
			return nil, broken(fmt.Errorf("a frame of the WebSocket has the opcode %d", opcode))
		}
	}
}

// closed answers a close and says why the server sent it. Only a token that is no longer good makes it the end.
func (s *socket) closed(payload []byte) error {
	code, reason := 1005, ""
	if len(payload) >= 2 {
		code, reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	// the connection ends either way
	_ = s.send(opClose, payload)
	return &Error{
		Code:    fmt.Sprint(code),
		Message: fmt.Sprintf("the server closed the WebSocket: %d %s", code, reason),
		Passing: code != closeRevoked,
	}
}

// frame reads one frame (RFC 6455, 5.2). Those of servers are not masked.
func (s *socket) frame() (final bool, opcode byte, payload []byte, err error) {
	var head [8]byte
	if _, err = io.ReadFull(s.reader, head[:2]); err != nil {
		return
	}
	final, opcode = head[0]&0x80 != 0, head[0]&0x0f
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		err = errors.New("a frame of the WebSocket is masked or extended")
		return
	}
	length := uint64(head[1])
	switch length {
	case 126:
		if _, err = io.ReadFull(s.reader, head[:2]); err != nil {
			return
		}
		length = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err = io.ReadFull(s.reader, head[:8]); err != nil {
			return
		}
		length = binary.BigEndian.Uint64(head[:8])
	}
	if length > frameBytesMax || (opcode >= opClose && length > controlBytesMax) {
		err = errors.New("a frame of the WebSocket is too long")
		return
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(s.reader, payload)
	return
}

// send writes a control frame, masked as those of clients are (RFC 6455, 5.3).
func (s *socket) send(opcode byte, payload []byte) error {
	if len(payload) > controlBytesMax {
		payload = payload[:controlBytesMax]
	}
	frame := make([]byte, 6+len(payload))
	frame[0], frame[1] = 0x80|opcode, 0x80|byte(len(payload))
	if _, err := rand.Read(frame[2:6]); err != nil {
		return err
	}
	for at, value := range payload {
		frame[6+at] = value ^ frame[2+at%4]
	}
	_, err := s.conn.Write(frame)
	return err
}
