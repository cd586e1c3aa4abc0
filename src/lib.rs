//! skeleton
pub mod web;
