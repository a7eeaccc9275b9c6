//! Environment variables that name folders.

/// Environment variable that names the folder for fetched data.
pub const DATA_DIR_ENV: &str = "WGRAD_DATA";

/// Environment variable that names a mirror folder, from which data files are copied instead of downloaded. This crate
/// does not read the variable: callers pass its value as [`FetchOptions::mirror`](crate::FetchOptions::mirror).
pub const MIRROR_ENV: &str = "WGRAD_DATA_MIRROR";
