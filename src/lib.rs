//! kafkeep
pub mod record; pub mod repository; pub mod kafka; pub mod engine; pub mod policy; pub mod cli;
