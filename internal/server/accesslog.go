package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// finished is a call that has ended.
type finished struct {
	id, method string
	start      time.Time
	resp       any
	err        error
}

// finish turns the error into a status, counts the call and writes its line.
func (s *Server) finish(ctx context.Context, f finished) (any, error) {
	code, wire := codes.OK, error(nil)
	if f.err != nil {
		st := statusOf(f.err, f.id)
		code, wire, f.resp = st.Code(), st.Err(), nil
	}
	took := time.Since(f.start)
	if s.cfg.Observer != nil {
		s.cfg.Observer.RPC(f.method, code, took)
	}
	s.log(ctx, f, code, took)
	return f.resp, wire
}

// log writes one wide line: ids, digests' model and figures; never a text, a
// metadata value, a session or a token. The cause of an internal fault is
// here, and only here, under the id that the caller got.
func (s *Server) log(ctx context.Context, f finished, code codes.Code, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case code == codes.Internal || code == codes.Unknown || code == codes.DataLoss:
		level = slog.LevelError
	case s.cfg.NoAccessLog:
		return
	case isInfrastructure(f.method):
		level = slog.LevelDebug
	}
	if !s.cfg.Logger.Enabled(ctx, level) {
		return
	}
	var buf [16]slog.Attr
	attrs := append(buf[:0],
		slog.String("method", f.method[strings.LastIndexByte(f.method, '/')+1:]),
		slog.String("code", code.String()),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("request_id", f.id),
		slog.String("peer", peerAddr(ctx)),
	)
	attrs = appendOutcome(attrs, f.resp, f.err, level)
	s.cfg.Logger.LogAttrs(ctx, level, "rpc", attrs...)
}

func appendOutcome(attrs []slog.Attr, resp any, err error, level slog.Level) []slog.Attr {
	if r, ok := resp.(*weirv1.RouteResponse); ok {
		d := r.GetDecision()
		return append(attrs,
			slog.String("decision_id", d.GetDecisionId()),
			slog.String("model", d.GetModel()),
			slog.String("tier", strings.TrimPrefix(d.GetTier().String(), "TIER_")),
			slog.String("reason", strings.TrimPrefix(d.GetReason().String(), "REASON_")),
			slog.String("policy", d.GetPolicy()),
		)
	}
	var invalid *invalidError
	var panicked *panicError
	switch {
	case err == nil:
	case errors.As(err, &invalid):
		attrs = append(attrs, slog.Any("fields", invalid.fields()))
	case errors.As(err, &panicked):
		attrs = append(attrs, slog.String("cause", panicked.Error()), slog.String("stack", string(panicked.stack)))
	case level == slog.LevelError:
		attrs = append(attrs, slog.String("cause", err.Error()))
	default:
		attrs = append(attrs, slog.String("error_reason", reasonOf(err)))
	}
	return attrs
}

func peerAddr(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}
