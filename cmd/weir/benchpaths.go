package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// benchPrompt is about as long as a short question with its context; chunkBytes
// is the length of a piece of the answer.
const (
	benchPrompt = "Explain in a few sentences why the water of a river runs faster where its bed is narrow, and what that means for the people who build a weir across it."
	chunkBytes  = 11
)

// benchUpstreamCommand serves the fake provider: as many chunks as the request's
// output limit says, without a pause.
func benchUpstreamCommand(w world) *cobra.Command {
	listen := ""
	cmd := &cobra.Command{
		Use: "upstream", Hidden: true, Args: cobra.NoArgs,
		Short: "Serve the fake provider that the benchmark asks",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := upstreamtest.Start(listen)
			if err != nil {
				return err
			}
			p.Forget()
			answers := map[int64]upstreamtest.Answer{}
			for _, n := range []int64{1, 10, 200} {
				answers[n] = chunks(n).Rendered()
			}
			p.Script(func(r upstreamtest.Request) upstreamtest.Answer {
				n := limitOf(r.Body)
				if a, ok := answers[n]; ok {
					return a
				}
				return chunks(n)
			})
			fmt.Fprintln(w.stdout, "listening on", p.URL())
			<-cmd.Context().Done()
			return p.Close()
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address")
	return cmd
}

func chunks(n int64) upstreamtest.Answer {
	a := upstreamtest.Answer{Usage: &router.Usage{Input: 40, Output: 2 * n}}
	for i := range n {
		// Each its own: LiteLLM takes a hundred alike for a model that loops.
		a.Text = append(a.Text, fmt.Sprintf("words %04d ", i))
	}
	return a
}

// limitOf is the request's output limit, however its dialect spells it.
func limitOf(body []byte) int64 {
	var asked struct {
		Old int64 `json:"max_tokens"`
		New int64 `json:"max_completion_tokens"`
	}
	if json.Unmarshal(body, &asked) != nil {
		return 1
	}
	return min(max(asked.Old, asked.New, 1), 10_000)
}

// benchBareCommand serves the least that a gRPC proxy can do: no routing, no
// checks, no retries, no ledger.
func benchBareCommand(w world) *cobra.Command {
	var listen, upstream string
	cmd := &cobra.Command{
		Use: "bare", Hidden: true, Args: cobra.NoArgs,
		Short: "Serve a proxy from gRPC to SSE that does nothing else",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			s := grpc.NewServer()
			weirv1.RegisterRouterServiceServer(s, &bareProxy{to: newAskSSE(upstream)})
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(l) }()
			fmt.Fprintln(w.stdout, "listening on", l.Addr())
			<-cmd.Context().Done()
			s.Stop()
			return <-ended
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address")
	cmd.Flags().StringVar(&upstream, "upstream", "", "the provider, as http://HOST:PORT/v1")
	return cmd
}

type bareProxy struct {
	weirv1.UnimplementedRouterServiceServer
	to *askSSE
}

// Complete implements the one call that is measured.
func (p *bareProxy) Complete(req *weirv1.CompleteRequest, stream grpc.ServerStreamingServer[weirv1.CompleteResponse]) error {
	route := req.GetRoute()
	err := p.to.each(stream.Context(), route.GetText(), int(route.GetMaxOutputTokens()), func(text string) error {
		return stream.Send(&weirv1.CompleteResponse{Event: &weirv1.CompleteResponse_Delta{Delta: &weirv1.Delta{Piece: &weirv1.Delta_Text{Text: text}}}})
	})
	if err != nil {
		return err
	}
	return stream.Send(&weirv1.CompleteResponse{Event: &weirv1.CompleteResponse_Completed{Completed: &weirv1.Completed{
		Status: weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE,
	}}})
}

// askSSE asks a server of OpenAI's dialect as a plain client does.
type askSSE struct {
	http *http.Client
	url  string
}

func newAskSSE(base string) *askSSE {
	return &askSSE{
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}},
		url:  strings.TrimSuffix(base, "/") + "/chat/completions",
	}
}

// each asks and hands on every piece of the answer's text; an answer without its
// terminator is an error.
func (a *askSSE) each(ctx context.Context, prompt string, limit int, piece func(string) error) (err error) {
	body, err := json.Marshal(map[string]any{
		"model": "bench", "stream": true, "max_tokens": limit, "stream_options": map[string]bool{"include_usage": true},
		"messages": []map[string]string{{"role": "user", "content": prompt}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer bench")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // the status says enough where this fails
		return fmt.Errorf("%s: %s", resp.Status, said)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			_, err := io.Copy(io.Discard, resp.Body)
			return err
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal(data, &chunk); err != nil {
			return err
		}
		if len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			if err := piece(chunk.Choices[0].Delta.Content); err != nil {
				return err
			}
		}
	}
	return errors.Join(lines.Err(), errors.New("the stream ended without [DONE]"))
}

func (a *askSSE) ask(ctx context.Context, chunks int) (took, error) {
	c := newStopwatch(chunks)
	err := a.each(ctx, benchPrompt, chunks, func(text string) error {
		c.piece(text)
		return nil
	})
	return c.end(err)
}

// askRPC asks over gRPC.
type askRPC struct{ client weirv1.RouterServiceClient }

func askGRPC(addr string) (*askRPC, func() error, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return &askRPC{weirv1.NewRouterServiceClient(conn)}, conn.Close, nil
}

func benchRoute(chunks int) *weirv1.RouteRequest {
	return &weirv1.RouteRequest{Input: &weirv1.RouteRequest_Text{Text: benchPrompt}, MaxOutputTokens: int64(chunks)}
}

func (a *askRPC) route(ctx context.Context, chunks int) (took, error) {
	start := time.Now()
	_, err := a.client.Route(ctx, benchRoute(chunks))
	return took{whole: time.Since(start)}, err
}

func (a *askRPC) complete(ctx context.Context, chunks int) (took, error) {
	c := newStopwatch(chunks)
	stream, err := a.client.Complete(ctx, &weirv1.CompleteRequest{Route: benchRoute(chunks)})
	if err != nil {
		return took{}, err
	}
	done := false
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !done {
				return took{}, errors.New("the stream ended without its last message")
			}
			return c.end(nil)
		}
		if err != nil {
			return took{}, err
		}
		if text := event.GetDelta().GetText(); text != "" {
			c.piece(text)
		}
		done = event.GetCompleted().GetStatus() == weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE
	}
}

// stopwatch takes the times of one answer and checks that all of it came.
type stopwatch struct {
	start       time.Time
	first       time.Duration
	bytes, want int
}

func newStopwatch(chunks int) *stopwatch {
	return &stopwatch{start: time.Now(), want: chunks * chunkBytes}
}

func (c *stopwatch) piece(text string) {
	if c.first == 0 {
		c.first = time.Since(c.start)
	}
	c.bytes += len(text)
}

func (c *stopwatch) end(err error) (took, error) {
	out := took{first: c.first, whole: time.Since(c.start)}
	if err == nil && c.bytes != c.want {
		err = fmt.Errorf("%d bytes of %d came", c.bytes, c.want)
	}
	return out, err
}
