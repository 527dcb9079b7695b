package router

// FileConfigForTest lets tests hold the documentation against the decoded keys.
func FileConfigForTest() any { return fileConfig{} }

// LeastTokensForTest lets benchmarks measure the scan of a large text.
func LeastTokensForTest(text string) int64 { return leastTokens(text) }
