package server

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that frameCodec decodes with
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// frame is a message with what was wrong with it. gRPC answers a message that
// it cannot decode, most often for text that is not UTF-8, with INTERNAL and
// tells no interceptor; a frame always decodes, and its error goes the way of
// every other.
type frame struct {
	into any
	err  error
}

// frameCodec is the codec of protobuf, which also decodes frames.
type frameCodec struct{ encoding.CodecV2 }

func newFrameCodec() frameCodec { return frameCodec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	f.err = c.CodecV2.Unmarshal(data, f.into)
	return nil
}

// admit wraps a service's methods in what must come before the interceptor. A
// caller without a valid token is refused before its message is read, so that
// strangers cannot fill the memory. A message that cannot be decoded is the
// caller's fault, and goes through the interceptor, where it is counted and
// logged; for that the server needs frameCodec.
func admit(desc grpc.ServiceDesc, tokens *tokenFile) *grpc.ServiceDesc {
	methods := make([]grpc.MethodDesc, len(desc.Methods))
	copy(methods, desc.Methods)
	for i := range methods {
		next := methods[i].Handler
		method := "/" + desc.ServiceName + "/" + methods[i].MethodName
		methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			fault := authenticate(ctx, method, tokens, time.Now())
			decode := func(m any) error {
				if fault != nil {
					return nil
				}
				f := frame{into: m}
				if fault = dec(&f); fault == nil && f.err != nil {
					fault = malformedError(f.err)
				}
				return nil
			}
			return next(srv, ctx, decode, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				if fault != nil {
					h = func(context.Context, any) (any, error) { return nil, fault }
				}
				return interceptor(ctx, req, info, h)
			})
		}
	}
	desc.Methods = methods
	return &desc
}

// stageTimeout bounds StageBundle: an examination has a bound of its own below it.
const stageTimeout = 70 * time.Minute

// bound gives every call its deadline when its headers have come, so that a body
// that trickles in is bounded too. The context ends with
// the call: its parent is the call's own.
func (s *Server) bound(ctx context.Context, info *tap.Info) (context.Context, error) {
	if !strings.HasPrefix(info.FullMethodName, ownPrefix) {
		return ctx, nil
	}
	timeout := s.cfg.RequestTimeout
	switch info.FullMethodName {
	case weirv1.RouterService_Complete_FullMethodName:
		timeout = s.cfg.CompleteTimeout
	case weirv1.AdminService_StageBundle_FullMethodName:
		timeout = max(timeout, stageTimeout)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	context.AfterFunc(ctx, cancel)
	return bounded, nil
}

// malformedError does not repeat the decoder's words: only whether UTF-8 was
// the trouble.
func malformedError(err error) error {
	why := "the message is no valid protobuf of its type: send what the service's reflection describes"
	if strings.Contains(err.Error(), "UTF-8") {
		why = "a string field is not valid UTF-8: convert the text before it is sent"
	}
	f := &faults{}
	f.add("request", "%s", why)
	return f.err()
}
