//! HTTP: the page and its files, and everything that is not one.
