//! Catalogue of the data sets for `wgrad data list` and `wgrad data get`.
//!
//! The sizes and hashes of Fashion-MNIST were measured on the files in Debian's package. Those of tinyshakespeare were
//! measured on the original file. For MNIST and CIFAR-10, the sizes and MD5 hashes of the published files are the
//! values given by the publishers and by torchvision.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, unpack};
pub use crate::environment::DATA_DIR_ENV;
use crate::error::DataError;
use crate::fetch::{FetchOptions, Fetched, Origin, Progress, RemoteFile, fetch, matches_pin};
use crate::pin::{Digest, Pin, Pinned};

/// Data set of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Name of the data set on the command line, and name of its subfolder in the data folder.
    pub name: &'static str,
    /// One-line description.
    pub description: &'static str,
    /// Licence of the data, shown before a download.
    pub licence: &'static str,
    /// URL of the web page of the data set.
    pub homepage: &'static str,
    /// Whether recipes can load the data set with `data.kind = NAME`. If not, the data set can only be fetched.
    pub is_recipe_kind: bool,
    /// Files to fetch. Empty if the data set is built in, or if it is fetched as an archive.
    pub files: &'static [RemoteFile<'static>],
    /// Archives with the same images, starting with the preferred one. Empty if the data set is not fetched as an
    /// archive.
    pub archives: &'static [Archive],
    /// System package that also contains the data set. `None` if there is no package.
    pub system: Option<SystemPackage>,
}

/// Package of a Linux distribution that contains a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemPackage {
    /// Folder that the package installs its files in.
    pub folder: &'static str,
    /// Name of the Debian package.
    pub debian: &'static str,
}

/// All data sets of the catalogue, starting with the built-in one.
pub static CATALOG: &[Entry] = &[
    Entry {
        name: "digits",
        description: "handwritten digits, 1,797 images of 8×8, 10 classes; built in",
        licence: "CC BY 4.0, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        homepage: "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        is_recipe_kind: true,
        files: &[],
        archives: &[],
        system: None,
    },
    Entry {
        name: "fashion-mnist",
        description: "articles of clothing, 60,000 + 10,000 images of 28×28, 10 classes",
        licence: "MIT, Zalando SE, 2017",
        homepage: "https://github.com/zalandoresearch/fashion-mnist",
        is_recipe_kind: true,
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
        is_recipe_kind: true,
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
        is_recipe_kind: false,
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
        is_recipe_kind: true,
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
            // The same images as JPEG files. This archive has a ninth of the size, but its pixels differ slightly.
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
        is_recipe_kind: true,
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
    /// Returns the data set with the given name.
    ///
    /// # Errors
    /// Returns [`DataError::Unknown`], which lists the known names, if no data set has this name.
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

    /// Total size of the download in bytes. Of several archives, only the preferred one counts. `None` if the size of
    /// a file is not known.
    pub fn download_size(&self) -> Option<u64> {
        let archive = self.archives.first().map(|archive| &archive.file);
        self.files.iter().chain(archive).map(|file| file.pin.file_size()).sum()
    }

    /// Returns the folders that are searched for the files, in this order: the folder of the system package, then
    /// `data_dir/NAME`.
    pub fn folders(&self, data_dir: &Path) -> Vec<PathBuf> {
        let system = self.system.map(|package| PathBuf::from(package.folder));
        system.into_iter().chain([data_dir.join(self.name)]).collect()
    }

    /// Returns the first folder of [`Entry::folders`] that contains every file of the data set. Each file may be
    /// stored with or without `.gz`. If the data set is an archive, returns the folder of the unpacked files. Only
    /// file names are checked, not contents. Returns `None` if no folder is complete.
    pub fn find(&self, data_dir: &Path) -> Option<PathBuf> {
        find_in(self, &self.folders(data_dir))
    }

    /// Fetches every missing file to `data_dir/NAME`. Does nothing for a built-in data set. An archive is unpacked and
    /// then deleted.
    ///
    /// If the system package is installed and complete, its files are used and nothing is fetched. If there are
    /// several archives, the first archive on the mirror is used. Without a mirror, the first archive that has a URL
    /// is used.
    ///
    /// # Errors
    /// Returns the errors of [`fetch()`]. Returns [`DataError::MirrorOnly`] if the data is only on mirrors and no
    /// mirror is set, and [`DataError::Archive`] if an archive cannot be unpacked.
    pub fn get(
        &self,
        data_dir: &Path,
        options: &FetchOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<Fetched>, DataError> {
        if let Some(package) = self.system {
            let path = |file: &RemoteFile<'_>| Path::new(package.folder).join(file.name);
            if self.files.iter().all(|file| matches_pin(&path(file), &file.pin)) {
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
            // No archive is on the mirror, so the first one is fetched. The fetch fails with an error that names this
            // file.
            (None, Some(first), Some(_)) => first,
            (None, first, _) => {
                let file = first.map_or(self.name, |archive| archive.file.name);
                return Err(DataError::MirrorOnly { dataset: self.name, file, homepage: self.homepage });
            }
        };
        let fetched = fetch(&archive.file, folder, options, progress)?;
        let target = folder.join(archive.folder);
        unpack(&fetched.path, &target)?;
        // A failure of the removal is ignored, since the archive is no longer needed.
        let _ = std::fs::remove_file(&fetched.path);
        Ok(Fetched { path: target, origin: fetched.origin })
    }
}

/// Returns the first folder that contains every file of a data set, with or without `.gz`. If the data set is an
/// archive, returns the folder of the unpacked files. Returns `None` if there is none.
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

/// Returns the path of the file `name` in `folder`. If it does not exist, returns the path of the unpacked file, whose
/// name has no `.gz`. Returns `None` if neither file exists.
pub(crate) fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let names = [Some(name), name.strip_suffix(".gz")];
    names.into_iter().flatten().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Returns the folder for fetched data. This is the value of `WGRAD_DATA`, or the platform's cache folder if
/// `WGRAD_DATA` is not set.
///
/// The cache folder is `%LOCALAPPDATA%\wgrad` on Windows, and `$XDG_CACHE_HOME/wgrad` or `~/.cache/wgrad` on other
/// systems. The returned folder need not exist.
///
/// # Errors
/// Returns [`DataError::NoDataDir`] if none of these variables is set.
pub fn data_dir() -> Result<PathBuf, DataError> {
    data_dir_from(|name| std::env::var_os(name))
}

fn data_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, DataError> {
    // An empty variable is treated as if it were not set, as the XDG specification requires.
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let platform = || {
        if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else {
            // The XDG specification also requires that a relative path is ignored.
            folder("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        }
    };
    folder(DATA_DIR_ENV).or_else(|| platform().map(|path| path.join("wgrad"))).ok_or(DataError::NoDataDir)
}

/// Describes a file of Fashion-MNIST. The hash applies to the unpacked content, since Debian and the publisher
/// compress the file differently.
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

/// Describes a file of MNIST. The hash applies to the compressed file.
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
    use crate::spec::Data;
    use std::collections::BTreeSet;

    #[test]
    fn entries_are_complete() {
        let names: BTreeSet<_> = CATALOG.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        for entry in CATALOG {
            assert_eq!(Entry::named(entry.name).unwrap(), entry);
            assert!(!entry.description.is_empty() && !entry.licence.is_empty(), "{}", entry.name);
            assert!(entry.homepage.starts_with("http"), "{}", entry.name);
            assert_eq!(entry.description.contains("download only"), !entry.is_recipe_kind, "{}", entry.name);
            assert_eq!(entry.name.parse::<Data>().is_ok(), entry.is_recipe_kind, "{}", entry.name);
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
                // The content of files with unencrypted URLs must be verified with a cryptographic hash.
                let plain = file.urls.iter().any(|url| url.starts_with("http:"));
                assert!(!plain || matches!(file.pin.digest, Digest::Sha256(_)), "{}", file.name);
            }
        }
        let error = Entry::named("imagenet").unwrap_err().to_string();
        assert!(error.contains("imagenet") && error.contains("fashion-mnist"), "{error}");
    }

    #[test]
    fn folder_is_found_only_with_all_files() {
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
    fn archive_is_found_after_unpacking() {
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
    fn mirror_only_data_names_the_mirror_option() {
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
    fn data_folder_follows_the_environment() {
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
