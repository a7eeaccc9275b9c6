//! The data sets that `wgrad data list` shows and `wgrad data get` fetches.
//!
//! Sizes and hashes were measured on good copies: Fashion-MNIST on Debian's package, tinyshakespeare on the file
//! itself. For MNIST and CIFAR-10 only the sizes and MD5s that their publishers and PyTorch's torchvision state are
//! known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::fetch::{FetchOptions, Fetched, Origin, Progress, RemoteFile, fetch, is_right};
use crate::pin::{Digest, Pin, Pinned};
use crate::spec::DataKind;

/// The environment variable that names the folder for fetched data.
pub const DATA_DIR_ENV: &str = "WGRAD_DATA";

/// A data set of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name on the command line and its folder in the data folder.
    pub name: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
    /// Its licence, to be shown before a download.
    pub licence: &'static str,
    /// Where it comes from.
    pub homepage: &'static str,
    /// The kind that a recipe's `[data]` names it by; `None` where it is only fetched, for use by other programs.
    pub kind: Option<DataKind>,
    /// Its files; none where it is built in.
    pub files: &'static [RemoteFile<'static>],
    /// The system package that holds it too.
    pub system: Option<SystemPackage>,
}

/// A data set as a Linux distribution's package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemPackage {
    /// The folder that it is installed to.
    pub folder: &'static str,
    /// The package's name in Debian.
    pub debian: &'static str,
}

/// All data sets, built-in ones first.
pub static CATALOG: &[Entry] = &[
    Entry {
        name: "digits",
        description: "handwritten digits, 1,797 images of 8×8, 10 classes; built in",
        licence: "CC BY 4.0, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        homepage: "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        kind: Some(DataKind::Digits),
        files: &[],
        system: None,
    },
    Entry {
        name: "fashion-mnist",
        description: "articles of clothing, 60,000 + 10,000 images of 28×28, 10 classes",
        licence: "MIT, Zalando SE, 2017",
        homepage: "https://github.com/zalandoresearch/fashion-mnist",
        kind: Some(DataKind::FashionMnist),
        files: &[
            fashion_mnist!(
                "train-images-idx3-ubyte.gz",
                47_040_016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
            ),
            fashion_mnist!(
                "train-labels-idx1-ubyte.gz",
                60_008,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
            ),
            fashion_mnist!(
                "t10k-images-idx3-ubyte.gz",
                7_840_016,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
            ),
            fashion_mnist!(
                "t10k-labels-idx1-ubyte.gz",
                10_008,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
            ),
        ],
        system: Some(SystemPackage {
            folder: "/usr/share/datasets/fashion-mnist",
            debian: "dataset-fashion-mnist",
        }),
    },
    Entry {
        name: "mnist",
        description: "handwritten digits, 60,000 + 10,000 images of 28×28, 10 classes",
        licence: "CC BY-SA 3.0, Y. LeCun and C. Cortes",
        homepage: "http://yann.lecun.com/exdb/mnist/",
        kind: Some(DataKind::Mnist),
        files: &[
            mnist!("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            mnist!("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            mnist!("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            mnist!("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
        system: None,
    },
    Entry {
        name: "tinyshakespeare",
        description: "40,000 lines of Shakespeare's plays, 1,115,394 characters; download only",
        licence: "the text is in the public domain; compiled by A. Karpathy for char-rnn",
        homepage: "https://github.com/karpathy/char-rnn",
        kind: None,
        files: &[RemoteFile {
            name: "tinyshakespeare.txt",
            mirror: "shakespeare/tinyshakespeare.txt",
            urls: &[
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            ],
            pin: Pin {
                of: Pinned::File,
                size: Some(1_115_394),
                digest: Digest::Sha256("86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
            },
        }],
        system: None,
    },
    Entry {
        name: "cifar-10",
        description: "photographs, 50,000 + 10,000 colour images of 32×32, 10 classes, binary; download only",
        licence: "none stated; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        homepage: "https://www.cs.toronto.edu/~kriz/cifar.html",
        kind: None,
        files: &[RemoteFile {
            name: "cifar-10-binary.tar.gz",
            mirror: "cifar10/cifar-10-binary.tar.gz",
            urls: &["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
            pin: Pin {
                of: Pinned::File,
                size: Some(170_052_171),
                digest: Digest::Md5("c32a1d4ab5d03f1284b67883e8d87530"),
            },
        }],
        system: None,
    },
];

impl Entry {
    /// The data set of that name.
    ///
    /// # Errors
    /// [`DataError::Unknown`], with the names there are.
    pub fn named(name: &str) -> Result<&'static Self, DataError> {
        CATALOG.iter().find(|entry| entry.name == name).ok_or_else(|| DataError::Unknown {
            name: name.to_owned(),
            known: CATALOG.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether the data set is part of the program and needs no files.
    pub fn is_built_in(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes to download, where all of them are pinned.
    pub fn download_size(&self) -> Option<u64> {
        self.files.iter().map(|file| file.pin.file_size()).sum()
    }

    /// The folders where the files may lie, in the order in which they are tried: the system's, then `data_dir`'s.
    pub fn folders(&self, data_dir: &Path) -> Vec<PathBuf> {
        let system = self.system.map(|package| PathBuf::from(package.folder));
        system.into_iter().chain([data_dir.join(self.name)]).collect()
    }

    /// The first of [`Entry::folders`] that holds every file, packed or unpacked. Looks at names only.
    pub fn find(&self, data_dir: &Path) -> Option<PathBuf> {
        find_in(self.files, self.folders(data_dir))
    }

    /// Gets every file that is not in its place yet, into `data_dir/NAME`; nothing for a built-in data set.
    ///
    /// Where the system package is installed and whole, its files are used and nothing is fetched.
    ///
    /// # Errors
    /// Those of [`fetch()`].
    pub fn get(
        &self,
        data_dir: &Path,
        options: &FetchOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<Fetched>, DataError> {
        if let Some(package) = self.system {
            let path = |file: &RemoteFile<'_>| Path::new(package.folder).join(file.name);
            if self.files.iter().all(|file| is_right(&path(file), &file.pin)) {
                let there = |file| Fetched { path: path(file), origin: Origin::AlreadyThere };
                return Ok(self.files.iter().map(there).collect());
            }
        }
        let folder = data_dir.join(self.name);
        self.files.iter().map(|file| fetch(file, &folder, options, progress)).collect()
    }
}

/// The first folder that holds every file, packed or unpacked.
pub(crate) fn find_in(files: &[RemoteFile<'_>], folders: Vec<PathBuf>) -> Option<PathBuf> {
    let whole = |folder: &PathBuf| files.iter().all(|file| find_file(folder, file.name).is_some());
    folders.into_iter().find(whole)
}

/// The path of `name` in `folder`, or of the same file without `.gz`.
pub(crate) fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let names = [Some(name), name.strip_suffix(".gz")];
    names.into_iter().flatten().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// The folder for fetched data: `WGRAD_DATA`, else the platform's cache folder.
///
/// That is `%LOCALAPPDATA%\wgrad` on Windows, `$XDG_CACHE_HOME/wgrad` or `~/.cache/wgrad` elsewhere. It need not exist.
///
/// # Errors
/// [`DataError::NoDataDir`] where none of these is set.
pub fn data_dir() -> Result<PathBuf, DataError> {
    data_dir_from(|name| std::env::var_os(name))
}

fn data_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, DataError> {
    // An empty variable counts as unset, as the XDG specification asks.
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let platform = || {
        if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else {
            // The specification also asks to ignore a relative folder.
            folder("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        }
    };
    folder(DATA_DIR_ENV).or_else(|| platform().map(|path| path.join("wgrad"))).ok_or(DataError::NoDataDir)
}

/// A file of Fashion-MNIST. What it unpacks to is pinned: Debian's package and the publisher pack it differently.
macro_rules! fashion_mnist {
    ($name:literal, $size:literal, $sha256:literal) => {
        RemoteFile {
            name: $name,
            mirror: concat!("fashion-mnist/", $name),
            urls: &[
                concat!(
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                    $name
                ),
                concat!("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", $name),
            ],
            pin: Pin { of: Pinned::Unpacked, size: Some($size), digest: Digest::Sha256($sha256) },
        }
    };
}
use fashion_mnist;

/// A file of MNIST.
macro_rules! mnist {
    ($name:literal, $size:literal, $md5:literal) => {
        RemoteFile {
            name: $name,
            mirror: concat!("mnist/", $name),
            urls: &[
                concat!("https://ossci-datasets.s3.amazonaws.com/mnist/", $name),
                concat!("https://storage.googleapis.com/cvdf-datasets/mnist/", $name),
            ],
            pin: Pin { of: Pinned::File, size: Some($size), digest: Digest::Md5($md5) },
        }
    };
}
use mnist;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_is_complete() {
        let names: BTreeSet<_> = CATALOG.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        for entry in CATALOG {
            assert_eq!(Entry::named(entry.name).unwrap(), entry);
            assert!(!entry.description.is_empty() && !entry.licence.is_empty(), "{}", entry.name);
            assert!(entry.homepage.starts_with("http"), "{}", entry.name);
            assert!(entry.kind.is_none_or(|kind| kind.name() == entry.name), "{}", entry.name);
            assert_eq!(entry.description.contains("download only"), entry.kind.is_none(), "{}", entry.name);
            for file in entry.files {
                assert!(!file.urls.is_empty() && file.urls.iter().all(|url| url.starts_with("http")));
                assert!(file.mirror.ends_with(file.name), "{}", file.mirror);
                let (digest, digits) = match file.pin.digest {
                    Digest::Md5(digest) => (digest, 32),
                    Digest::Sha256(digest) => (digest, 64),
                };
                assert_eq!(digest.len(), digits, "{}", file.name);
                assert!(digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{digest}");
                // An unencrypted address is only for what a good hash protects.
                let plain = file.urls.iter().any(|url| url.starts_with("http:"));
                assert!(!plain || matches!(file.pin.digest, Digest::Sha256(_)), "{}", file.name);
            }
        }
        let error = Entry::named("imagenet").unwrap_err().to_string();
        assert!(error.contains("imagenet") && error.contains("fashion-mnist"), "{error}");
    }

    #[test]
    fn every_kind_but_csv_is_in_the_catalogue() {
        for kind in DataKind::ALL {
            assert_eq!(CATALOG.iter().any(|e| e.kind == Some(*kind)), *kind != DataKind::Csv, "{kind:?}");
        }
    }

    #[test]
    fn a_folder_counts_only_if_every_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::named("mnist").unwrap();
        let place = folder.path().join("mnist");
        std::fs::create_dir(&place).unwrap();
        for (i, file) in entry.files.iter().enumerate() {
            assert_eq!(entry.find(folder.path()), None, "after {i} files");
            let name = if i % 2 == 0 { file.name } else { file.name.strip_suffix(".gz").unwrap() };
            std::fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(entry.find(folder.path()), Some(place));
        assert_eq!((entry.download_size(), entry.is_built_in()), (Some(11_594_722), false));
        assert!(Entry::named("digits").unwrap().is_built_in());
    }

    #[test]
    #[cfg(not(windows))]
    fn the_data_folder_follows_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            data_dir_from(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
        };
        let all = with(&[("WGRAD_DATA", "d"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(all.unwrap(), Path::new("d"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/wgrad"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]).unwrap(), Path::new("/h/.cache/wgrad"));
        assert_eq!(with(&[("WGRAD_DATA", ""), ("HOME", "/h")]).unwrap(), Path::new("/h/.cache/wgrad"));
        assert!(matches!(with(&[]), Err(DataError::NoDataDir)));
    }
}
