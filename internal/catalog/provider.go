package catalog

import (
	"net/url"
	"strings"

	"github.com/weirhq/weir/router"
)

// provider is what is known of a name that public catalogs give a provider.
type provider struct {
	// name is the catalog's, prefix what stands before its models' own names.
	name, prefix string
	// The upstream that a config needs to call it.
	id, dialect, baseURL, keyEnv string
}

// providers are those whose API Weir can call with a key alone. The addresses
// are those of the providers' documentation.
func providers() []provider {
	return []provider{
		{"anthropic", "anthropic/", "anthropic", "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"},
		{"openai", "openai/", "openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY"},
		{"gemini", "gemini/", "google", "gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"},
		{"mistral", "mistral/", "mistral", "openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"},
		{"deepseek", "deepseek/", "deepseek", "openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"},
		{"moonshot", "moonshot/", "moonshot", "openai", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"},
		{"dashscope", "dashscope/", "alibaba", "openai", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"},
		{"meta", "meta/", "meta", "openai", "https://api.meta.ai/v1", "META_API_KEY"},
		{"xai", "xai/", "xai", "openai", "https://api.x.ai/v1", "XAI_API_KEY"},
		{"zai", "zai/", "zai", "openai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY"},
		{"minimax", "minimax/", "minimax", "openai", "https://api.minimax.io/v1", "MINIMAX_API_KEY"},
		{"cohere_chat", "", "cohere", "openai", "https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"},
		{"amazon_nova", "amazon-nova/", "amazon", "openai", "https://api.nova.amazon.com/v1", "AMAZON_NOVA_API_KEY"},
		{"together_ai", "together_ai/", "together", "openai", "https://api.together.ai/v1", "TOGETHERAI_API_KEY"},
		{"fireworks_ai", "fireworks_ai/", "fireworks", "openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"},
		{"groq", "groq/", "groq", "openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"},
		{"deepinfra", "deepinfra/", "deepinfra", "openai", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"},
		{"sambanova", "sambanova/", "sambanova", "openai", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"},
		{"novita", "novita/", "novita", "openai", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"},
		{"cerebras", "cerebras/", "cerebras", "openai", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"},
		{"openrouter", "openrouter/", "openrouter", "openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"},
		{"ollama", "ollama/", "ollama", "openai", "http://localhost:11434/v1", ""},
	}
}

// providerNamed returns what is known of a catalog's provider; of one that is
// not known, only its name.
func providerNamed(name string) provider {
	for _, p := range providers() {
		if p.name == name {
			return p
		}
	}
	return provider{name: name, prefix: name + "/", id: safeID(name), dialect: "openai", keyEnv: strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(safeID(name))) + "_API_KEY"}
}

// providerOf returns the catalogs' name for an upstream, by the host of its
// address; "" for one that no catalog knows.
func providerOf(u *router.Upstream) string {
	host := hostOf(u.BaseURL)
	for _, p := range providers() {
		if host != "" && hostOf(p.baseURL) == host {
			return p.name
		}
	}
	return ""
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// paid tells whether the provider bills for its models, so that a price of
// nothing is suspicious.
func (p provider) paid() bool { return p.name != "ollama" }

// safeID makes a text an id of a config.
func safeID(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("-_.:/", r):
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '-'
		}
	}, s)
	return s[:min(len(s), 100)]
}
