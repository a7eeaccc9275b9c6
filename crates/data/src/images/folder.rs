//! Reader of images in folders named after their classes: `ROOT/SPLIT/CLASS/IMAGE`.

use std::path::{Path, PathBuf};

use super::{Files, ImageForm, ImageSplits, ImagesProblem, Split, choose, is_image, read_splits};
use crate::error::DataError;

/// Reads the images in `root/train/CLASS`, and in the folders `validation` (or `val`) and `test` if these folders
/// exist.
///
/// The classes are `classes` in the given order, or all class folders sorted by name if `classes` is `None`. Images
/// are sorted by name. Files without one of the [`EXTENSIONS`](super::EXTENSIONS) and names that begin with a dot are
/// ignored.
///
/// # Errors
/// Returns [`DataError::Images`] with the folder or file if there is no `train`, a class has no images, the splits
/// have different classes, a class is unknown, or an image cannot be decoded. Returns [`DataError::Io`] if a folder
/// cannot be read.
pub fn read_folder(
    root: &Path,
    form: ImageForm,
    classes: Option<&[String]>,
) -> Result<ImageSplits, DataError> {
    let mut folders = Vec::new();
    for split in Split::ALL {
        folders.push(split_folder(root, split)?);
    }
    let Some(train) = &folders[0] else { return Err(wrong(root, ImagesProblem::NoTrain)) };
    let known = names(train, Path::is_dir)?;
    if known.is_empty() {
        return Err(wrong(train, ImagesProblem::NoClasses));
    }
    let chosen = choose(&known, classes).map_err(|problem| wrong(train, problem))?;
    let mut splits = Vec::new();
    for folder in &folders {
        splits.push(match folder {
            Some(folder) => files(folder, &chosen, classes.is_some())?,
            None => Files::default(),
        });
    }
    let splits = <[Files; 3]>::try_from(splits).unwrap_or_default();
    read_splits(root, splits, &chosen, form)
}

fn wrong(path: &Path, problem: ImagesProblem) -> DataError {
    DataError::Images { path: path.to_path_buf(), problem }
}

fn split_folder(root: &Path, split: Split) -> Result<Option<PathBuf>, DataError> {
    let mut found = split.names().iter().filter(|name| root.join(name).is_dir());
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(wrong(root, ImagesProblem::TwoFolders(first, second))),
        (first, _) => Ok(first.map(|name| root.join(name))),
    }
}

/// Returns the sorted names of the entries of a folder for which `wanted` returns true, except names with a leading
/// dot.
fn names(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let entry = entry.map_err(DataError::io("read", folder))?;
        // A name that is not UTF-8 cannot be a class. An image with such a name causes an error when it is read.
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && wanted(&entry.path()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the files of one split. Other class folders are an error unless the user selected the classes (`picked`).
fn files(folder: &Path, classes: &[String], picked: bool) -> Result<Files, DataError> {
    let there = names(folder, Path::is_dir)?;
    let missing: Vec<String> = classes.iter().filter(|class| !there.contains(class)).cloned().collect();
    let extra: Vec<String> = there.into_iter().filter(|class| !picked && !classes.contains(class)).collect();
    if !missing.is_empty() || !extra.is_empty() {
        return Err(wrong(folder, ImagesProblem::Classes { missing, extra }));
    }
    let mut files = Files::default();
    for (label, class) in classes.iter().enumerate() {
        let folder = folder.join(class);
        let images = names(&folder, |path| is_image(path) && path.is_file())?;
        if images.is_empty() {
            return Err(wrong(&folder, ImagesProblem::EmptyClass));
        }
        files.labels.resize(files.labels.len() + images.len(), label as u32);
        files.paths.extend(images.into_iter().map(|name| folder.join(name)));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FORM, png};
    use super::*;
    use crate::dataset::{Dataset, Targets};

    fn folder(images: &[(&str, [u8; 3])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        images.iter().for_each(|(path, color)| png(&folder.path().join(path), *color));
        folder
    }

    const TREE: &[(&str, [u8; 3])] = &[
        ("train/cat/b.png", [20, 0, 0]),
        ("train/cat/a.PNG", [10, 0, 0]),
        ("train/ant/z.png", [0, 30, 0]),
        ("val/ant/v.png", [0, 40, 0]),
        ("val/cat/v.png", [50, 0, 0]),
        ("test/ant/t.png", [0, 60, 0]),
        ("test/cat/t.png", [70, 0, 0]),
    ];

    /// Returns the red and green values of the first pixel of each image, and the labels.
    fn pixels_and_labels(dataset: &Dataset) -> (Vec<(u8, u8)>, &[u32]) {
        let Targets::Classes { labels, .. } = dataset.targets() else { panic!("no classes") };
        let images = dataset.pixels().unwrap().bytes().chunks(12);
        (images.map(|image| (image[0], image[4])).collect(), labels)
    }

    fn problem(root: &Path, classes: Option<&[String]>) -> (PathBuf, ImagesProblem) {
        match read_folder(root, FORM, classes) {
            Err(DataError::Images { path, problem }) => {
                (path.strip_prefix(root).unwrap().to_path_buf(), problem)
            }
            other => panic!("expected an image problem, got {other:?}"),
        }
    }

    #[test]
    fn classes_and_images_are_sorted_and_every_split_is_read() {
        let folder = folder(TREE);
        std::fs::write(folder.path().join("train/cat/notes.txt"), "not an image").unwrap();
        std::fs::write(folder.path().join("train/cat/.hidden.png"), "not an image").unwrap();
        std::fs::create_dir(folder.path().join("train/.cache")).unwrap();
        let parts = read_folder(folder.path(), FORM, None).unwrap();
        assert_eq!(parts.train.feature_shape(), [3, 2, 2]);
        assert_eq!(pixels_and_labels(&parts.train), (vec![(0, 30), (10, 0), (20, 0)], &[0, 1, 1][..]));
        assert_eq!(pixels_and_labels(&parts.validation.unwrap()), (vec![(0, 40), (50, 0)], &[0, 1][..]));
        assert_eq!(pixels_and_labels(&parts.test.unwrap()), (vec![(0, 60), (70, 0)], &[0, 1][..]));
        let Targets::Classes { names, .. } = parts.train.targets() else { panic!("no classes") };
        assert_eq!(names, &["ant", "cat"]);
    }

    #[test]
    fn chosen_classes_keep_their_order() {
        let folder = folder(TREE);
        png(&folder.path().join("train/bee/a.png"), [1, 1, 1]);
        let chosen = ["cat".to_owned(), "ant".to_owned()];
        let parts = read_folder(folder.path(), FORM, Some(&chosen)).unwrap();
        assert_eq!(pixels_and_labels(&parts.train), (vec![(10, 0), (20, 0), (0, 30)], &[0, 0, 1][..]));
        let (path, problem) = problem(folder.path(), Some(&["dog".to_owned()]));
        let known = "ant, bee, cat".to_owned();
        assert_eq!(
            (path, problem),
            ("train".into(), ImagesProblem::UnknownClass { class: "dog".into(), known })
        );
    }

    #[test]
    fn missing_folders_and_images_are_reported() {
        let folder = folder(TREE);
        let root = folder.path();
        std::fs::create_dir(root.join("test/bee")).unwrap();
        std::fs::remove_dir_all(root.join("test/cat")).unwrap();
        let (path, found) = problem(root, None);
        let (missing, extra) = (vec!["cat".to_owned()], vec!["bee".to_owned()]);
        assert_eq!((path, &found), ("test".into(), &ImagesProblem::Classes { missing, extra }));
        assert!(found.to_string().contains("missing cat; unexpected bee"), "{found}");
        std::fs::remove_dir_all(root.join("test")).unwrap();
        assert_eq!(read_folder(root, FORM, None).unwrap().test, None);
        std::fs::create_dir(root.join("validation")).unwrap();
        assert_eq!(problem(root, None), ("".into(), ImagesProblem::TwoFolders("validation", "val")));
        std::fs::remove_dir(root.join("validation")).unwrap();
        std::fs::remove_file(root.join("train/ant/z.png")).unwrap();
        assert_eq!(problem(root, None), ("train/ant".into(), ImagesProblem::EmptyClass));
        std::fs::remove_dir_all(root.join("train/ant")).unwrap();
        std::fs::remove_dir_all(root.join("train/cat")).unwrap();
        assert_eq!(problem(root, None), ("train".into(), ImagesProblem::NoClasses));
        std::fs::remove_dir(root.join("train")).unwrap();
        assert_eq!(problem(root, None), ("".into(), ImagesProblem::NoTrain));
    }
}
