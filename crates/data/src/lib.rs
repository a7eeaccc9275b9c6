//! Data sets, splits and batch sampling for supervised learning.
//!
//! [`Data`], the `[data]` section of a recipe, specifies the data. [`load`] turns it into [`Splits`]: training,
//! optional validation and test [`Dataset`]s, all in memory. [`Batches`] draws training batches, and [`Sequential`]
//! draws evaluation batches. Both return lists of example indices. [`catalog`] lists the data sets of `wgrad data
//! get`, and [`mod@fetch`] downloads them.
//!
//! This crate does not depend on devices or models. Its outputs are `f32` features, `u32` class indices and `f32`
//! target values.
//!
//! ```
//! use wgrad_data::{Batches, Data, PixelData, load};
//!
//! let splits = load(&Data::Digits(PixelData::default()))?;
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
mod environment;
mod error;
pub mod features;
pub mod fetch;
pub mod idx;
pub mod images;
mod load;
pub mod loader;
mod open;
mod partial_file;
mod pin;
pub mod pixels;
pub mod spec;
pub mod split;
mod splits;
pub mod standardize;

pub use augment::Augment;
pub use batches::{Batch, Batches, EvalBatch, LoaderPosition, Sequential};
pub use catalog::data_dir;
pub use cifar::CifarProblem;
pub use csv_file::{CsvOptions, CsvProblem, Task, read_csv};
pub use dataset::{Dataset, InvalidDataset, Targets};
pub use error::DataError;
pub use features::read_features;
pub use fetch::{FetchAttempt, FetchOptions, FetchProblem, Fetched, Origin, Progress, fetch};
pub use idx::IdxProblem;
pub use images::{Channels, ImageForm, ImagesProblem};
pub use load::{load, load_from};
pub use loader::{Loader, LoaderOptions, PreparedBatch};
pub use pin::{Digest, Pin, Pinned};
pub use pixels::{ChannelStats, Pixels};
pub use spec::{CsvData, Data, ImageCsvData, ImageFolderData, Images, IsicData, Normalize, PixelData};
pub use splits::Splits;
pub use standardize::Standardizer;
