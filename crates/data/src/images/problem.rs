//! Problems in images, and in the folders and tables that define their classes.

use std::path::PathBuf;

use super::form::EXTENSIONS;

/// Problem in a folder of images or in a table of labels. Line numbers start at 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImagesProblem {
    /// Files that cannot be decoded.
    #[error(": {} cannot be read; replace or remove {}:{}", count(failures.len(), "image", "images"),
        if failures.len() == 1 { "it" } else { "them" }, listed(failures, |(path, reason)| format!("{}: {reason}", path.display())))]
    Corrupt {
        /// Path of each file and the reason for the failure, in the order of the data.
        failures: Vec<(PathBuf, String)>,
    },
    /// A root folder without the folder `train`.
    #[error(
        ": no folder `train`; expected train/CLASS/IMAGE, and optionally `validation` and `test` in the same form"
    )]
    NoTrain,
    /// Two folders whose names denote the same split, such as `val` and `validation`.
    #[error(": both `{0}` and `{1}` exist; remove one")]
    TwoFolders(&'static str, &'static str),
    /// A split folder without class folders.
    #[error(": no class folders; expected a folder of images for each class")]
    NoClasses,
    /// A class folder without images.
    #[error(": no images; add files that end in {}, or remove the folder", EXTENSIONS.join(", "))]
    EmptyClass,
    /// A split whose classes differ from those of the training set.
    #[error(
        ": the classes differ from those of `train`: {}; every split needs the same folders",
        differences(missing, extra)
    )]
    Classes {
        /// Classes that only the training set has.
        missing: Vec<String>,
        /// Classes that only this split has.
        extra: Vec<String>,
    },
    /// A chosen class that the data does not have.
    #[error(": the class `{class}` does not exist; the classes are {known}")]
    UnknownClass {
        /// Chosen class.
        class: String,
        /// Classes of the data, separated by commas.
        known: String,
    },
    /// A data set without training images.
    #[error(": no training images; expected at least one")]
    NoImages,
    /// A column that the table does not have.
    #[error(": the column `{column}` for the {role} does not exist; the columns are {known}")]
    NoColumn {
        /// Purpose of the column: `images`, `labels` or `splits`.
        role: &'static str,
        /// Requested column name.
        column: String,
        /// Names in the header, separated by commas.
        known: String,
    },
    /// Images of the table that do not exist.
    #[error(": {} missing, looked in {}:{}", count(missing.len(), "image is", "images are"), folder.display(),
        listed(missing, |(line, name)| format!("line {line}: {name}")))]
    Missing {
        /// Folder that was searched.
        folder: PathBuf,
        /// Line in the table and name of each missing image.
        missing: Vec<(u64, String)>,
    },
    /// An image in two lines of the table.
    #[error(":{line}: `{name}` is already in line {first}; list each image once")]
    Twice {
        /// Line of the second occurrence.
        line: u64,
        /// Line of the first occurrence.
        first: u64,
        /// Name of the image.
        name: String,
    },
    /// An unknown split name in the table.
    #[error(":{line}: the split is `{found}`, expected train, validation, val or test")]
    UnknownSplit {
        /// Line of the table.
        line: u64,
        /// Text in the split column.
        found: String,
    },
    /// An image for a model whose input is not a square image. The value is the number of inputs of the model.
    #[error(
        ": the file is an image, but the model has {0} inputs, which is not the size of a square image with one or three \
         channels"
    )]
    Width(usize),
    /// A class without training images.
    #[error(": class `{0}` has no training images")]
    Untrained(String),
}

/// Maximum number of entries of a list in a message.
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
    let parts = [part("missing", missing), part("unexpected", extra)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
