package router

// FileConfigForTest lets tests hold the documentation against the decoded keys.
func FileConfigForTest() any { return fileConfig{} }
