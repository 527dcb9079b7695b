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
	metricBundleEvents       = "weir.bundle.events"
	metricBundleRefusals     = "weir.bundle.refusals"
	metricBundleExam         = "weir.bundle.exam"
	metricBundleSettling     = "weir.bundle.settling"
	metricConfigReloads      = "weir.config.reloads"
	metricCompletions        = "weir.complete.calls"
	metricCompleteDuration   = "weir.complete.duration"
	metricAttempts           = "weir.complete.attempts"
	metricCost               = "weir.complete.cost.nano.usd"
	metricSavings            = "weir.complete.savings.nano.usd"
	metricUnpriced           = "weir.complete.unpriced"
	metricScoreCache         = "weir.complete.score.cache.hits"

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
	labelGate     = "gate"
	labelResult   = "result"

	spanComplete = "weir.complete"
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

// The names of OpenTelemetry's semantic conventions for generative AI, version
// 1.41: their status is development, so they are pinned here and change in one
// place. Nothing that holds text (messages, instructions, tool arguments) is
// ever set.
const (
	metricBilled    = "gen_ai.client.token.usage"
	metricOperation = "gen_ai.client.operation.duration"
	metricFirst     = "gen_ai.client.operation.time_to_first_chunk"

	attrOperation     = "gen_ai.operation.name"
	attrProvider      = "gen_ai.provider.name"
	attrRequestModel  = "gen_ai.request.model"
	attrBilledKind    = "gen_ai.token.type"
	attrBilledIn      = "gen_ai.usage.input_tokens"
	attrBilledOut     = "gen_ai.usage.output_tokens"
	attrCacheRead     = "gen_ai.usage.cache_read.input_tokens"
	attrCacheCreation = "gen_ai.usage.cache_creation.input_tokens"
	attrCost          = "weir.complete.cost.nano_usd"
	attrEstimated     = "weir.complete.usage.estimated"
	attrStatus        = "weir.complete.status"
	attrAttempts      = "weir.complete.attempts"

	operationChat = "chat"
	billedIn      = "input"
	billedOut     = "output"

	labelOutcome = "outcome"
	labelStatus  = "status"
)

// other stands for every label value beyond a metric's bound, unscored for what
// a prompt without scores has no value for.
const (
	other    = "_other"
	unscored = "unscored"
)

// prom is a name as Prometheus spells it.
func prom(name string) string { return strings.ReplaceAll(name, ".", "_") }
