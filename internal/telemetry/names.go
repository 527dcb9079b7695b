package telemetry

import "strings"

// Every name of a metric, span or attribute, in one place. They are written the
// OpenTelemetry way; Prometheus gets them with underscores and its own suffixes.
const (
	metricDecisions          = "weir.route.decisions"
	metricModels             = "weir.route.models"
	metricRouteErrors        = "weir.route.errors"
	metricRouteDuration      = "weir.route.duration"
	metricClassifierDuration = "weir.classifier.duration"
	metricClassifierFailures = "weir.classifier.failures"
	metricTruncated          = "weir.route.truncated"
	metricOutOfDistribution  = "weir.route.ood"
	metricRPCDuration        = "weir.rpc.duration"
	metricBuild              = "weir.build.info"
	metricServing            = "weir.serving.info"

	labelTier     = "tier"
	labelReason   = "reason"
	labelDomain   = "domain"
	labelPolicy   = "policy"
	labelModel    = "model"
	labelKind     = "kind"
	labelLane     = "lane"
	labelCause    = "cause"
	labelMethod   = "method"
	labelCode     = "code"
	labelVersion  = "version"
	labelRevision = "revision"
	labelGo       = "go_version"
	labelBundle   = "bundle_digest"
	labelConfig   = "config_digest"

	spanRoute    = "weir.route"
	spanClassify = "weir.classify"
	spanDecide   = "weir.decide"

	attrDecision   = "weir.route.decision.id"
	attrModel      = "weir.route.model"
	attrTier       = "weir.route.tier"
	attrReason     = "weir.route.reason"
	attrPolicy     = "weir.route.policy"
	attrDomain     = "weir.route.domain"
	attrComplexity = "weir.route.complexity"
	attrTruncated  = "weir.route.truncated_tokens"
	attrOOD        = "weir.route.ood"
	attrConfig     = "weir.route.policy.version"
	attrBundle     = "weir.route.classifier.version"
	attrLane       = "weir.classifier.lane"
	attrInput      = "weir.classifier.input_tokens"
	attrCause      = "weir.classifier.failure"
	attrError      = "error.type"
)

// other stands for every label value beyond a metric's bound, unscored for what
// a prompt without scores has no value for.
const (
	other    = "_other"
	unscored = "unscored"
)

// prom is a name as Prometheus spells it.
func prom(name string) string { return strings.ReplaceAll(name, ".", "_") }
