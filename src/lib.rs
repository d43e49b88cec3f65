//! kafkeep
pub mod cli;
pub mod engine;
pub mod kafka;
pub mod policy;
pub mod record;
pub mod repository;
