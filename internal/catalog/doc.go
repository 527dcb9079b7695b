// Package catalog reads public price catalogs and compares them, and routing
// configs, with each other: which models are there, what changed, which prices
// of a config are out of date. It writes model entries in the config's format.
//
// It speaks to nobody: a catalog is a file that somebody fetched.
package catalog
