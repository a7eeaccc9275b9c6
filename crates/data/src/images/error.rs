//! What can be wrong with images and with what says which classes they belong to.

use std::path::PathBuf;

use super::EXTENSIONS;

/// What is wrong with a folder of images, or with the table of its labels. Lines count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImagesProblem {
    /// Files that cannot be decoded.
    #[error(": {} cannot be read; replace or remove {}:{}", count(failures.len(), "image", "images"),
        if failures.len() == 1 { "it" } else { "them" }, listed(failures, |(path, reason)| format!("{}: {reason}", path.display())))]
    Corrupt {
        /// Each file and why, in the order of the data.
        failures: Vec<(PathBuf, String)>,
    },
    /// The folder for training is missing.
    #[error(
        ": there is no folder `train`; expected train/CLASS/IMAGE, and likewise `validation` and `test` if there are any"
    )]
    NoTrain,
    /// Two folders for the same part.
    #[error(": both `{0}` and `{1}` are there; remove one")]
    TwoFolders(&'static str, &'static str),
    /// A part has no class folders.
    #[error(": there are no folders of classes; expected a folder of images for each class")]
    NoClasses,
    /// A folder of a class has no image.
    #[error(": the class has no image; add some that end in {}, or remove the folder", EXTENSIONS.join(", "))]
    EmptyClass,
    /// A part has other classes than the training part.
    #[error(
        ": the classes differ from those of `train`: {}; every part needs the same folders",
        differences(missing, extra)
    )]
    Classes {
        /// Those that only the training part has.
        missing: Vec<String>,
        /// Those that only this part has.
        extra: Vec<String>,
    },
    /// A class was chosen that the data does not have.
    #[error(": there is no class `{class}`; known are {known}")]
    UnknownClass {
        /// The class.
        class: String,
        /// Those there are, separated by commas.
        known: String,
    },
    /// No image at all to train on.
    #[error(": there are no images for training")]
    NoImages,
    /// A column of the table that is not there.
    #[error(": there is no column `{column}` for the {role}; the header has {known}")]
    NoColumn {
        /// What the column is for.
        role: &'static str,
        /// The name asked for.
        column: String,
        /// The names in the header, separated by commas.
        known: String,
    },
    /// The table names images that are not there.
    #[error(": {} not there, looked in {}:{}", count(missing.len(), "image is", "images are"), folder.display(),
        listed(missing, |(line, name)| format!("line {line}: {name}")))]
    Missing {
        /// Where they should be.
        folder: PathBuf,
        /// The line and the name of each.
        missing: Vec<(u64, String)>,
    },
    /// The table names an image twice.
    #[error(":{line}: `{name}` is in line {first} already; each image may be named once")]
    Twice {
        /// The later line.
        line: u64,
        /// The earlier line.
        first: u64,
        /// The image.
        name: String,
    },
    /// A part with an unknown name.
    #[error(":{line}: the part is `{found}`, expected train, validation, val or test")]
    UnknownPart {
        /// The line.
        line: u64,
        /// What it says.
        found: String,
    },
    /// An image for a model that takes something else.
    #[error(": an image, but {0} numbers are expected, which are no square of one or three channels")]
    Width(usize),
    /// A class that no training image has.
    #[error(": the class `{0}` has no image for training")]
    Untrained(String),
}

/// How many of a long list a message shows.
const SHOWN: usize = 3;

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn listed<T>(items: &[T], line: impl Fn(&T) -> String) -> String {
    let mut text: String = items.iter().take(SHOWN).map(|item| format!("\n  {}", line(item))).collect();
    if items.len() > SHOWN {
        text += &format!("\n  and {} more", items.len() - SHOWN);
    }
    text
}

fn differences(missing: &[String], extra: &[String]) -> String {
    let part = |words: &str, classes: &[String]| {
        (!classes.is_empty()).then(|| format!("{words} {}", classes.join(", ")))
    };
    let parts = [part("without", missing), part("besides", extra)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
