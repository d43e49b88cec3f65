//! The files by which the port knows others and proves who it is.

/// Whether the files of each credential are what is used of it, by what it is: `api-key/NAME`, or `certificate`.
#[derive(Debug, Clone, Default)]
pub struct Credentials(pub Vec<(String, bool)>);
