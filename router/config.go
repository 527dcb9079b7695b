package router

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the default config
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed default.yaml
var defaultConfig []byte

// DefaultConfig is the config that serves when no file is given: real models of
// the three tiers, with prices that name their source and date.
func DefaultConfig() []byte { return bytes.Clone(defaultConfig) }

// Fault is one thing wrong in a config.
type Fault struct {
	// Source and Line say where; Line is 0 where no line is to blame.
	Source string
	Line   int
	// Path is the key, such as models[2].price.input.
	Path string
	// Problem says what is wrong and what to write instead.
	Problem string
}

// Error is file:line: path: problem.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Source)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// ConfigError is every fault of a config, in the order of its lines.
type ConfigError struct {
	Faults []*Fault
}

// Error lists the faults, a line each.
func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// ParseConfig reads a routing config, strictly: an unknown key, a wrong unit, an
// unknown model or a cycle of fallbacks is a fault, and all faults are reported
// at once in a *ConfigError. source names the text in faults. getenv and, for
// key files, the file system are asked only whether an upstream's key is there;
// keys are not read into the rules.
func ParseConfig(text []byte, source string, getenv func(string) string) (*Rules, error) {
	var file fileConfig
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	faults := decodeFaults(source, dec.Decode(&file))
	var rest any
	if err := dec.Decode(&rest); faults == nil && !errors.Is(err, io.EOF) {
		faults = append(faults, &Fault{Source: source, Problem: "holds more than one YAML document: keep one"})
	}
	b := &builder{source: source, lines: lineIndex(text), faults: faults}
	rules := b.build(&file, getenv)
	if len(b.faults) > 0 {
		sortFaults(b.faults)
		return nil, &ConfigError{Faults: b.faults}
	}
	sum := sha256.Sum256(text)
	rules.Digest = "sha256:" + hex.EncodeToString(sum[:])
	rules.Source, rules.Text = source, bytes.Clone(text)
	return rules, nil
}

// LoadConfig reads a config file; "" means the embedded default.
func LoadConfig(file string, getenv func(string) string) (*Rules, error) {
	if file == "" {
		return ParseConfig(DefaultConfig(), "embedded", getenv)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read config: %w: name a file that can be read, or none for the embedded config", err)
	}
	return ParseConfig(text, file, getenv)
}

// The file as it is written. Every field's meaning is in docs/config.md and
// docs/config.schema.json; a test holds the three together.
type fileConfig struct {
	Version       int            `yaml:"version"`
	DefaultPolicy string         `yaml:"default_policy"`
	Upstreams     []fileUpstream `yaml:"upstreams"`
	Models        []fileModel    `yaml:"models"`
	Policies      []filePolicy   `yaml:"policies"`
	Rules         []fileRule     `yaml:"rules"`
	Sessions      fileSessions   `yaml:"sessions"`
	Completion    fileCompletion `yaml:"completion"`
	Accounts      fileAccounts   `yaml:"accounts"`
}

type fileCompletion struct {
	MaxAttempts int          `yaml:"max_attempts"`
	RetryBudget *float64     `yaml:"retry_budget"`
	Timeouts    fileTimeouts `yaml:",inline"`
}

type fileTimeouts struct {
	Connect      string `yaml:"connect_timeout"`
	FirstContent string `yaml:"first_content_timeout"`
	Idle         string `yaml:"idle_timeout"`
	Attempt      string `yaml:"attempt_timeout"`
}

type fileUpstream struct {
	ID             string       `yaml:"id"`
	Dialect        string       `yaml:"dialect"`
	BaseURL        string       `yaml:"base_url"`
	KeyEnv         string       `yaml:"key_env"`
	KeyFile        string       `yaml:"key_file"`
	DataCollection string       `yaml:"data_collection"`
	Region         string       `yaml:"region"`
	AllowPrivate   bool         `yaml:"allow_private"`
	Proxy          string       `yaml:"proxy"`
	Timeouts       fileTimeouts `yaml:",inline"`
}

type fileModel struct {
	ID              string           `yaml:"id"`
	Tier            string           `yaml:"tier"`
	StandsInFor     string           `yaml:"stands_in_for"`
	Domains         []string         `yaml:"domains"`
	ContextWindow   int64            `yaml:"context_window"`
	MaxOutputTokens int64            `yaml:"max_output_tokens"`
	Modalities      []string         `yaml:"modalities"`
	Capabilities    []string         `yaml:"capabilities"`
	Price           filePrice        `yaml:"price"`
	TokenRatio      float64          `yaml:"token_ratio"`
	TTFT            string           `yaml:"ttft"`
	TokensPerSecond float64          `yaml:"tokens_per_second"`
	Quality         *fileQuality     `yaml:"quality"`
	Fallbacks       []string         `yaml:"fallbacks"`
	Strategy        string           `yaml:"strategy"`
	Deployments     []fileDeployment `yaml:"deployments"`
}

type filePrice struct {
	Input       string `yaml:"input"`
	CachedInput string `yaml:"cached_input"`
	CacheWrite  string `yaml:"cache_write"`
	Output      string `yaml:"output"`
	Reasoning   string `yaml:"reasoning"`
	PerRequest  string `yaml:"per_request"`
	Source      string `yaml:"source"`
	Date        string `yaml:"date"`
}

type fileQuality struct {
	Intercept float64            `yaml:"intercept"`
	Efficient float64            `yaml:"efficient"`
	High      float64            `yaml:"high"`
	Domains   map[string]float64 `yaml:"domains"`
	HalfWidth float64            `yaml:"half_width"`
	Evidence  string             `yaml:"evidence"`
}

type fileDeployment struct {
	Upstream string     `yaml:"upstream"`
	Name     string     `yaml:"name"`
	Price    *filePrice `yaml:"price"`

	Weight      *float64 `yaml:"weight"`
	RPM         int64    `yaml:"rpm"`
	TPM         int64    `yaml:"tpm"`
	MaxParallel int      `yaml:"max_parallel"`
}

type filePolicy struct {
	ID                      string         `yaml:"id"`
	Description             string         `yaml:"description"`
	MinQuality              *float64       `yaml:"min_quality"`
	MaxQualityGap           *float64       `yaml:"max_quality_gap"`
	MaxCost                 string         `yaml:"max_cost"`
	MaxOutputPrice          string         `yaml:"max_price_per_million_output_tokens"`
	MaxTTFT                 string         `yaml:"max_ttft"`
	Alpha                   *float64       `yaml:"alpha"`
	MinTier                 string         `yaml:"min_tier"`
	MaxTier                 string         `yaml:"max_tier"`
	AllowDowngrade          *bool          `yaml:"allow_downgrade"`
	UnscoredTier            string         `yaml:"unscored_tier"`
	SpecialistMinConfidence *float64       `yaml:"specialist_min_confidence"`
	SpecialistMinMargin     *float64       `yaml:"specialist_min_margin"`
	Promise                 string         `yaml:"promise"`
	Guarantee               *fileGuarantee `yaml:"guarantee"`
	AllowModels             []string       `yaml:"allow_models"`
	DenyModels              []string       `yaml:"deny_models"`
}
