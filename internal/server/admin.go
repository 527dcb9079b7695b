package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// adminService is AdminService. Where swap is nil, swapping bundles is not
// offered: those methods say so.
type adminService struct {
	weirv1.UnimplementedAdminServiceServer
	store *router.Store
	admin Admin
	swap  Swapper
}

const noSwap = "this server does not swap bundles while it runs: start it again with the other bundle"

func (s *adminService) serving() *weirv1.Bundle {
	snap := s.store.Acquire()
	defer snap.Release()
	info := snap.Classifier.Info()
	_, since := s.since()
	return &weirv1.Bundle{
		Name: info.Name, Version: info.Version, Digest: info.Digest,
		ReferenceEfficient: info.ReferenceEfficient, ReferenceHigh: info.ReferenceHigh,
		ServeTime: knownTime(since),
	}
}

// GetConfig implements AdminService.
func (s *adminService) GetConfig(context.Context, *weirv1.GetConfigRequest) (*weirv1.GetConfigResponse, error) {
	snap := s.store.Acquire()
	defer snap.Release()
	since, _ := s.since()
	return &weirv1.GetConfigResponse{
		Yaml: string(snap.Rules.Text), Digest: snap.Rules.Digest, Source: snap.Rules.Source, LoadTime: knownTime(since),
	}, nil
}

// ReloadConfig implements AdminService.
func (s *adminService) ReloadConfig(ctx context.Context, _ *weirv1.ReloadConfigRequest) (*weirv1.ReloadConfigResponse, error) {
	if s.admin == nil {
		return nil, &unavailableError{what: "this server reads its config only at the start: start it again"}
	}
	digest, changed, err := s.admin.ReloadConfig(ctx)
	if err != nil {
		return nil, err
	}
	return &weirv1.ReloadConfigResponse{Digest: digest, Changed: changed}, nil
}

func (s *adminService) since() (config, bundle time.Time) {
	if s.admin == nil {
		return config, bundle
	}
	return s.admin.Since()
}

func knownTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
