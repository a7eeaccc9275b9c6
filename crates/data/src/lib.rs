//! Data sets, splits and batch sampling for supervised learning.
//!
//! A [`DataSpec`] (the `[data]` table of a recipe) says which data; [`load`] turns it into [`Splits`]: training,
//! optional validation and test [`Dataset`]s, all in memory. [`Batches`] draws the training batches as indices,
//! [`Sequential`] those of an evaluation. [`catalog`] lists what `wgrad data get` can fetch, [`mod@fetch`] fetches it.
//!
//! This crate knows no device and no model: it hands out `f32` features, `u32` class indices or `f32` target values.
//!
//! ```
//! use wgrad_data::{Batches, DataKind, DataSpec, load};
//!
//! let splits = load(&DataSpec::from(DataKind::Digits))?;
//! assert_eq!((splits.train.len(), splits.test.len()), (1437, 360));
//! assert_eq!(splits.train.feature_shape(), [1, 8, 8]);
//!
//! let mut batches = Batches::new(splits.train.len(), 64, 0)?;
//! assert_eq!(batches.next_batch().indices.len(), 64);
//! # Ok::<(), wgrad_data::DataError>(())
//! ```

pub mod archive;
pub mod augment;
pub mod batches;
pub mod catalog;
pub mod cifar;
pub mod csv_file;
pub mod dataset;
pub mod digits;
mod error;
pub mod features;
pub mod fetch;
pub mod idx;
pub mod images;
mod load;
pub mod loader;
mod open;
mod part;
mod pin;
pub mod pixels;
pub mod spec;
pub mod split;
pub mod standardize;

pub use augment::Augment;
pub use batches::{Batch, Batches, EvalBatch, LoaderPosition, Sequential};
pub use catalog::data_dir;
pub use csv_file::{CsvOptions, Task, read_csv};
pub use dataset::{Dataset, Splits, Targets};
pub use error::{CsvProblem, DataError, FetchAttempt, FetchProblem, IdxProblem, InvalidDataset};
pub use features::read_features;
pub use fetch::{FetchOptions, Fetched, Origin, Progress, fetch};
pub use images::{Channels, ImageForm, ImagesProblem};
pub use load::{load, load_from};
pub use loader::{Loader, LoaderOptions, Prepared};
pub use pin::{Digest, Pin, Pinned};
pub use pixels::{ChannelStats, Pixels};
pub use spec::{DataKind, DataSpec, Normalize};
pub use standardize::Standardizer;
