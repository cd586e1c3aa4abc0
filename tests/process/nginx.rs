//! Behind nginx.
