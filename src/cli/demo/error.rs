//! How the demonstration fails.

/// Something in the demonstration did not go as it must.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// rdkafka, as broker, producer or consumer.
    #[error("rdkafka: {0}")]
    Rdkafka(#[from] rdkafka::error::KafkaError),
    /// The temporary directory.
    #[error("temporary directory: {0}")]
    Directory(#[from] std::io::Error),
    /// The outcome is wrong.
    #[error("{0}")]
    Wrong(String),
}
