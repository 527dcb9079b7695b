package onnx

// Manifest is manifest.json: what a bundle holds and what its numbers mean.
// models/README.md is the contract of every field. Treat it as read-only.
type Manifest struct {
	// Schema is the version of the contract: 1.
	Schema      int    `json:"schema" want:"required"`
	Name        string `json:"name" want:"required"`
	Version     string `json:"version" want:"required"`
	Description string `json:"description"`
	License     string `json:"license"`
	// Files are the files of the bundle by name, manifest.json left out.
	Files      map[string]File `json:"files" want:"required"`
	References References      `json:"references" want:"required"`
	// Domains are the labels of the graph's domain output, in its order.
	Domains []string `json:"domains"`
	Lanes   Lanes    `json:"lanes" want:"required"`
	// Cascade is there exactly when Lanes.Base is.
	Cascade *Cascade `json:"cascade"`
	// Probes names the file with the golden probes.
	Probes     string      `json:"probes" want:"required"`
	Provenance *Provenance `json:"provenance"`

	// Digest is the bundle's identity: "sha256:" and the digest of manifest.json in
	// hex. It is computed, not read.
	Digest string `json:"-"`
}

// File is what a file must be.
type File struct {
	// SHA256 is the digest, 64 lower-case hex digits.
	SHA256 string `json:"sha256" want:"required"`
	Bytes  int64  `json:"bytes" want:"required"`
}

// References names the two models whose chances of a good answer the qualities are.
type References struct {
	Efficient       string `json:"efficient" want:"required"`
	HighPerformance string `json:"high_performance" want:"required"`
}

// Lanes are the graphs of a bundle: the fast one, and perhaps a base one.
type Lanes struct {
	Fast *Lane `json:"fast" want:"required"`
	Base *Lane `json:"base"`
}

// Lane is one graph with all that decides its scores.
type Lane struct {
	// Graph and Tokenizer name files of the bundle.
	Graph         string        `json:"graph" want:"required"`
	Tokenizer     string        `json:"tokenizer" want:"required"`
	SpecialTokens SpecialTokens `json:"special_tokens"`
	Inputs        Inputs        `json:"inputs" want:"required"`
	// ShapeVersion is the version of the shape vector, where Inputs.Shape is named.
	ShapeVersion int     `json:"shape_version"`
	Outputs      Outputs `json:"outputs" want:"required"`
	// HighFromEfficient makes up q_high, for a graph with one complexity logit.
	HighFromEfficient *Line              `json:"high_from_efficient"`
	Window            Window             `json:"window" want:"required"`
	Calibration       Calibration        `json:"calibration" want:"required"`
	OutputTokens      OutputTokens       `json:"output_tokens" want:"required"`
	OOD               *OutOfDistribution `json:"ood"`
	// Tolerance is how far a probe's outputs may lie from the recorded ones, by
	// CPU family; "default" is always there.
	Tolerance map[string]float64 `json:"tolerance" want:"required"`
}

// SpecialTokens are the ids that the tokenizer puts around every text.
type SpecialTokens struct {
	Prefix []int64 `json:"prefix"`
	Suffix []int64 `json:"suffix"`
}

// Inputs are the names of the graph's inputs; "" for one that it does not have.
type Inputs struct {
	InputIDs      string `json:"input_ids" want:"required"`
	AttentionMask string `json:"attention_mask"`
	TokenTypeIDs  string `json:"token_type_ids"`
	Shape         string `json:"shape"`
}

// Outputs are the graph's outputs: the two qualities, or Complexity alone.
type Outputs struct {
	QualityEfficient *Output `json:"quality_efficient"`
	QualityHigh      *Output `json:"quality_high"`
	Complexity       *Output `json:"complexity"`
	Domain           *Output `json:"domain"`
	OutputTokens     *Output `json:"output_tokens"`
	OOD              *Output `json:"ood"`
}

// Output says how one number comes out of a graph's output.
type Output struct {
	Name string `json:"name" want:"required"`
	// Index says which value of a vector counts; nil for an output of one value.
	Index *int `json:"index"`
	// MinusIndex says which other value is subtracted: with Index, the logit of a
	// two-class softmax.
	MinusIndex *int `json:"minus_index"`
	// Probability says that the value is a probability, whose logit is taken.
	Probability bool `json:"probability"`
	// Negate turns the sign of the logit.
	Negate bool `json:"negate"`
}

// Line is the logit of q_high, from that of q_efficient: A + B*x.
type Line struct {
	A float64 `json:"a" want:"required"`
	B float64 `json:"b" want:"required"`
}

// Window is how much of a text the graph sees.
type Window struct {
	HeadTokens int `json:"head_tokens" want:"required"`
	TailTokens int `json:"tail_tokens" want:"required"`
	HeadBytes  int `json:"head_bytes" want:"required"`
	TailBytes  int `json:"tail_bytes" want:"required"`
}

// Calibration are the curves from the graph's logits to calibrated ones.
type Calibration struct {
	QualityEfficient *CurveKnots `json:"quality_efficient" want:"required"`
	QualityHigh      *CurveKnots `json:"quality_high"`
}

// CurveKnots are the knots of one calibration curve.
type CurveKnots struct {
	Knots []Knot `json:"knots" want:"required"`
}

// Knot is a point of a calibration curve; see classifier.Knot.
type Knot struct {
	X    float64 `json:"x" want:"required"`
	Y    float64 `json:"y" want:"required"`
	Low  float64 `json:"lo" want:"required"`
	High float64 `json:"hi" want:"required"`
}

// OutputTokens makes lengths of the graph's output_tokens, a natural logarithm.
type OutputTokens struct {
	// P90Offset is added for the 90th percentile.
	P90Offset float64 `json:"p90_offset" want:"required"`
	// Default is the expected length where the graph has no such output.
	Default float64 `json:"default" want:"required"`
	// Min and Max clamp both lengths, in tokens.
	Min float64 `json:"min" want:"required"`
	Max float64 `json:"max" want:"required"`
}

// OutOfDistribution says from which distance on a prompt is unlike the training data.
type OutOfDistribution struct {
	Threshold float64 `json:"threshold" want:"required"`
}

// Cascade says where the base lane is asked: where the fast lane's gain lies in the
// band, ends included, and where its likeliest domain is less likely than DomainBelow.
type Cascade struct {
	Low         float64 `json:"low" want:"required"`
	High        float64 `json:"high" want:"required"`
	DomainBelow float64 `json:"domain_below,omitempty"`
}

// Provenance says where a bundle comes from.
type Provenance struct {
	TrainedOn []string `json:"trained_on"`
	Command   string   `json:"command"`
	Seed      int64    `json:"seed"`
	Notes     string   `json:"notes"`
}
