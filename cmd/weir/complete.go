package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/internal/server"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

type talkFlags struct {
	addr, policy, model, session, key string
	maxOutput                         int64
	maxCost                           string
	asQuiet                           bool
}

func (f *talkFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", server.DefaultListen, "the server, HOST:PORT or unix:PATH, with $WEIR_TOKEN as bearer token where one is set")
	flags.StringVar(&f.policy, "policy", "", "policy (default: the config's)")
	flags.StringVar(&f.model, "model", "", "use this model")
	flags.Int64Var(&f.maxOutput, "max-output-tokens", 0, "longest answer, in tokens; 0 for the model's limit")
	flags.StringVar(&f.maxCost, "max-cost", "", "most that a call may cost, such as $0.01")
	flags.BoolVarP(&f.asQuiet, "quiet", "q", false, "print the answer only, without the line about decision and cost")
}

func completeCommand(w world) *cobra.Command {
	f := &talkFlags{}
	cmd := &cobra.Command{
		Use:   `complete "your prompt"`,
		Short: "Route a prompt, call the model and print its answer as it comes",
		Long: `Complete sends a prompt to a running server, prints the answer as it comes, and says on a last line of standard error which model answered,
why, what it cost and what that saved. Without an argument, or with -, the prompt is read from standard input.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, "")
			if text == "" || text == "-" {
				raw, err := io.ReadAll(io.LimitReader(w.stdin, server.DefaultMessageBytes+1))
				if err != nil {
					return fmt.Errorf("read the prompt: %w", err)
				}
				text = strings.TrimSuffix(string(raw), "\n")
			}
			return f.with(cmd.Context(), w, func(ctx context.Context, c weirv1.RouterServiceClient) error {
				_, err := f.say(ctx, w, c, []*weirv1.Message{{Role: weirv1.Role_ROLE_USER, Text: text}})
				return err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.key, "idempotency-key", "", "a repeated key is answered with the first call's receipt and calls nobody")
	return cmd
}

func chatCommand(w world) *cobra.Command {
	f := &talkFlags{}
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "Talk to the models through the router, a line a turn",
		Long:  `Chat reads a line, prints the answer as it comes, and keeps the conversation for the next. Each turn is routed anew. An empty line or Ctrl-D ends it.`,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd.Context(), w, func(ctx context.Context, c weirv1.RouterServiceClient) error { return f.chat(ctx, w, c) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.session, "session", "", "session id, so that the router may keep a model whose cache is warm")
	return cmd
}

// with connects and calls.
func (f *talkFlags) with(ctx context.Context, w world, call func(context.Context, weirv1.RouterServiceClient) error) (err error) {
	if token := w.getenv("WEIR_TOKEN"); token != "" {
		if !loopback(f.addr) && !strings.HasPrefix(f.addr, "unix:") {
			return usageError("--addr %q is another machine, and this connection has no TLS: WEIR_TOKEN is not sent there; run it on the server, or tunnel", f.addr)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return usageError("--addr %q: %w", f.addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return call(ctx, weirv1.NewRouterServiceClient(conn))
}

// chat is one conversation.
func (f *talkFlags) chat(ctx context.Context, w world, c weirv1.RouterServiceClient) error {
	lines := readLines(w.stdin)
	var messages []*weirv1.Message
	for {
		fmt.Fprint(w.stderr, "> ")
		var line typed
		select {
		case <-ctx.Done(): // Ctrl-C at the prompt
			fmt.Fprintln(w.stderr)
			return nil
		case line = <-lines:
		}
		if line.err != nil {
			return fmt.Errorf("read a line: %w", line.err)
		}
		if strings.TrimSpace(line.text) == "" {
			fmt.Fprintln(w.stderr)
			return nil
		}
		turn := append(messages[:len(messages):len(messages)], &weirv1.Message{Role: weirv1.Role_ROLE_USER, Text: line.text})
		answer, err := f.say(ctx, w, c, turn)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			// The turn is left out: the next one does not build on half an answer.
			fmt.Fprintln(w.stderr, "weir:", err)
			continue
		}
		messages = append(turn, &weirv1.Message{Role: weirv1.Role_ROLE_ASSISTANT, Text: answer})
	}
}

// typed is a line, or why there is none; its zero value is the end.
type typed struct {
	text string
	err  error
}

// readLines reads ahead of the chat, a line at most. A read of a terminal cannot
// be interrupted, so Ctrl-C would be heard only after the next line; the one
// goroutine that is left waiting in it ends with the process.
func readLines(from io.Reader) <-chan typed {
	to := make(chan typed, 1)
	go func() {
		defer close(to)
		lines := bufio.NewScanner(from)
		lines.Buffer(nil, server.DefaultMessageBytes)
		for lines.Scan() {
			to <- typed{text: lines.Text()}
		}
		if err := lines.Err(); err != nil {
			to <- typed{err: err}
		}
	}()
	return to
}

// say sends the messages, prints what comes and returns the whole answer.
func (f *talkFlags) say(ctx context.Context, w world, c weirv1.RouterServiceClient, messages []*weirv1.Message) (string, error) {
	req := &weirv1.CompleteRequest{IdempotencyKey: f.key, Route: &weirv1.RouteRequest{
		Input:  &weirv1.RouteRequest_Chat{Chat: &weirv1.Chat{Messages: messages}},
		Policy: f.policy, Model: f.model, MaxOutputTokens: f.maxOutput, SessionId: f.session,
	}}
	if f.maxCost != "" {
		n, err := router.ParseUSD(f.maxCost)
		if err != nil {
			return "", usageError("--max-cost: %w", err)
		}
		nano := int64(n)
		req.Route.Limits = &weirv1.Limits{MaxCostNanoUsd: &nano}
	}
	stream, err := c.Complete(ctx, req)
	if err != nil {
		return "", f.problem(err)
	}
	var answer strings.Builder
	var decision *weirv1.Decision
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answer.String(), nil
		}
		if err != nil {
			return "", f.problem(err)
		}
		switch e := event.GetEvent().(type) {
		case *weirv1.CompleteResponse_Decision:
			decision = e.Decision
		case *weirv1.CompleteResponse_Delta:
			answer.WriteString(e.Delta.GetText())
			if _, err := io.WriteString(w.stdout, e.Delta.GetText()); err != nil {
				return "", fmt.Errorf("print: %w", err)
			}
		case *weirv1.CompleteResponse_Completed:
			if answer.Len() > 0 && !strings.HasSuffix(answer.String(), "\n") {
				fmt.Fprintln(w.stdout)
			}
			if !f.asQuiet {
				fmt.Fprintln(w.stderr, lastLine(decision, e.Completed))
			}
		}
	}
}

// problem says what went wrong, with what to do where no server listens.
func (f *talkFlags) problem(err error) error {
	st := status.Convert(err)
	if st.Code() == codes.Unavailable && len(st.Details()) == 0 {
		return fmt.Errorf("no server answers on %s: start one with `weir serve` in another terminal, where a provider's key is set (such as ANTHROPIC_API_KEY; "+
			"`make demo` needs none), or name another by --addr (%s)", f.addr, st.Message())
	}
	return errors.New(st.Message())
}

// lastLine says who answered, why, and what it cost and saved.
func lastLine(d *weirv1.Decision, c *weirv1.Completed) string {
	var parts []string
	last := len(c.GetAttempts()) - 1
	if last >= 0 {
		a := c.GetAttempts()[last]
		parts = append(parts, fmt.Sprintf("%s by %s", a.GetModel(), a.GetProvider()))
	}
	reason := strings.ToLower(strings.TrimPrefix(d.GetReason().String(), "REASON_"))
	parts = append(parts, strings.ReplaceAll(reason, "_", " "))
	if s := d.GetScores(); s != nil {
		parts = append(parts, fmt.Sprintf("complexity %.2f", s.GetComplexity()))
	}
	u := c.GetUsage()
	tokens := fmt.Sprintf("%d+%d tokens", u.GetInputTokens(), u.GetOutputTokens())
	if u.GetEstimated() {
		tokens += " (estimated)"
	}
	parts = append(parts, tokens)
	if c.CostNanoUsd != nil {
		parts = append(parts, router.NanoUSD(c.GetCostNanoUsd()).String())
	} else {
		parts = append(parts, "cost unknown")
	}
	if r := c.GetReceipt(); r.GetSavingsKnown() && r.GetBaseline() != "" {
		parts = append(parts, fmt.Sprintf("saved %s against %s", router.NanoUSD(r.GetSavingsNanoUsd()), r.GetBaseline()))
	}
	if last > 0 {
		parts = append(parts, fmt.Sprintf("%d attempts", last+1))
	}
	if last >= 0 {
		if t := c.GetAttempts()[last].GetTimeToFirstToken(); t != nil {
			parts = append(parts, "first token after "+t.AsDuration().Round(time.Millisecond).String())
		}
	}
	if c.GetStatus() != weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE {
		parts = append(parts, "INCOMPLETE: "+c.GetIncompleteReason())
	}
	return "[" + strings.Join(parts, "; ") + "]"
}
