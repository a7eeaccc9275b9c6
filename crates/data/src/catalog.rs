//! The data sets that `wgrad data list` shows and `wgrad data get` fetches.
//!
//! Sizes and hashes were measured on good copies: Fashion-MNIST on Debian's package, tinyshakespeare on the file
//! itself. For MNIST and CIFAR-10 only the sizes and MD5s that their publishers and PyTorch's torchvision state are
//! known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, unpack};
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
    /// Its files; none where it is built in or comes in an archive.
    pub files: &'static [RemoteFile<'static>],
    /// The archives that it comes in, the best first; one of them is enough.
    pub archives: &'static [Archive],
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
        archives: &[],
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
        archives: &[],
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
        archives: &[],
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
        archives: &[],
        system: None,
    },
    Entry {
        name: "cifar-10",
        description: "photographs, 50,000 + 10,000 colour images of 32×32, 10 classes",
        licence: "none stated; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        homepage: "https://www.cs.toronto.edu/~kriz/cifar.html",
        kind: Some(DataKind::Cifar10),
        files: &[],
        archives: &[
            Archive {
                file: RemoteFile {
                    name: "cifar-10-binary.tar.gz",
                    mirror: "cifar10/cifar-10-binary.tar.gz",
                    urls: &["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
                    pin: Pin {
                        of: Pinned::File,
                        size: Some(170_052_171),
                        digest: Digest::Md5("c32a1d4ab5d03f1284b67883e8d87530"),
                    },
                },
                folder: "cifar-10-batches-bin",
            },
            // The same images as JPEG, a ninth of the size; not quite the same pixels.
            Archive {
                file: RemoteFile {
                    name: "cifar-10-images.tar.gz",
                    mirror: "cifar10/cifar-10-images.tar.gz",
                    urls: &[],
                    pin: Pin {
                        of: Pinned::File,
                        size: Some(19_634_101),
                        digest: Digest::Sha256(
                            "7a5ae11c0109112b3603977a3ba94d9667cf29298a2aa34ba636b812ff5b7ad9",
                        ),
                    },
                },
                folder: "cifar-10",
            },
        ],
        system: None,
    },
    Entry {
        name: "isic-2017",
        description: "skin lesions, 2,000 + 150 + 600 colour images of 256×256, 3 classes; from a mirror only",
        licence: "CC-0, International Skin Imaging Collaboration, ISIC challenge 2017; the labels of the test images \
                  were matched by the order of rows",
        homepage: "https://challenge.isic-archive.com/data/#2017",
        kind: Some(DataKind::Isic2017),
        files: &[],
        archives: &[Archive {
            file: RemoteFile {
                name: "isic-2017-256.tar.gz",
                mirror: "isic2017/isic-2017-256.tar.gz",
                urls: &[],
                pin: Pin {
                    of: Pinned::File,
                    size: Some(18_868_001),
                    digest: Digest::Sha256(
                        "6e1f34a006c261b477bbc04e44ec4152cda0a3702c5bd47ed38f722f91148b23",
                    ),
                },
            },
            folder: "isic-2017",
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
        self.files.is_empty() && self.archives.is_empty()
    }

    /// Bytes to download, where all of them are pinned.
    pub fn download_size(&self) -> Option<u64> {
        let archive = self.archives.first().map(|archive| &archive.file);
        self.files.iter().chain(archive).map(|file| file.pin.file_size()).sum()
    }

    /// The folders where the files may lie, in the order in which they are tried: the system's, then `data_dir`'s.
    pub fn folders(&self, data_dir: &Path) -> Vec<PathBuf> {
        let system = self.system.map(|package| PathBuf::from(package.folder));
        system.into_iter().chain([data_dir.join(self.name)]).collect()
    }

    /// The first of [`Entry::folders`] that holds every file, packed or unpacked, or the folder that its archive was
    /// unpacked to. Looks at names only.
    pub fn find(&self, data_dir: &Path) -> Option<PathBuf> {
        find_in(self, &self.folders(data_dir))
    }

    /// Gets every file that is not in its place yet, into `data_dir/NAME`; nothing for a built-in data set. An archive is
    /// unpacked, and is not kept.
    ///
    /// Where the system package is installed and whole, its files are used and nothing is fetched. From a mirror comes the
    /// first of the archives that it has.
    ///
    /// # Errors
    /// Those of [`fetch()`]; [`DataError::MirrorOnly`] where there is no mirror and nothing else has the data;
    /// [`DataError::Archive`] where an archive cannot be unpacked.
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
        if !self.archives.is_empty() {
            return self.get_archive(data_dir, &folder, options, progress).map(|fetched| vec![fetched]);
        }
        self.files.iter().map(|file| fetch(file, &folder, options, progress)).collect()
    }

    fn get_archive(
        &self,
        data_dir: &Path,
        folder: &Path,
        options: &FetchOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Fetched, DataError> {
        if let Some(path) = self.find(data_dir) {
            return Ok(Fetched { path, origin: Origin::AlreadyThere });
        }
        let has = |archive: &&Archive| match &options.mirror {
            Some(mirror) => archive.file.in_mirror(mirror).exists(),
            None => !archive.file.urls.is_empty(),
        };
        let archive = match (self.archives.iter().find(has), self.archives.first(), &options.mirror) {
            (Some(archive), ..) => archive,
            // It will say what the mirror lacks.
            (None, Some(first), Some(_)) => first,
            (None, first, _) => {
                let file = first.map_or(self.name, |archive| archive.file.name);
                return Err(DataError::MirrorOnly { dataset: self.name, file, homepage: self.homepage });
            }
        };
        let fetched = fetch(&archive.file, folder, options, progress)?;
        let target = folder.join(archive.folder);
        unpack(&fetched.path, &target)?;
        // It would only take its room twice; if it stays, it does no harm.
        let _ = std::fs::remove_file(&fetched.path);
        Ok(Fetched { path: target, origin: fetched.origin })
    }
}

/// The first folder that holds every file, packed or unpacked, or the unpacked archive in the first that has one.
pub(crate) fn find_in(entry: &Entry, folders: &[PathBuf]) -> Option<PathBuf> {
    if entry.archives.is_empty() {
        let whole = |folder: &&PathBuf| entry.files.iter().all(|file| find_file(folder, file.name).is_some());
        return folders.iter().find(whole).cloned();
    }
    let unpacked = |folder: &PathBuf| {
        entry.archives.iter().map(|archive| folder.join(archive.folder)).find(|path| path.is_dir())
    };
    folders.iter().find_map(unpacked)
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
            let archived = entry.archives.iter().map(|archive| &archive.file);
            let mirror_only = !entry.is_built_in()
                && entry.files.iter().chain(archived.clone()).all(|file| file.urls.is_empty());
            assert_eq!(entry.description.contains("from a mirror only"), mirror_only, "{}", entry.name);
            for file in entry.files.iter().chain(archived) {
                assert!(file.urls.iter().all(|url| url.starts_with("http")));
                assert!(!file.urls.is_empty() || !entry.archives.is_empty(), "{}", file.name);
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
    fn every_kind_but_the_users_own_files_is_in_the_catalogue() {
        let own = [DataKind::Csv, DataKind::ImageFolder, DataKind::ImageCsv];
        for kind in DataKind::ALL {
            assert_eq!(CATALOG.iter().any(|e| e.kind == Some(*kind)), !own.contains(kind), "{kind:?}");
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
    fn an_archive_counts_once_it_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::named("cifar-10").unwrap();
        std::fs::create_dir(folder.path().join("cifar-10")).unwrap();
        std::fs::write(folder.path().join("cifar-10/cifar-10-binary.tar.gz"), "").unwrap();
        assert_eq!((entry.find(folder.path()), entry.is_built_in()), (None, false));
        let unpacked = folder.path().join("cifar-10/cifar-10");
        std::fs::create_dir(&unpacked).unwrap();
        assert_eq!(entry.find(folder.path()), Some(unpacked));
        assert_eq!(entry.download_size(), Some(170_052_171));
    }

    #[test]
    fn what_only_mirrors_have_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::named("isic-2017").unwrap();
        let error = entry.get(folder.path(), &FetchOptions::default(), &mut |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DataError::MirrorOnly { .. }), "{text}");
        assert!(text.contains("--mirror") && text.contains("isic-archive.com"), "{text}");
        let options = FetchOptions { mirror: Some(folder.path().to_path_buf()), ..FetchOptions::default() };
        let error = entry.get(folder.path(), &options, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("isic-2017-256.tar.gz"), "{error}");
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
